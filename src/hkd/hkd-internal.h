// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of qvd-hkd share: the daemon, its line of starts, one VM. */

#include "base/list.h"
#include "conf/conf.h"
#include "db/db.h"
#include "ev/ev.h"
#include "ipc/rpc-client.h"
#include "model/states.h"
#include "model/vm-state.h"
#include "node/vm.h"
#include "store/vm.h"

struct askers;
struct map;
struct host;
struct line;
struct orders;
struct vm;

struct hkd {
    struct ev_loop *loop;
    struct conf *conf;
    struct db *db;
    struct askers *rpc;
    struct host *host;
    struct node *node; /* NULL until the node's settings are known */
    struct line *line;
    struct orders *orders;
    struct map *vms; /* id -> struct vm */
    int64_t host_id; /* 0 until the node's row was found */
};

/* host.c: the node's own life ------------------------------------------------------------------ */

/* 0 or -ENOMEM. */
must_check int host_new(struct hkd *d, struct host **ret_host);
/* Settings and row of the database, node, adoption, running. */
void host_begin(struct host *h);
struct host *host_free(struct host *h);
/* An orderly end: stops the VMs when the settings or an order (vms) say so, and the loop. */
void host_stop(struct host *h, bool vms);
/* May VMs be taken and started now? */
bool host_runs(const struct host *h);
/* Is the node's end near, with its VMs'? */
bool host_stops_vms(const struct host *h);
/* The database is lost, or back. */
void host_db_changed(struct host *h, bool up);
/* LISTEN stands (again). */
void host_listening(struct host *h);
/* The last VM has left the map: whoever waits for that is told. */
void host_vm_gone(struct host *h);

/* orders.c: what the database wants of the node --------------------------------------------------
 */

must_check int orders_new(struct hkd *d, struct orders **ret_orders);
struct orders *orders_free(struct orders *o);
/* Listens to the node's channel. 0 or -errno. */
must_check int orders_listen(struct orders *o);
/* Compares all rows of the node with what it has, now; done (may be NULL) once that was possible,
 * be it after a repetition. A further call while one is under way is done after it. */
void orders_sweep(struct orders *o, void (*done)(void *arg), void *arg);
/* Sweeps soon: something could not be done now. */
void orders_sweep_soon(struct orders *o);
/* Sweeps of itself from now on. */
void orders_run(struct orders *o);

/* line.c: at most hkd.vm.starting.max VMs start at once ------------------------------------------
 */

must_check int line_new(struct hkd *d, struct line **ret_line);
struct line *line_free(struct line *l);
/* At the end of the line; VM_EV_TURN comes when it is its turn, not inside the call. */
void line_enter(struct line *l, struct vm *vm);
/* Out of the line, or its place is free for another. Harmless when it has neither. */
void line_leave(struct line *l, struct vm *vm);
/* hkd.vm.starting.max may have changed. */
void line_look(struct line *l);

/* vm.c: one VM and its state ---------------------------------------------------------------------
 */

struct vm {
    struct hkd *d;
    int64_t id;
    enum vm_state state;
    bool has_vma, ready, found;
    struct node_vm *run; /* NULL: nothing of it is on the node */
    struct ev_timer *limit;

    /* The line of starts. */
    struct list in_line;
    bool waits, holds_place;

    unsigned unpacked;           /* percent of its image, last told */
    struct store_vm_start start; /* what a launch needs; valid from the taking to the launch */
    char ip[16], mac[18];
    uint8_t secret[STORE_SECRET_LEN];
    bool has_secret;
    int64_t stop_serial; /* of the order to stop; 0: its own, not drawn yet */

    /* How it ended, and what is told of it. */
    bool restart, reboots;
    unsigned early_reboots; /* in a row, without its agent's answer between */
    char reason[320];       /* why it was blocked; "" */
    char why[256];          /* what the next change of state is logged with */

    /* The row (vm-row.c). */
    struct db_request *taking, *telling, *stopping;
    bool retakes;
    struct ev_timer *retry;
    enum vm_state told; /* what is being told */
    bool untold;        /* the row is older than the state */
    bool look_again;    /* an order may have come while something was under way */
    bool alive;         /* the VMA's first answer is to be told */
    bool lost;          /* the row is not this node's any more: nothing is told */

