// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The SQL of a node: its row, its beat, its state and orders, the count of its VMs. All may be
 * repeated. done is db.h's; what it gets is read by the function named beside. */

#include "db/db.h"
#include "model/states.h"

struct store_host {
    int64_t id;
    char address[64];
    bool backend, frontend;
    enum host_state state;
};
/* The node of that name: one row, or none while nobody has added it. */
must_check struct db_request *store_host_find(struct db *db, const char *name, db_done_fn *done,
                                              void *arg);
/* false: no row. */
bool store_host_read(const struct db_result *r, struct store_host *ret);

/* Its daemon begins: state starting, its pid, no order left from before. One row, or none when the
 * node was deleted. */
must_check struct db_request *store_host_enter(struct db *db, int64_t host, int pid,
                                               db_done_fn *done, void *arg);
/* One row, or none when the node was deleted. */
must_check struct db_request *store_host_set_state(struct db *db, int64_t host,
                                                   enum host_state state, db_done_fn *done,
                                                   void *arg);

struct store_beat {
    int pid;
    double usable_ram, usable_cpu, free_ram, free_cpu;
    int64_t wall_us; /* the node's clock, for the difference that people see */
};
struct store_beat_answer {
    enum host_state state;
    bool blocked;
    double clock_diff; /* seconds, node minus database */
};
/* The heartbeat: one UPDATE, nobody is notified. */
must_check struct db_request *store_host_beat(struct db *db, int64_t host,
                                              const struct store_beat *beat, db_done_fn *done,
                                              void *arg);
/* false: no row. */
bool store_host_read_beat(const struct db_result *r, struct store_beat_answer *ret);

/* The order to the node that waits: one row with its word ("stop"), or none. It leaves the row with
 * the state stopped, and with the next start. */
must_check struct db_request *store_host_order(struct db *db, int64_t host, db_done_fn *done,
                                               void *arg);

/* Compares `assigned` with the rows: one row (before, after) when it was wrong. */
must_check struct db_request *store_host_count(struct db *db, int64_t host, db_done_fn *done,
                                               void *arg);
