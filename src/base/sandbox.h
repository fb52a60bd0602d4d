// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Giving up rights for good: what a process that reads strangers' bytes calls before it does.
 * In a library of its own (sandbox), as it needs libseccomp. */

#include <stdbool.h>

#include "base/error.h"

/* What a process keeps. Steps in this order: groups and user, chroot, capabilities, no-new-privs,
 * not dumpable, seccomp. */
struct sandbox_spec {
    const char *user;       /* NULL: stays who it is; a name with a group of the same name */
    const char *group;      /* over the user's own; NULL or "": none */
    const char *chroot_dir; /* NULL: none; an empty directory owned by root, made when missing */
    bool keep_capabilities; /* false: all sets and the bounding set are emptied */
    const int *syscalls; /* allow-list, ended by -1: any other kills the process; NULL: no filter */
};

/* System calls that every event loop process of ours needs (memory, epoll, read and write on open
 * fds, time, exit): ended by -1. */
extern const int sandbox_loop_syscalls[];

/* 0, or -errno with err told: the process must then exit. Not to be called with threads. */
must_check int sandbox_enter(const struct sandbox_spec *spec, struct qvd_error *err);
