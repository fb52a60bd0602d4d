// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What a hypervisor must be able to do; a driver is one file and one row of the table in
 * hypervisor.c. All that is common to them (image, firewall, callbacks, cleaning) is in vm.c. */

#include <stdbool.h>

#include "node/vm.h"

struct hypervisor {
    const char *name;
    bool has_image; /* needs its image unpacked */
    bool has_port;  /* joins the bridge */
    /* All return 0 or -errno. start: then calls node_vm_driver_started() and, later or instead,
     * node_vm_driver_ended(), never inside. */
    int (*start)(struct node_vm *vm, struct qvd_error *err);
    int (*adopt)(struct node_vm *vm, int pidfd, int pid, struct qvd_error *err);
    int (*term)(struct node_vm *vm);
    int (*kill)(struct node_vm *vm);
    int (*pid)(const struct node_vm *vm);
    /* Frees what the driver keeps; what runs, runs on. */
    void (*forget)(struct node_vm *vm);
};

/* NULL for the unknown. */
const struct hypervisor *hypervisor_find(const char *name);
extern const struct hypervisor hypervisor_lxc;
extern const struct hypervisor hypervisor_nothing;

/* For drivers: the VM's spec, the node, and what the driver keeps of it. */
const struct node_vm_spec *node_vm_spec_of(const struct node_vm *vm);
struct node *node_vm_node(const struct node_vm *vm);
void **node_vm_driver_data(struct node_vm *vm);
void node_vm_driver_started(struct node_vm *vm);
void node_vm_driver_ready(struct node_vm *vm);
/* dirty: the guard could not clean up after itself. text is copied. */
void node_vm_driver_ended(struct node_vm *vm, enum node_vm_end end, int code, const char *text,
                          bool dirty);
