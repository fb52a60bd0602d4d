// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Orders of administrators to VMs. Needs the role qvd_api. The node or the L7R that must act is
 * notified after the commit. */

#include "model/balance.h"
#include "store/admin.h"

/* How a node is chosen; random gives 0 <= u < 1. Must live until the answer. */
struct admin_balance {
    balance_fn *plugin;
    struct balance_weights weights;
    double (*random)(void *arg);
    void *arg;
};
/* stopped -> an order to start on the best node, which is reserved for it. Blocked VMs may be
 * started. Already ordered or running: ADMIN_CONFLICT. */
must_check enum admin_status store_admin_vm_start(struct db *db, const struct admin_who *who,
                                                  int64_t vm, const struct admin_balance *balance,
                                                  admin_done_fn *fn, void *arg,
                                                  struct qvd_error *err);
/* An order to stop; also takes back one to start. A VM that is stopping is left alone: ADMIN_OK. */
must_check enum admin_status store_admin_vm_stop(struct db *db, const struct admin_who *who,
                                                 int64_t vm, admin_done_fn *fn, void *arg,
                                                 struct qvd_error *err);
/* Ends the session in it. Nobody connected: ADMIN_CONFLICT. */
must_check enum admin_status store_admin_vm_disconnect(struct db *db, const struct admin_who *who,
                                                       int64_t vm, admin_done_fn *fn, void *arg,
                                                       struct qvd_error *err);
