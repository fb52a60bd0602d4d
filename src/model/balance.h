// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Which node a VM is started on. A plugin is one row: a name and a formula. */

#include <stddef.h>
#include <stdint.h>

/* A node that may take VMs (backend, running, not blocked). */
struct balance_node {
    int64_t id;
    double usable_ram;   /* MB that the machine has */
    double free_ram;     /* share of it not in use at the last beat, 0 to 1 */
    double free_cpu;     /* share of its processors idle at the last beat, 0 to 1 */
    double reserved_ram; /* MB of the VMs on their way to it, which the beat does not see yet */
    double reserved_cpu; /* share of its processors held for them */
    unsigned assigned;   /* VMs that it has, or that are on their way */
};

/* l7r.loadbalancer.plugin.default.weight.*, and .start.cpu: the share of a node's processors that
 * is held for each VM on its way to it. */
struct balance_weights {
    double ram, cpu, random, start_cpu;
};

/* u: a number drawn for this node, 0 <= u < 1. The highest score wins. */
typedef double balance_fn(const struct balance_node *n, const struct balance_weights *w, double u);

/* The formula of a plugin ("default", "random"); NULL for the unknown. */
balance_fn *balance_plugin(const char *name);

/* Memory that a node has left for a new VM, in MB; not below 0. */
double balance_room(const struct balance_node *n);

/* The index of the node to take; random() is called once a node and gives 0 <= u < 1. -1: none has
 * need_ram MB left; *ret_roomiest (may be NULL) is then the index of the one that has most. */
int balance_choose(balance_fn *plugin, const struct balance_node *nodes, size_t n,
                   const struct balance_weights *w, double need_ram, double (*random)(void *arg),
                   void *arg, size_t *ret_roomiest);

/* Why there is none, for administrators: the limit, the node, and by how much. name: the
 * roomiest's; NULL with n = 0. */
void balance_refusal(char *dst, size_t size, double need_ram, size_t n,
                     const struct balance_node *roomiest, const char *name);
