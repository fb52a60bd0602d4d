// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/host.h"

struct db_request *store_host_find(struct db *db, const char *name, db_done_fn *done, void *arg)
{
    return db_query(db,
                    "SELECT h.id, host(h.address), h.backend, h.frontend, r.state"
                    "  FROM hosts h JOIN host_runtimes r ON r.host_id = h.id WHERE h.name = $1",
                    DB_PARAMS(DB_TEXT(name)), DB_REPEAT, done, arg);
}

bool store_host_read(const struct db_result *r, struct store_host *ret)
{
    if (db_rows(r) == 0)
        return false;
    *ret = (struct store_host){
        .id = db_int(r, 0, 0),
        .backend = db_bool(r, 0, 2),
        .frontend = db_bool(r, 0, 3),
        .state = host_state_from_string(db_str(r, 0, 4)),
    };
    return db_copy(r, 0, 1, ret->address, sizeof ret->address) == 0;
}

struct db_request *store_host_enter(struct db *db, int64_t host, int pid, db_done_fn *done,
                                    void *arg)
{
    return db_query(db,
                    "UPDATE host_runtimes SET state = 'starting', pid = $2, started_at = now(),"
                    " ok_ts = now(), cmd = NULL WHERE host_id = $1 RETURNING host_id",
                    DB_PARAMS(DB_INT(host), DB_INT(pid)), DB_REPEAT, done, arg);
}

struct db_request *store_host_set_state(struct db *db, int64_t host, enum host_state state,
                                        db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "UPDATE host_runtimes SET state = $2,"
        " cmd = CASE WHEN $2 <> 'stopped' THEN cmd END WHERE host_id = $1 RETURNING host_id",
        DB_PARAMS(DB_INT(host), DB_TEXT(host_state_to_string(state))), DB_REPEAT, done, arg);
}

struct db_request *store_host_beat(struct db *db, int64_t host, const struct store_beat *b,
                                   db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "UPDATE host_runtimes SET ok_ts = now(), pid = $2, usable_ram = $3, usable_cpu = $4,"
        " free_ram = $5, free_cpu = $6,"
        " clock_diff = $7::bigint / 1e6 - extract(epoch FROM clock_timestamp())"
        " WHERE host_id = $1 RETURNING state, blocked, clock_diff",
        DB_PARAMS(DB_INT(host), DB_INT(b->pid), DB_REAL(b->usable_ram), DB_REAL(b->usable_cpu),
                  DB_REAL(b->free_ram), DB_REAL(b->free_cpu), DB_INT(b->wall_us)),
        DB_REPEAT, done, arg);
}

bool store_host_read_beat(const struct db_result *r, struct store_beat_answer *ret)
{
    if (db_rows(r) == 0)
        return false;
    *ret = (struct store_beat_answer){
        .state = host_state_from_string(db_str(r, 0, 0)),
        .blocked = db_bool(r, 0, 1),
        .clock_diff = db_real(r, 0, 2),
    };
    return true;
}

struct db_request *store_host_order(struct db *db, int64_t host, db_done_fn *done, void *arg)
{
    return db_query(db, "SELECT cmd FROM host_runtimes WHERE host_id = $1 AND cmd IS NOT NULL",
                    DB_PARAMS(DB_INT(host)), DB_REPEAT, done, arg);
}

/* The row is locked before the snapshot that counts is taken: a claim that raises both while we
 * wait is then seen in both. */
struct db_request *store_host_count(struct db *db, int64_t host, db_done_fn *done, void *arg)
{
    const struct db_param *params = DB_PARAMS(DB_INT(host));
    const struct db_stmt stmts[] = {
        {"SELECT FROM host_runtimes WHERE host_id = $1 FOR UPDATE",                        params},
        {"UPDATE host_runtimes r SET assigned = c.n"
         "  FROM (SELECT count(*) AS n FROM vm_runtimes WHERE host_id = $1) c,"
         "       (SELECT assigned FROM host_runtimes WHERE host_id = $1) o"
         " WHERE r.host_id = $1 AND r.assigned <> c.n RETURNING o.assigned, c.n", params},
    };

    return db_batch(db, stmts, ARRAY_SIZE(stmts), DB_REPEAT, done, arg);
}
