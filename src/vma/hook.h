// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The image's own programs that run at points of a session's life (vma.on_action.*, vma.on_state.*,
 * vma.on_provisioning.*). Arguments are names and values in turns; output goes to the log. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "wire/vma.h"

struct hook;

/* err->code 0: it did well. Not called after hook_cancel(); the hook is freed. */
typedef void hook_done_fn(void *arg, const struct qvd_error *err);

/* Runs the program of setting key ("vma.on_action.pre-connect"), as root, with all params and then
 * name and value. 0: runs; 1: none is set (done is not called); negative with err. params may be
 * NULL. *ret_hook is for cancelling. */
must_check int hook_run(struct ev_loop *loop, const struct conf *conf, const char *key,
                        const struct wire_params *params, const char *name, const char *value,
                        hook_done_fn *done, void *arg, struct hook **ret_hook,
                        struct qvd_error *err);
/* Kills its whole group. NULL-safe, always NULL. */
struct hook *hook_cancel(struct hook *h);
