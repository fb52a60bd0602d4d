// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Child processes, watched by pidfd: no SIGCHLD, no pid that may have been given to another. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "ev/ev.h"

struct ev_child;

/* What the child gets. Everything not named is closed in it; signals and mask are reset. */
struct ev_child_spec {
    const char *path;        /* absolute, or looked up in PATH */
    const char *const *argv; /* ended by NULL; never a secret in it */
    const char *const *envp; /* NULL: ours */
    const struct ev_child_fd {
        int fd;     /* ours; -EBADF: /dev/null */
        int target; /* number in the child */
    } * fds;        /* 0, 1, 2 that are not named: /dev/null, our stderr for 1 and 2 */
    size_t n_fds;
    const char *dir;         /* NULL: / */
    int death_signal;        /* sent when we die; 0 none */
    bool new_session;        /* setsid(): a process group of its own */
    bool parent_exits_first; /* double use: keep running when we exit; no death signal */
};

/* Called once, after the child is gone and reaped. status as of waitpid(2); -1 when unknown (an
 * adopted process). The child object may be freed inside. */
typedef void ev_child_fn(void *arg, int status);

/* Starts a program. 0; -errno with err told (also when exec fails: the path is named). */
must_check int ev_child_spawn(struct ev_loop *loop, const struct ev_child_spec *spec,
                              ev_child_fn *fn, void *arg, struct ev_child **ret_child,
                              struct qvd_error *err);
/* Watches a process that is not our child, by a pidfd (taken over, also on failure). */
must_check int ev_child_adopt(struct ev_loop *loop, int pidfd, pid_t pid, ev_child_fn *fn,
                              void *arg, struct ev_child **ret_child);
pid_t ev_child_pid(const struct ev_child *c);
/* Still ours to watch; a duplicate is the caller's to make. */
int ev_child_pidfd(const struct ev_child *c);
/* By pidfd: 0, -ESRCH when it is gone. */
int ev_child_kill(struct ev_child *c, int signo);
/* NULL-safe, always NULL. Forgets it, does not end it: a running child of ours becomes a zombie at
 * its end until we exit; kill and wait first where that matters. */
struct ev_child *ev_child_free(struct ev_child *c);

/* "exit 3", "signal 9": for logs. dst of at least 32 bytes, returned. */
const char *ev_child_status_text(int status, char *dst, size_t size);

/* A helper command run to its end: input to its stdin, its stdout and stderr kept up to max bytes
 * each, killed (whole group) after timeout_ms. */
struct ev_command;
struct ev_command_result {
    int status;               /* of waitpid(2); -1 when it was killed for its time */
    const char *out, *errors; /* with NUL; valid during the call */
    size_t out_len, errors_len;
};
typedef void ev_command_fn(void *arg, const struct ev_command_result *result);
/* 0; -errno with err told. The command is freed after done was called. */
must_check int ev_command_run(struct ev_loop *loop, const char *const *argv, const char *input,
                              size_t input_len, size_t max, uint64_t timeout_ms,
                              ev_command_fn *done, void *arg, struct ev_command **ret_command,
                              struct qvd_error *err);
/* Kills it; done is not called. NULL-safe, always NULL. */
struct ev_command *ev_command_cancel(struct ev_command *c);
