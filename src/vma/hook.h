// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The image's own programs that run at points of a session's life (vma.on_action.*, vma.on_state.*,
 * vma.on_provisioning.*, vma.on_printing.*): as root, with names and values in turns as arguments,
 * in a process group of their own; what they print goes to qvd-hooks.log below path.log. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "wire/vma.h"

struct hook;

struct hook_spec {
    const char *key;                  /* setting that names the program */
    const struct wire_params *params; /* all of these first; NULL: none */
    enum wire_x_state state;          /* qvd.vm.session.state; INVALID: not told */
    const char *name, *value;         /* last: "qvd.hook.on_action", "pre_connect" */
    const char *limit;                /* setting of its time limit; NULL: vma.hook.timeout */
    bool stays;                       /* nobody waits for it: it outlives this process */
};

/* err->code 0: it did well; else -EPERM and a text that names the hook, for the user to read. Not
 * called after hook_cancel(); the hook is freed. */
typedef void hook_done_fn(void *arg, const struct qvd_error *err);

/* 0: runs; 1: none is set (done is not called); negative with err: cannot be run. *ret_hook is for
 * cancelling. Texts of spec are not needed after the call. */
must_check int hook_run(struct ev_loop *loop, const struct conf *conf, const struct hook_spec *spec,
                        hook_done_fn *done, void *arg, struct hook **ret_hook,
                        struct qvd_error *err);
/* Kills its whole group. NULL-safe, always NULL. */
struct hook *hook_cancel(struct hook *h);
/* At the end of the process, before its loop goes: nobody reaps them any more. */
void hook_free_cancelled(void);
/* Lets it run on without us. NULL-safe, always NULL. */
struct hook *hook_forget(struct hook *h);