    /* The agent (vma.c). */
    struct rpc_request *call;
    struct ev_timer *next_ping;
    struct db_request *serial;
    unsigned failures;
    int64_t last_ok_ms;

    /* What is due (due.c). */
    struct ev_timer *due;
    struct rpc_request *expire_call;
    char soft_told[32]; /* the soft expiration that its agent was told of; "" none */
    int64_t soft_next_ms;

    uint64_t seen; /* number of the sweep that saw its row */
};

/* A new VM in the map, stopped. NULL when out of memory. */
must_check struct vm *vm_new(struct hkd *d, int64_t id);
/* Out of the map; its run on the node goes on. NULL-safe, always NULL. */
struct vm *vm_free(struct vm *vm);
/* Takes the event through the table; why (may be NULL) is told in the log. */
void vm_event(struct vm *vm, enum vm_event event, const char *why, ...) printf_like(3, 4);
/* Found in a row read with its key: it has that state since before this daemon. Adopts its run, or
 * finds it gone. */
void vm_restore(struct vm *vm, const struct store_vm_row *row);
/* Runs here although no row of this node tells of it: is ended. */
void vm_restore_orphan(struct hkd *d, int64_t id);
/* Its row is no longer this node's: ends it here by force, and nothing of it is told. */
void vm_disown(struct vm *vm, const char *why);
/* The limit of the present state begins anew, with another setting. */
void vm_rearm(struct vm *vm, const char *key);

/* vm-run.c: its run on the node */
void vm_run_launch(struct vm *vm);
/* 1: it lives and is ours now; 0: it has ended (vm->restart, vm->why tell how); -errno. */
int vm_run_adopt(struct vm *vm);

/* vm-row.c: its row */
/* Asks for an order to start (retake: the one that it already had), and begins it. */
void vm_row_take_start(struct vm *vm, bool retake);
/* Looks for an order to stop (or, when it has just ended, to start), and for what is due. */
void vm_row_look(struct vm *vm);
/* The state has changed: the row is told, now or as soon as the database can be reached. */
void vm_row_tell(struct vm *vm);
/* Is something on its way to the row, or to be sent? */
bool vm_row_busy(const struct vm *vm);
/* The database is back: sends at once what waits. */
void vm_row_resend(struct vm *vm);
void vm_row_done(struct vm *vm);

/* vma.c: what is asked of its agent */
void vma_ping(struct vm *vm);
void vma_ping_later(struct vm *vm);
void vma_watch(struct vm *vm);
void vma_poweroff(struct vm *vm);
/* Nothing is asked any more. */
void vma_leave(struct vm *vm);
/* Tells the agent that the VM expires. */
void vma_expire(struct vm *vm, const struct store_vm_due *due, rpc_client_fn *fn);

/* due.c: what is due at a time of its own */

/* While the VM runs: looks at its row when the first of these times has come. */
void due_set(struct vm *vm, const struct store_vm_due *due);
/* The soft expiration is over: tells the agent, and again after each pause. */
void due_expire(struct vm *vm, const struct store_vm_due *due);
/* It does not run any more. */
void due_leave(struct vm *vm);
/* vm.stop_after_disconnect */
int64_t due_idle_minutes(const struct hkd *d);

/* rpc.c: the qvd-rpc processes. 0 or -ENOMEM. */
must_check int askers_new(struct ev_loop *loop, size_t n, struct askers **ret_askers);
struct askers *askers_free(struct askers *a);
/* Their log is to be opened anew. */
void askers_log(struct askers *a);
/* The one whose turn it is. */
struct rpc_client *askers_next(struct askers *a);

/* limits.c: hkd.process.limit.*. 0, or -errno with err told. */
must_check int limits_check(const struct conf *c, struct qvd_error *err);
must_check int limits_set(const struct conf *c, struct qvd_error *err);

/* caps.c */
/* Gives up for good every right that the node's work does not need. 0 or -errno. */
must_check int caps_bound(struct qvd_error *err);
