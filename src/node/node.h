// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The hands of hkd: VMs, network and storage of one node. Everything that may wait happens in
 * children; results come by callbacks out of the loop, never inside the call that asked.
 *
 * Knows nothing of the database: what a VM is comes in a struct node_vm_spec. What it must know
 * after a restart of hkd lies in the run folder: VMs run on under their guards. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ev/ev.h"

struct conf;
struct node;
struct node_vm;

#define NODE_SECRET_LEN 32

/* What a node needs to know of the settings. Texts live as long as their source; node_new()
 * copies. */
struct node_settings {
    const char *nodename;                               /* in messages only */
    const char *address;                                /* of its row; "", NULL: not looked at */
    const char *run_dir;                                /* /run/qvd */
    const char *lxc_dir;                                /* /run/qvd/lxc: lxc's -P */
    const char *log_dir;                                /* /var/log/qvd */
    const char *captures;                               /* of consoles */
    const char *data_dir;                               /* where lxc.seccomp is */
    const char *libexec_dir;                            /* where qvd-guard and qvd-unpack are */
    const char *images, *basefs, *overlayfs, *homefs;   /* folders of the storage */
    const char *cgroup_dir;                             /* /sys/fs/cgroup */
    const char *lxc_start, *dnsmasq, *nft, *ip;         /* programs of others, absolute */
    const char *bridge, *ip_start, *netmask, *gateway;  /* required; netmask dotted or a length */
    const char *dns_server, *domain, *uplinks, *nat_if; /* "": none (dns: the gateway) */
    bool use_dhcp;
    bool console_log;
    uint32_t idmap_base; /* host id of the containers' root; 65536 ids follow */
    uint32_t pids_max;
    uint32_t cpu_max; /* percent of one core, 0 none */
    uint16_t vma_port, x_port;
    int64_t failed_keep_s;    /* how long what failed starts left is kept */
    uint64_t image_max_bytes; /* of an unpacked image */
    uint64_t image_max_entries;
};

/* From the settings table (rows path.*, vm.*). */
void node_settings_from_conf(const struct conf *c, struct node_settings *ret);

/* A line for the log of the program: where something odd was found and mended, or ignored. */
typedef void node_log_fn(void *arg, const char *text);

/* Checks what can be checked at once (the bridge and its address, addresses of the settings,
 * cgroups, folders, programs) and makes the folders. 0; -errno with err that names the mend:
 * hkd then must not start. */
must_check int node_new(struct ev_loop *loop, const struct node_settings *settings,
                        node_log_fn *log, void *arg, struct node **ret_node, struct qvd_error *err);

/* Puts the node in order: a trial mount on the storage, the firewall (in one transaction, with the
 * elements of the VMs that run), what a crash left is swept away, dnsmasq starts. Calls done once:
 * 0, or -errno with err that names the mend. -errno at once when it cannot even begin. */
typedef void node_done_fn(void *arg, int result, const struct qvd_error *err);
must_check int node_start(struct node *n, node_done_fn *done, void *arg, struct qvd_error *err);

/* "cgroup v1", "cgroup v2": what node_new() found. */
const char *node_cgroup_text(const struct node *n);

/* The ids of VMs that run here under a guard, whoever ordered it (valid after node_start(); hkd
 * kills those that it does not know). At most max are written; returns how many there are. */
size_t node_running(const struct node *n, uint64_t *ret_ids, size_t max);

/* The leases of dnsmasq: all VMs of the cluster. node_lease_all() replaces them, the other two
 * follow changes. 0 or -errno (a lease that could not be written). */
struct node_lease {
    uint64_t vm_id;
    const char *ip, *mac;
};
must_check int node_lease_all(struct node *n, const struct node_lease *leases, size_t count);
must_check int node_lease_set(struct node *n, const struct node_lease *lease);
must_check int node_lease_remove(struct node *n, uint64_t vm_id);

/* What the machine has and what of it is free, for the heartbeat. cpu share: since the last call.
 */
struct node_load {
    double usable_ram_mb, usable_cpu; /* cpu: sum of bogomips, as the original */
    double free_ram, free_cpu;        /* shares, 0..1 */
};
must_check int node_load_read(struct node *n, struct node_load *ret_load);

/* Stops dnsmasq; VMs, firewall and leases stay as they are. All node_vm must be freed before.
 * NULL-safe, always NULL. */
struct node *node_free(struct node *n);
/* Takes the firewall tables away: for an orderly stop of hkd, when no VM runs. done as above. */
must_check int node_stop(struct node *n, node_done_fn *done, void *arg, struct qvd_error *err);
