// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* For store's own use: the nodes that a VM may be started on, as the balance wants them. */

#include "db/db.h"
#include "model/balance.h"

#define STORE_NODES_MAX 500

/* $1: the VM, whose row is locked: no rows unless it is stopped, without an order and without a
 * node. NULL: all nodes. */
extern const char store_nodes_sql[];
/* The rows; at most STORE_NODES_MAX. start_cpu: what a VM on its way takes. */
size_t store_nodes_read(const struct db_result *r, double start_cpu, struct balance_node *nodes);
/* The name of the node of that row; NULL when there is none. */
const char *store_nodes_name(const struct db_result *r, size_t row);
