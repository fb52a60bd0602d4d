// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The settings file of a container, as text. Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct lxc_limits {
    uint64_t memory; /* bytes */
    uint64_t pids;
    uint64_t cpu_percent; /* of one core; 0 none */
    bool swap_limit;      /* v1: memory and swap can be limited together */
};

struct lxc_config {
    uint64_t vm;
    const char *run_dir;  /* /run/qvd/vm/42 */
    const char *guard;    /* path of qvd-guard, for the hook at the end */
    const char *log_file; /* of LXC */
    const char *console;  /* NULL: the console is not kept */
    const char *seccomp;  /* profile */
    const char *cgroup;   /* below each hierarchy's root */
    int cgroup_version;   /* 1, 2 */
    uint32_t idmap;
    bool own_home;
    bool apparmor; /* the kernel confines by it */
    struct lxc_limits limits;
    const char *bridge, *port, *mac, *ip, *gateway;
    unsigned prefix;
};

/* 0; -EINVAL: a text that would add lines or words of its own; -ENOMEM. */
must_check int lxc_config_write(const struct lxc_config *c, struct buf *out);
