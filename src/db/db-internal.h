// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of db share: results, units (what goes over a connection up to one Sync), requests
 * (what somebody asked for), connections and the pool. */

#include <libpq-fe.h>

#include "base/list.h"
#include "base/map.h"
#include "db/db.h"
#include "ev/ev.h"

enum {
    DB_PIPELINE_MAX = 8,   /* units in flight on one connection */
    DB_PREPARED_MAX = 100, /* statements that the server keeps for one connection */
    DB_ATTEMPTS_MAX = 4,   /* of one request: the first and three repetitions */
    DB_STATEMENT_TIMEOUT_MS = 5000,
    DB_CONNECT_TIMEOUT_MS = 10000,
    DB_NAMES_WAIT_MS = 1000, /* for addresses before a connect; the name server may be away too */
    DB_NOTIFY_BATCH = 64,
    DB_NOTIFY_LATER_MS = 100,
    DB_CHANNEL_MAX = 63,
    DB_PAYLOAD_MAX = 255,
};

struct db_result {
    enum db_status status;
    PGresult *pg;                  /* may be NULL */
    const struct db_result *first; /* of the batch it belongs to */
    size_t n;                      /* of the batch */
    char sqlstate[6];
    char error[256];
};

void db_result_done(struct db_result *r);
/* Takes pg and sorts it: what a statement's answer means. */
void db_result_set(struct db_result *r, PGresult *pg);
void db_result_fail(struct db_result *r, enum db_status status, const char *text);

/* A statement with its parameters as libpq takes them; one allocation. */
struct stmt {
    const char *sql;
    int n;
    const char **values; /* NULL for SQL's NULL */
    char *data;
    bool built;   /* for this one time: not worth a name */
    bool named;   /* sent by its name */
    bool parsing; /* the answer to come is that of its Parse */
};
must_check int stmt_init(struct stmt *s, const char *sql, const struct db_param *params);
void stmt_done(struct stmt *s);

struct conn;
/* Sends it, without a Sync, by the name that it has or gets on this connection (prepared.c). */
must_check bool prepared_send(struct conn *c, struct stmt *s);
/* Its Parse was answered. */
void prepared_answered(struct conn *c, const struct stmt *s, bool ok);
/* A failure that comes of the name becomes a conflict, and the connection is stale. */
void prepared_check(struct conn *c, const struct stmt *s, struct db_result *r);
/* All names are gone, with the connection. */
void prepared_done(struct conn *c);

/* Statements sent together and ended by one Sync. answered(): all results are in; or lost = true:
 * the connection went. The unit is in no list then. */
struct unit {
    struct list node;
    struct stmt *stmts;
    struct db_result *results;
    size_t n, at;
    bool got; /* a result of stmts[at] was read */
    void (*answered)(struct unit *u, bool lost);
};
must_check int unit_init(struct unit *u, const struct db_stmt *stmts, size_t n,
                         void (*answered)(struct unit *u, bool lost));
void unit_done(struct unit *u);
/* Forgets what was read, to be sent again. */
void unit_reset(struct unit *u);
/* The first failure, else the last result. */
struct db_result *unit_result(struct unit *u);

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_READY };

struct conn {
    struct db *db;
    bool listener;
    enum conn_state state;
    bool broken; /* to be torn down at the end of the turn */
    char why[256];
    PGconn *pg;
    struct ev_io *io;
    struct ev_timer *timer; /* connecting: its limit; ready: idle */
    struct ev_deferred teardown;
    struct list in_flight;
    unsigned n_in_flight;
    struct db_request *txn; /* whom it is reserved for */
    struct map *prepared;   /* text -> struct prepared; NULL: none */
    unsigned names;         /* given */
    bool stale;             /* to be replaced as soon as nothing is on it */
};

must_check int conn_init(struct conn *c, struct db *db, bool listener);
void conn_done(struct conn *c);
/* Begins to connect. Whatever becomes of it is told to db_conn_ready() or db_conn_lost(). */
void conn_open(struct conn *c);
/* Marks it as lost; the owners of its units hear of it at the end of the turn. */
void conn_break(struct conn *c, const char *why);
/* Sends the unit and its Sync; a failure breaks the connection. */
void conn_send(struct conn *c, struct unit *u);
bool conn_usable(const struct conn *c);

