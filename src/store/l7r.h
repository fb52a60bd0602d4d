// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The SQL of qvd-l7r besides sessions: its instance, its node, a user's VMs, orders to stop, and
 * the settings that the database holds. As in store/session.h. */

#include "db/db.h"
#include "model/states.h"
#include "model/vm-state.h"
#include "store/call.h"

/* What is counted between two beats. */
struct store_l7r_counters {
    uint64_t http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions;
};

/* Registers the instance (0: a new one) of that node's L7R, or tells that it is still there, and
 * adds the counters (NULL: none) to the node's, once for each number, so that it may be
 * repeated. instance 0: failed. front_only: the node runs no VMs, its L7R beats for it. */
typedef void store_beat_fn(void *arg, uint64_t instance, bool front_only);
must_check struct store_call *store_l7r_beat(struct db *db, uint64_t instance, const char *nodename,
                                             const struct store_l7r_counters *counters,
                                             uint64_t number, store_beat_fn *fn, void *arg);
/* Forgets the instance and instances that have not beaten for so long; ends the sessions that they
 * left. mine 0: only the others. done with the number of sessions; -1: failed. */
typedef void store_bury_fn(void *arg, int64_t sessions);
must_check struct store_call *store_l7r_bury(struct db *db, uint64_t mine, int64_t timeout_ms,
                                             store_bury_fn *fn, void *arg);

/* The node that the L7R runs on. */
struct store_l7r_host {
    bool failed;
    bool registered;
    enum host_state state;
    bool blocked, frontend;
};
typedef void store_l7r_host_fn(void *arg, const struct store_l7r_host *host);
must_check struct store_call *store_l7r_host(struct db *db, const char *nodename,
                                             store_l7r_host_fn *fn, void *arg);

/* The beat of a node that runs no VMs (no backend), and so need not have an hkd: the L7R whose
 * process this is beats for it, unless somebody else does. stops: its last. fn may be NULL. */
typedef void store_l7r_front_fn(void *arg);
must_check struct store_call *store_l7r_front(struct db *db, const char *nodename, int pid,
                                              bool stops, int64_t timeout_ms,
                                              store_l7r_front_fn *fn, void *arg);

/* A user's VMs, or those of his VMs that are applications. names live until the callback returns.
 */
struct store_l7r_vm {
    uint64_t id;
    const char *name;
    enum vm_state state;
    bool blocked, is_application;
};
typedef void store_l7r_list_fn(void *arg, bool failed, const struct store_l7r_vm *vms, size_t n);
must_check struct store_call *store_l7r_list(struct db *db, uint64_t user_id, bool applications,
                                             store_l7r_list_fn *fn, void *arg);
/* Those VMs, whosesoever they are. */
must_check struct store_call *store_l7r_list_of(struct db *db, const uint64_t *ids, size_t n,
                                                store_l7r_list_fn *fn, void *arg);

/* allowed: also when it is another's. */
enum store_stop_outcome {
    STORE_STOP_FAILED, /* the database */
    STORE_STOP_NOT_FOUND,
    STORE_STOP_DENIED,
    STORE_STOP_UNFIT,   /* in a state (or with an order) that does not let it be stopped */
    STORE_STOP_STOPPED, /* it is */
    STORE_STOP_WAITS,   /* it will be: somebody ordered it before */
    STORE_STOP_ORDERED, /* it will be: the host is to be told */
};
struct store_stop {
    enum store_stop_outcome outcome;
    uint64_t host_id;
    enum vm_state vm_state;
};
typedef void store_stop_fn(void *arg, const struct store_stop *stop);
must_check struct store_call *store_l7r_stop_vm(struct db *db, uint64_t vm_id, uint64_t user_id,
                                                bool allowed, store_stop_fn *fn, void *arg);

/* The cluster's settings, as "key NUL value NUL"; NULL: failed. */
typedef void store_l7r_settings_fn(void *arg, const char *settings, size_t len);
must_check struct store_call *store_l7r_settings(struct db *db, store_l7r_settings_fn *fn,
                                                 void *arg);
/* The texts of ssl_configs, "" where there is none; NULL: failed. */
struct store_l7r_certificate {
    const char *cert, *key, *ca, *crl;
};
typedef void store_l7r_certificate_fn(void *arg, const struct store_l7r_certificate *c);
must_check struct store_call *store_l7r_certificate(struct db *db, store_l7r_certificate_fn *fn,
                                                    void *arg);
