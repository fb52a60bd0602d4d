// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of node share. */

#include "base/buf.h"
#include "base/map.h"
#include "ev/child.h"
#include "node/hypervisor/hypervisor.h"
#include "node/net/address.h"
#include "node/net/batch.h"
#include "node/net/dhcp.h"
#include "node/node.h"
#include "node/storage/image.h"
#include "node/storage/purge.h"
#include "node/vm.h"

enum cgroup_version { CGROUP_V1 = 1, CGROUP_V2 = 2 };

struct node {
    struct ev_loop *loop;
    struct node_settings s; /* texts are our own */
    node_log_fn *log;
    void *log_arg;
    struct addr_plan net;
    enum cgroup_version cgroup;
    bool swap_limit;      /* the kernel counts memory and swap together (v1) */
    char cgroup_mark[24]; /* "" or "-<pid namespace>": names of cgroups are of the machine */
    int broker_uid;       /* -1: there is no such user */

    struct batch *nft, *ip; /* changes of the firewall; of neighbours */
    struct batch *links;    /* removals of dead VMs' ports, which may go by themselves meanwhile */
    struct dhcp *dhcp;      /* NULL: not used */
    struct purge *purge;
    struct images *images;
    struct map *vms;          /* id -> struct node_vm: started or adopted */
    struct map *left;         /* id -> struct run_vm: runs since before us, not adopted yet */
    struct map *records;      /* id -> struct record: ended while we were away */
    struct node_begin *begin; /* a node_start() or node_stop() under way */
    uint64_t cpu_busy, cpu_total;
    double bogomips;
};

struct record {
    enum node_vm_end end;
    char text[256];
};

struct run_note;
void node_log(struct node *n, const char *fmt, ...) printf_like(2, 3);

/* begin.c: ends a node_start() that is under way, without a call. */
struct node_begin *node_begin_free(struct node_begin *b);
/* begin.c: removes what a killed guard of this VM left, by a guard that only sweeps. */
must_check int node_sweep_run(struct node *n, uint64_t id, const struct run_note *note,
                              ev_command_fn *done, void *arg, struct ev_command **ret,
                              struct qvd_error *err);
/* The settings of its container. */
void node_lxc_config_remove(struct node *n, uint64_t id);
/* How a VM ended while hkd was away: told once. text of 256 bytes. */
bool node_record_take(struct node *n, uint64_t id, enum node_vm_end *ret_end, char *ret_text);
