// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Makes sure that the session's account and home are there, as account.h rules. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "vma/account.h"
#include "wire/vma.h"

#define USER_GROUPS_MAX 64

struct user {
    char name[ACCOUNT_LOGIN_MAX + 1];
    char home[ACCOUNT_HOME_MAX];
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS_MAX]; /* supplementary */
    size_t n_groups;
};

/* Who a session is for, from the login and what a plugin says: name and home of *ret_user. Sets
 * what hooks are told: qvd.vm.user.name (the Unix name), .login (as QVD knows it), .home, .groups.
 * 0; -EPERM with err: refused; -ENOMEM. */
must_check int user_resolve(const struct conf *conf, struct wire_params *params,
                            struct user *ret_user, struct qvd_error *err);

struct user_job;

/* err->code 0: user is good. -EPERM: refused for good; others: failed. Not called after
 * user_cancel(); the job is freed. */
typedef void user_done_fn(void *arg, const struct user *user, const struct qvd_error *err);

/* Begins; user is of user_resolve(), params name uid, gid, group and groups, and learn what came of
 * it. done comes later, never from within. 0 or -ENOMEM. params must live until done. What was made
 * for an account that fails is taken away again. */
must_check int user_prepare(struct ev_loop *loop, const struct conf *conf,
                            struct wire_params *params, const struct user *user, user_done_fn *done,
                            void *arg, struct user_job **ret_job);
struct user_job *user_cancel(struct user_job *j);

/* "UID:GID:G1,G2:UMASK" for qvd-vma --run-as: dst of USER_SPEC_MAX. 0 or -ENOBUFS. */
#define USER_SPEC_MAX 1024
must_check int user_spec(const struct user *u, const char *umask_text, char *dst);
/* The same back: ids and groups of *u. 0 or -EINVAL, also for an account of the system. */
must_check int user_from_spec(const char *spec, struct user *u);
/* qvd-vma --run-as SPEC COMMAND...: becomes that user and executes it. It lives on without the
 * monitor, which adopts it when it is back. Returns only on failure, the exit status, told on
 * stderr. */
int user_run_as(const char *spec, char **command);
/* qvd-vma --fill-home SPEC FROM TO: copies as that user what lies in FROM into the folder TO, and
 * ends with the monitor. The exit status; a failure is told on stderr. */
int user_fill_home(const char *spec, const char *from, const char *to);
