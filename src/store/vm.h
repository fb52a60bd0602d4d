// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The SQL of a VM's life on a node: orders taken, states told, the end. Every write is WHERE the
 * row is this node's; who finds no row has lost the VM. All may be repeated. done is db.h's; what
 * it gets is read by the function named beside. */

#include "db/db.h"
#include "model/states.h"
#include "model/vm-state.h"

#define STORE_SECRET_LEN 32

struct store_vm_ports {
    unsigned vma, x, ssh;
};

/* A VM as a start needs it. */
struct store_vm_start {
    int64_t vm_id, user_id, osf_id, di_id; /* di_id 0: no published image has its tag */
    char name[65 * 4], tag[129 * 4], version[65], image[256];
    char hypervisor[16], ip[16];
    uint32_t memory_mb;
    bool use_overlay, own_home;
};
/* Takes an order to start: stopped -> starting_1 with the VM's address, the image that its tag
 * names now, and the secret as its new key. An order to stop it that came before the start is taken
 * too: it gives the VM back. One row, or none when there is nothing to start. */
must_check struct db_request *store_vm_take_start(struct db *db, int64_t host, int64_t vm,
                                                  const struct store_vm_ports *ports,
                                                  const void *secret, db_done_fn *done, void *arg);
/* The same for a VM found in starting_1 that was not launched: image and key anew. An
 * order to stop it stays. */
must_check struct db_request *store_vm_retake_start(struct db *db, int64_t host, int64_t vm,
                                                    const struct store_vm_ports *ports,
                                                    const void *secret, db_done_fn *done,
                                                    void *arg);
/* 1: filled; 0: no row; -errno: what was sent cannot be used (err). */
int store_vm_read_start(const struct db_result *r, struct store_vm_start *ret,
                        struct qvd_error *err);

/* How long until something is due for a running VM, in ms; below 0: since how long it is. */
#define STORE_NEVER INT64_MAX
struct store_vm_due {
    int64_t soft_ms, hard_ms; /* its expirations */
    int64_t idle_ms;          /* its user has stayed away too long */
    char soft[32], hard[32];  /* the expirations as RFC 3339; "" none */
    int64_t serial;           /* for the order to expire; 0: soft is not due */
};
/* What shall be decided with. */
struct store_vm_rules {
    int64_t idle_minutes; /* vm.stop_after_disconnect, for OSFs that have none; -1 never */
    bool restart;         /* what the hard expiration does; else it stops */
};
/* Looks at the row for what is to be done now: an order to stop; where a VM runs, its hard
 * expiration (which it has no more then; with restart, an order to start waits for its end) or its
 * user's staying away, which become orders on the row. The order to stop leaves it with the state
 * that store_vm_tell() or store_vm_stopped() tells. One row, or none when it is not this node's or
 * is stopped. */
must_check struct db_request *store_vm_look(struct db *db, int64_t host, int64_t vm,
                                            const struct store_vm_rules *rules, db_done_fn *done,
                                            void *arg);
enum store_vm_wish { STORE_VM_STAYS, STORE_VM_ORDERED, STORE_VM_EXPIRED, STORE_VM_IDLE };
struct store_vm_seen {
    enum store_vm_wish wish;
    int64_t stop_serial; /* of the order to stop; else 0 */
    struct store_vm_due due;
};
/* false: no row. */
bool store_vm_read_look(const struct db_result *r, struct store_vm_seen *ret);

/* A serial for an order of the node's own. */
must_check struct db_request *store_vm_serial(struct db *db, db_done_fn *done, void *arg);
int64_t store_vm_read_serial(const struct db_result *r);

/* Tells a state other than stopped; one on the way to the end takes an order to stop from the row.
 * pid: of the guard, 0 none. alive: the VMA has just answered.
 * reason: blocks the VM, NULL leaves that as it is. */
struct store_vm_news {
    enum vm_state state;
    int pid;
    bool alive;
    const char *reason;
    int64_t idle_minutes; /* as in store_vm_rules */
};
must_check struct db_request *store_vm_tell(struct db *db, int64_t host, int64_t vm,
                                            const struct store_vm_news *news, db_done_fn *done,
                                            void *arg);
/* Gives the VM back: stopped, key deleted, node's count lowered; with restart (unless it was
 * ordered to stop), or when a start was ordered meanwhile, the row stays the node's with an order
 * to start. A reason blocks it, and then it does not start again. */
must_check struct db_request *store_vm_stopped(struct db *db, int64_t host, int64_t vm,
                                               bool restart, const char *reason, db_done_fn *done,
                                               void *arg);
/* Of both: false when the row is not (no longer) the node's. ret_order: what waits. */
bool store_vm_read_told(const struct db_result *r, int64_t *ret_instance, enum vm_cmd *ret_order);
/* What is due, of a row told with store_vm_tell(). */
void store_vm_told_due(const struct db_result *r, struct store_vm_due *ret);

/* Those who wait for the VM look at it: its L7R (0: none, or nothing that it waits for) and the
 * consoles. */
void store_vm_notify(struct db *db, int64_t vm, int64_t instance);

/* All rows of the node: what runs, and what is ordered. */
struct store_vm_row {
    int64_t vm_id;
    enum vm_state state;
    enum vm_cmd order;
    int64_t order_id;
    char hypervisor[16], ip[16];
    struct store_vm_due due;
    bool has_secret;
    uint8_t secret[STORE_SECRET_LEN];
};
/* secrets: with the VMs' keys, for adoption. */
must_check struct db_request *store_vm_of_host(struct db *db, int64_t host, bool secrets,
                                               int64_t idle_minutes, db_done_fn *done, void *arg);
/* 0, or -errno (the row is to be left out). */
int store_vm_read_row(const struct db_result *r, int row, struct store_vm_row *ret);

/* Gives back what is assigned to the node, stopped and not ordered: one row each given back. */
must_check struct db_request *store_vm_release(struct db *db, int64_t host, db_done_fn *done,
                                               void *arg);

/* Addresses of all VMs of the farm, two columns: id and address; and a short text that changes with
 * them. */
must_check struct db_request *store_vm_addresses(struct db *db, db_done_fn *done, void *arg);
must_check struct db_request *store_vm_addresses_mark(struct db *db, db_done_fn *done, void *arg);
