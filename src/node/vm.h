// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* One run of a VM on this node, whatever the hypervisor.
 *
 *     node_vm_start() -> [progress ...] -> started -> ready -> gone
 *                    \-> gone (failed or cancelled)
 * gone comes exactly once for every node_vm_start() and node_vm_adopt() that returned 0, after all
 * of the run is away: processes, cgroups, port, firewall elements, neighbour entry, overlay that is
 * not kept. */

#include "node/node.h"

/* What hkd knows of the VM. Copied by node_vm_start(). */
struct node_vm_spec {
    uint64_t id, user_id, di_id;
    const char *hypervisor; /* lxc, nothing */
    const char *image;      /* dis.path: a file below the images' folder, "<di>-<name>" */
    const char *ip;         /* the VM's address */
    const char *mac;        /* 54:52:00:bb:cc:dd */
    uint32_t memory_mb;
    bool use_overlay; /* false: the root is read-only */
    bool persistent;  /* the overlay of an earlier run is used again */
    bool own_home;    /* user_storage_size > 0: /home is a folder that outlives the overlay */
    uint8_t secret[NODE_SECRET_LEN];
};

enum node_vm_end {
    NODE_END_FAILED,  /* never started: text tells why */
    NODE_END_STOPPED, /* the guest ended, ordered or by itself */
    NODE_END_REBOOT,  /* the guest asked for a reboot: start it again */
    NODE_END_KILLED,  /* by node_vm_kill() */
    NODE_END_CRASHED, /* hypervisor or guard ended without an order */
    NODE_END_MAX
};
const char *node_vm_end_to_string(enum node_vm_end end);

struct node_vm_exit {
    enum node_vm_end end;
    int code;         /* FAILED: -errno; -ECANCELED when a kill came first */
    const char *text; /* one line for people */
};

struct node_vm_fns {
    void (*progress)(void *arg, unsigned percent); /* its image is being unpacked */
    void (*started)(void *arg);                    /* the hypervisor runs its first process */
    void (*ready)(void *arg); /* somebody in the VM says that its agent listens: ask it */
    void (*gone)(void *arg, const struct node_vm_exit *exit); /* free it now or later */
};

/* Begins a start. 0 (callbacks follow), or -errno with err: nothing was begun (-EBUSY: this id
 * runs or is not cleaned up yet). */
must_check int node_vm_start(struct node *n, const struct node_vm_spec *spec,
                             const struct node_vm_fns *fns, void *arg, struct node_vm **ret_vm,
                             struct qvd_error *err);

/* Takes over a VM that ran before hkd did: by its guard's pidfd, after checking that the guard
 * holds its lock. 0: it runs (only gone will be called); -ESRCH: it does not, and *ret_exit tells
 * how it ended (from the guard's record; CRASHED without one); its rest was swept by node_start().
 * ret_exit->text is valid until the next call. */
must_check int node_vm_adopt(struct node *n, uint64_t id, const struct node_vm_fns *fns, void *arg,
                             struct node_vm **ret_vm, struct node_vm_exit *ret_exit,
                             struct qvd_error *err);

/* It has come up, or its end is wished: what it leaves is not kept for those who look for the
 * reason of a failed start. */
void node_vm_settle(struct node_vm *vm);
/* Asks the guest to power off, as a power button does. 0, -errno. During a start it cancels. */
int node_vm_term(struct node_vm *vm);
/* Ends it by force, in any state; may be repeated. 0, -errno. */
int node_vm_kill(struct node_vm *vm);

uint64_t node_vm_id(const struct node_vm *vm);
/* Of the guard, 0 when there is none (yet). */
int node_vm_pid(const struct node_vm *vm);

/* Forgets it: a running VM runs on and can be adopted later; an unpacking goes on without it; no
 * callback will come. NULL-safe, always NULL. Allowed in its callbacks. */
struct node_vm *node_vm_free(struct node_vm *vm);
