// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Asynchronous PostgreSQL: a pool of connections under one role, one of them for LISTEN.
 *
 * Connections are opened when needed, closed after 10 min idle, opened again with a growing,
 * jittered pause, at the address that the server's name has then. Each request has one answer,
 * through its callback, never inside the call that made it, and no later than its deadline (7 s
 * from the call; the server's statement_timeout is 5 s).
 *
 * Who may use it: db's owner speaks SQL only through store. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct conf;
struct ev_loop;
struct db;
struct db_result;
struct db_request;
struct db_txn;

/* Where the database is and who one is there; without pointers, so that it can be sent to a child
 * that may not read the file. user empty: the role itself. */
struct db_target {
    char host[256];     /* folder of the unix socket, or name(s)/address(es) separated by commas */
    char hostaddr[256]; /* resolved host; empty for a unix socket */
    char port[64];
    char name[64];
    char user[64];
    char password[256];
    char sslmode[16];
    char sslrootcert[256];
};

/* From database.* for one of the parts "hkd", "l7r", "auth", "api" (role qvd_<part>). Resolves
 * names, and blocks: call it at start. 0; -EINVAL, -EHOSTUNREACH
 * with err. */
must_check int db_target_from_conf(const struct conf *c, const char *part, struct db_target *ret,
                                   struct qvd_error *err);

struct db_options {
    const char *name;        /* application_name, "qvd-hkd" */
    unsigned connections;    /* for work, beside the one for LISTEN; 0: 1 */
    unsigned queue_max;      /* requests waiting; 0: 1000 */
    unsigned deadline_ms;    /* 0: 7000 */
    unsigned idle_ms;        /* 0: 600000 */
    unsigned backoff_min_ms; /* 0: 100 */
    unsigned backoff_max_ms; /* 0: 10000 */
    bool one_plan;           /* for a program all of whose statements find their rows by keys: the
                              * server plans each once, whatever the parameters */
};

/* Opens nothing yet. The target and options are copied. 0 or -ENOMEM. */
must_check int db_new(struct ev_loop *loop, const struct db_target *target,
                      const struct db_options *options, struct db **ret_db);
/* Ends all; the callbacks of open requests are not called. NULL-safe, always NULL. Not inside a
 * callback of db. */
struct db *db_free(struct db *db);

/* Parameters ($1...). Bytes and texts are copied by the call. */
enum db_param_kind {
    DB_KIND_END,
    DB_KIND_NULL,
    DB_KIND_TEXT,
    DB_KIND_INT,
    DB_KIND_REAL,
    DB_KIND_BYTES
};
struct db_param {
    enum db_param_kind kind;
    int64_t i;
    double real;
    const void *data;
    size_t len;
};
#define DB_NULL ((struct db_param){.kind = DB_KIND_NULL})
#define DB_TEXT(s) db_param_text(s) /* NULL is SQL's NULL; also inet, json, timestamptz, text[] */
#define DB_INT(v) ((struct db_param){.kind = DB_KIND_INT, .i = (v)})
#define DB_ID(v) db_param_id(v) /* 0 is SQL's NULL */
#define DB_BOOL(v) db_param_text((v) ? "t" : "f")
#define DB_REAL(v) ((struct db_param){.kind = DB_KIND_REAL, .real = (v)})
#define DB_BYTES(p, n) ((struct db_param){.kind = DB_KIND_BYTES, .data = (p), .len = (n)})
#define DB_PARAMS(...) ((const struct db_param[]){__VA_ARGS__, {.kind = DB_KIND_END}})
#define DB_NO_PARAMS NULL

static inline struct db_param db_param_text(const char *s)
{
    struct db_param p = {.kind = s ? DB_KIND_TEXT : DB_KIND_NULL, .data = s};

    return p;
}

static inline struct db_param db_param_id(int64_t id)
{
    struct db_param p = {.kind = id ? DB_KIND_INT : DB_KIND_NULL, .i = id};

    return p;
}

enum db_status {
    DB_OK,
    DB_GONE,       /* no connection in time, or lost: the change may or may not have been made */
    DB_FULL,       /* too many requests wait */
    DB_CONFLICT,   /* 40001, 40P01, 55P03: still so after the repetitions */
    DB_CONSTRAINT, /* class 23: db_constraint() names it */
    DB_TIMEOUT,    /* 57014: statement_timeout */
    DB_ERROR,      /* anything else: a defect; db_error() tells */
    DB_STATUS_MAX
};
const char *db_status_name(enum db_status s);

enum db_flags {
    /* May be sent twice: after a loss of the connection in flight it is sent again (it carries a
     * session or command id, or only reads). */
    DB_REPEAT = 1,
    /* Made at run time for this one question. Without it the server keeps the statement prepared
     * for this connection. */
    DB_BUILT = 2,
};

/* Inside: r is valid only during the call, never NULL. */
typedef void db_done_fn(void *arg, const struct db_result *r);

/* One statement, a transaction of its own. sql must live until the answer (a literal, or DB_BUILT);
 * params end with DB_KIND_END (DB_PARAMS) or are NULL. A conflict is repeated up to 3 times.
 * Returns the request, for db_cancel() until done was called; NULL when out of memory (done will
 * not be called). */
must_check struct db_request *db_query(struct db *db, const char *sql,
                                       const struct db_param *params, unsigned flags,
                                       db_done_fn *done, void *arg);
/* data (of malloc(); what done gets as arg, as a rule) is freed with the request, answered or
 * cancelled. */
void db_own(struct db_request *q, void *data);
/* done will not be called; what was sent is done all the same. NULL-safe. */
void db_cancel(struct db_request *q);

/* Several statements in one transaction, all known beforehand, sent at once. done gets the first
 * failure, or the last statement's result with db_result_of() for the others. */
struct db_stmt {
    const char *sql;
    const struct db_param *params;
};
must_check struct db_request *db_batch(struct db *db, const struct db_stmt *stmts, size_t n,
                                       unsigned flags, db_done_fn *done, void *arg);
/* The result of the i-th statement of a batch that succeeded; db_result_of(r, n - 1) is r. */
const struct db_result *db_result_of(const struct db_result *r, size_t i);

/* A transaction whose later statements depend on the answers of the earlier. It has a connection of
 * its own from the moment run() is called. run() and the steps call db_txn_query() (several at once
 * are pipelined), and at last db_txn_commit() or db_txn_abort(). When a statement fails, no step is
 * called for it and the whole is rolled back; a conflict (and a lost connection with DB_REPEAT)
 * calls run() again from the beginning. done is called once: DB_OK after the commit (or after
 * db_txn_abort()). */
typedef void db_run_fn(struct db_txn *t, void *arg);
typedef void db_step_fn(struct db_txn *t, void *arg, const struct db_result *r);
must_check struct db_request *db_txn(struct db *db, unsigned flags, db_run_fn *run,
                                     db_done_fn *done, void *arg);
/* step may be NULL (the answer does not matter unless it fails). Out of memory fails the whole. */
void db_txn_query(struct db_txn *t, const char *sql, const struct db_param *params,
                  db_step_fn *step, void *arg);
void db_txn_commit(struct db_txn *t);
/* Rolls back; done then tells DB_OK: the owner knows why he left. */
void db_txn_abort(struct db_txn *t);

/* Tells others, after the change was committed: a transaction of its own that does not wait for the
 * disk. Lost silently when the connection goes (sweeps repair). Equal ones that wait are sent once.
 * channel at most 63 bytes, payload 255: longer ones are not sent. */
void db_notify(struct db *db, const char *channel, const char *payload);
void db_notify_id(struct db *db, const char *channel, const char *kind, int64_t id);
/* For whom nobody waits (consoles): with the next db_notify(), or in 100 ms. Each notification
 * wakes all who listen in the database, whatever their channels. */
void db_notify_id_later(struct db *db, const char *channel, const char *kind, int64_t id);

/* Notifications of a channel; the LISTEN connection is opened with the first and kept. -EEXIST: the
 * channel has a handler. */
typedef void db_notify_fn(void *arg, const char *channel, const char *payload);
must_check int db_listen(struct db *db, const char *channel, db_notify_fn *fn, void *arg);
void db_unlisten(struct db *db, const char *channel);
/* Called each time all channels are listened to (again): whatever happened before was not heard, so
 * the owner looks at everything now. Also after a db_listen() on a standing connection. */
void db_on_listening(struct db *db, void (*fn)(void *arg), void *arg);
/* Is the LISTEN connection up? */
bool db_is_listening(const struct db *db);
/* Called when the pool loses the database (up = false) and has it again (true). */
void db_on_change(struct db *db, void (*fn)(void *arg, bool up), void *arg);
/* Why it was lost, for the log; "" while it is there. */
const char *db_why_down(const struct db *db);

/* Results. Columns by number from 0. */
enum db_status db_status(const struct db_result *r);
/* What the server said (or why there is no answer), for the log; never NULL. */
const char *db_error(const struct db_result *r);
const char *db_sqlstate(const struct db_result *r);   /* "" when there is none */
const char *db_constraint(const struct db_result *r); /* DB_CONSTRAINT: its name, else "" */
bool db_violates(const struct db_result *r, const char *constraint);
int db_rows(const struct db_result *r);
int db_cols(const struct db_result *r);
int64_t db_affected(const struct db_result *r); /* rows changed */
bool db_null(const struct db_result *r, int row, int col);
const char *db_str(const struct db_result *r, int row, int col); /* NULL for SQL's NULL */
int64_t db_int(const struct db_result *r, int row, int col);     /* 0 for NULL */
double db_real(const struct db_result *r, int row, int col);
bool db_bool(const struct db_result *r, int row, int col);
size_t db_len(const struct db_result *r, int row, int col);
/* Decodes a bytea of exactly len bytes: 0, -EINVAL (another length, NULL). */
must_check int db_bytes(const struct db_result *r, int row, int col, void *dst, size_t len);
/* Copies a text that is not NULL: 0, -ENODATA (NULL; dst is ""), -ENOBUFS. */
must_check int db_copy(const struct db_result *r, int row, int col, char *dst, size_t size);
/* Fills err: "what: <what the server said>"; returns -EAGAIN (gone, full, conflict, timeout),
 * -EEXIST (23505), -EINVAL (other constraints), -EIO. */
int db_fail(const struct db_result *r, struct qvd_error *err, const char *what);

/* Counters, for logs and tests. */
struct db_stats {
    uint64_t queries, retries, connects, losses;
    uint64_t parses; /* queries whose text was sent: those for which the server kept no statement */
    unsigned open, waiting;
};
void db_get_stats(const struct db *db, struct db_stats *ret);
