// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What comes before a desktop listens: pre-connect hook, account and home (new desktops only),
 * connect hook, in this order. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "vma/user.h"
#include "wire/vma.h"

struct prepare;

/* err->code 0: user is good. -EPERM: refused, for the user to read; others: failed. Not called
 * after prepare_cancel(); the job is freed. */
typedef void prepare_done_fn(void *arg, const struct user *user, const struct qvd_error *err);

/* present: whose desktop is resumed; NULL: a new one. params (both must live until done) get what
 * hooks are told besides. done comes later, never from within. 0 or -ENOMEM. */
must_check int prepare_begin(struct ev_loop *loop, const struct conf *conf,
                             struct wire_params *params, const struct user *present,
                             prepare_done_fn *done, void *arg, struct prepare **ret_prepare);
/* Kills what runs of it. NULL-safe, always NULL. */
struct prepare *prepare_cancel(struct prepare *p);
