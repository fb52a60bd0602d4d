// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The folder of a running VM, RUN/vm/ID: what survives hkd. Its files: note (ours, about the run),
 * lock (held by the guard), exit (the guard's record), ready and hook (FIFOs),
 * resolv.conf, unsettled (it has not come up yet), console (what it wrote, or where that is). */

#include <sys/types.h>

#include "node/vm.h"

/* What must be known to clean up after a VM of which nobody knows any more. */
struct run_note {
    char port[16], mac[18], ip[16]; /* empty: it has no port */
    char overlay[256];              /* to be put aside; empty: none, or kept */
    char cgroup[40];
};

struct run_vm {
    uint64_t id;
    pid_t guard; /* 0: not running */
    struct run_note note;
};

/* dst of 256 bytes: RUN/vm/ID/NAME (name NULL: the folder). 0, -ENAMETOOLONG. */
must_check int run_path(const char *run_dir, uint64_t id, const char *name, char *dst);
/* Makes the folder (0711), removes the record of an earlier run, and marks the new one as not come
 * up yet. 0 or -errno. */
must_check int run_make(const char *run_dir, uint64_t id);
/* Takes the mark away. */
void run_settle(const char *run_dir, uint64_t id);
must_check int run_note_write(const char *run_dir, uint64_t id, const struct run_note *note);
/* 0; -ENOENT; -EBADMSG for one that is not ours. */
must_check int run_note_read(const char *run_dir, uint64_t id, struct run_note *ret);
/* The text form, for the two. */
must_check int run_note_parse(const char *text, struct run_note *ret);
/* The process that holds the VM's lock: > 0; 0 none; -errno. ret_pidfd (may be NULL): its pidfd,
 * opened while it held the lock. */
must_check int run_guard(const char *run_dir, uint64_t id, int *ret_pidfd);
/* The guard's record: 0 and the end with its text (dst of 256 bytes); -ENOENT. */
must_check int run_exit_read(const char *run_dir, uint64_t id, enum node_vm_end *ret_end,
                             char *ret_text);
must_check int run_exit_parse(const char *line, enum node_vm_end *ret_end, char *ret_text);
/* Removes the folder and its files. */
void run_remove(const char *run_dir, uint64_t id);
/* Calls fn for each VM that has a folder. */
typedef void run_fn(void *arg, const struct run_vm *vm);
void run_scan(const char *run_dir, run_fn *fn, void *arg);
