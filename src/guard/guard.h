// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of qvd-guard share: its orders, as its command line tells them. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define GUARD_SECRET_LEN 32
/* Inherited from hkd: the VM's secret (read to its end), and where the guard tells how it goes. */
#define GUARD_SECRET_FD 3
#define GUARD_REPORT_FD 4

struct guard {
    uint64_t vm;
    char name[40];         /* of the container: qvd-<vm> */
    const char *run_dir;   /* /run/qvd/vm/<vm> */
    const char *lxc_dir;   /* -P of lxc-start */
    const char *lxc_start; /* the program */
    const char *base;      /* unpacked image; ids of the image */
    const char *overlay;   /* holds upper and work; NULL: the root is read-only */
    const char *home;      /* NULL: none of its own */
    const char *gateway;   /* to be asked for in the VM's network; NULL: nobody is */
    bool fresh;            /* an overlay of an earlier run is put aside, and ours at the end */
    uint32_t idmap;        /* host id of the container's root */
    const char *cgroup;    /* below each hierarchy's root: qvd/<vm> */
    const char *cgroup_fs; /* /sys/fs/cgroup */
    int lock_fd, overlay_fd, home_fd; /* locks, held until we are gone */
};

/* rootfs.c ---------------------------------------------------------------------------------------
 */

/* Takes the locks of overlay and home (making both), puts an older overlay aside. 0, -errno. */
must_check int guard_storage_take(struct guard *g, struct qvd_error *err);
/* In a mount namespace of its own: base, overlay, root, home, secret. 0, -errno. */
must_check int guard_rootfs_mount(struct guard *g, struct qvd_error *err);
/* Takes the root down and puts an overlay aside that is not to be used again. failed: it is kept,
 * with what the guest wrote to its console. */
void guard_storage_release(struct guard *g, bool failed);
/* Tries what a start needs, between folders basefs and overlayfs. 0, -errno with the mend. */
must_check int guard_trial(const char *basefs, const char *overlayfs, const char *run_dir,
                           uint32_t idmap, struct qvd_error *err);

/* aside.c ----------------------------------------------------------------------------------------
 */

/* The folder's name then begins so, and its VM's id follows. */
#define GUARD_FAILED "deleteme-failed-"
/* To be removed by whoever looks for deleteme-*. 0 or -errno. */
must_check int guard_put_aside(const char *overlay);
/* To be looked at. 0 or -errno. */
must_check int guard_keep_failed(const struct guard *g);
/* hkd has neither seen the VM come up nor wished its end. */
bool guard_failed(const struct guard *g);

/* idmap.c ----------------------------------------------------------------------------------------
 */

/* A user namespace's descriptor with the map 0..65535 -> first..: >= 0 or -errno. */
must_check int guard_idmap_open(uint32_t first);
/* Mounts dir's tree at target, read-only, without devices, its ids mapped. 0 or -errno. */
must_check int guard_idmap_mount(const char *dir, const char *target, uint32_t first);

/* cgroup.c ---------------------------------------------------------------------------------------
 */

/* Kills what is left in the VM's cgroups and removes them. 0, or -EBUSY: processes that do not
 * die. */
must_check int guard_cgroup_clean(const struct guard *g);
/* KILL to all processes in them, once. */
void guard_cgroup_kill(const struct guard *g);
/* Cleans each cgroup that is called as g->cgroup with a VM's id behind it, and is of no VM: none
 * has a folder in g->run_dir/vm, and no LXC monitor lives in it. Prints a line for each. 0 or
 * -EBUSY. */
must_check int guard_cgroup_strays(const struct guard *g);

/* run.c ------------------------------------------------------------------------------------------
 */

/* Runs the container to its end. Returns the program's exit status. */
int guard_run(struct guard *g);
/* As LXC's hook at the end of a VM: tells the guard of a reboot, and fails on it. */
int guard_hook(const char *which, const char *run_dir);

/* announce.c -------------------------------------------------------------------------------------
 */

/* Asks for the gateway in the network of that process. Returns when all CPUs have seen the end of
 * its socket (10 ms). 0 or -errno. */
must_check int guard_announce(pid_t pid, const char *gateway);