/* What a connection tells the pool. */
void db_conn_ready(struct conn *c);
void db_conn_lost(struct conn *c, bool was_ready); /* before its units hear of it */
void db_conn_free(struct conn *c);                 /* one unit less is in flight */
void db_notified(struct db *db, const char *channel, const char *payload);

enum request_kind { REQUEST_BATCH, REQUEST_TXN };
enum request_state { REQUEST_QUEUED, REQUEST_SENT, REQUEST_FINISHED };

struct db_request {
    struct list node; /* in db->queue, db->sent or db->finished */
    struct db *db;
    enum request_kind kind;
    enum request_state state;
    unsigned flags, attempts;
    bool cancelled;
    void *own; /* freed with it */
    struct ev_timer *deadline;
    struct conn *conn; /* while sent */
    struct unit unit;  /* BATCH */
    db_done_fn *done;
    void *arg;
    struct db_txn *txn;       /* TXN */
    struct db_result verdict; /* when there is no result of a statement to show */
};

struct db_txn {
    struct db_request *request;
    db_run_fn *run;
    bool running; /* between BEGIN and the end */
    bool ending;  /* COMMIT or ROLLBACK is on its way, or nothing more is to be sent */
    bool commit;
    struct db_result failure; /* status DB_OK: none */
    struct list steps;        /* in flight */
};

/* Pool's side of requests. */
void db_pump(struct db *db);
/* Answers the request: in this turn's end, or at once when now (only from the loop). */
void request_finish(struct db_request *q, const struct db_result *r);
void request_again(struct db_request *q);
void request_free(struct db_request *q);

/* Starts the transaction on its connection, which has nothing in flight. */
void txn_start(struct db_request *q);
/* Its connection went while no statement was on its way. */
void txn_lost(struct db_txn *t);
void txn_free(struct db_txn *t);

struct listening {
    struct list node;
    char channel[DB_CHANNEL_MAX + 1];
    char sql[DB_CHANNEL_MAX + 16];
    db_notify_fn *fn; /* NULL: taken away while the loop walks */
    void *arg;
};

struct notice {
    struct list node;
    char channel[DB_CHANNEL_MAX + 1];
    char payload[DB_PAYLOAD_MAX + 1];
};

/* The look-up of the target's names (names.c). */
struct names {
    bool any; /* some of its hosts are names */
    bool waited_for, too_long;
    struct ev_resolve *lookup;  /* NULL: none is under way */
    const char *host, *address; /* how far the lists are walked */
    char former[64], found[256];
};

struct db {
    struct ev_loop *loop;
    struct db_target target;
    struct names names;
    struct db_options options;
    char name[64];
    struct conn *conns;
    struct conn listener;
    struct list queue, sent, finished;
    unsigned n_queued;
    struct ev_deferred flush; /* answers the finished, sends the notices */
    struct ev_timer *retry;   /* armed: nothing is opened until it fires */
    struct ev_timer *later;   /* armed: sends the notices that are in no hurry */
    unsigned backoff_ms;
    bool down;
    char down_why[256];
    struct list listenings, notices;
    unsigned n_notices, listens_pending;
    bool listening;
    void (*on_listening)(void *arg);
    void *on_listening_arg;
    void (*on_change)(void *arg, bool up);
    void *on_change_arg;
    struct db_stats stats;
};

/* target.c: appends a word to a list; 0 or -errno. */
must_check int target_add(char *dst, size_t size, const char *word);
/* The first address in digits; 0 or an error of getnameinfo(). */
struct addrinfo;
must_check int target_address(const struct addrinfo *list, char *dst, size_t size);

/* Is there a name among the target's hosts? */
bool names_any(const struct db_target *t);
/* Begins to look them up, unless that is under way: the target then has the new addresses. */
void names_look_up(struct db *db);
/* Is a look-up worth to be waited for, once? It then lets the retry come when it is done. */
bool names_wait(struct db *db);
void names_done(struct db *db);

/* The LISTEN side (listen.c). */
void listen_ready(struct db *db);
void listen_lost(struct db *db);
void listen_done(struct db *db);
void listen_send_notices(struct db *db);
