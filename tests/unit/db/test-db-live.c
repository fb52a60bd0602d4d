// SPDX-License-Identifier: GPL-3.0-or-later

/* db against a real PostgreSQL: run by tests/e2e/test_db.py, which makes the server and names it in
 * QVD_TEST_DB_HOST, QVD_TEST_DB_NAME. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"
#include "db/db.h"
#include "ev/ev.h"

struct fixture {
    struct ev_loop *loop;
    struct db *db, *other;
};

static struct db *open_db(struct ev_loop *loop, const struct db_options *options)
{
    struct db_target t = {.user = "postgres"};
    struct db *db;

    assert_int_equal(str_copy(t.host, sizeof t.host, getenv("QVD_TEST_DB_HOST")), 0);
    assert_int_equal(str_copy(t.name, sizeof t.name, getenv("QVD_TEST_DB_NAME")), 0);
    assert_int_equal(db_new(loop, &t, options, &db), 0);
    return db;
}

static int setup(void **state)
{
    static struct fixture f;
    struct db_options options = {.name = "test",
                                 .connections = 2,
                                 .queue_max = 50,
                                 .deadline_ms = 3000,
                                 .idle_ms = 60000,
                                 .backoff_min_ms = 20,
                                 .backoff_max_ms = 100};

    assert_int_equal(ev_loop_new(&f.loop), 0);
    f.db = open_db(f.loop, &options);
    options.name = "other";
    f.other = open_db(f.loop, &options);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->db = db_free(f->db);
    f->other = db_free(f->other);
    f->loop = ev_loop_free(f->loop);
    return 0;
}

/* What an answer was, kept after it is gone. */
struct answer {
    int calls;
    enum db_status status;
    char text[256], sqlstate[6], constraint[64];
    int rows;
    int64_t affected;
    char value[64];
};

static void keep(void *arg, const struct db_result *r)
{
    struct answer *a = arg;

    a->calls++;
    a->status = db_status(r);
    a->rows = db_rows(r);
    a->affected = db_affected(r);
    (void)snprintf(a->text, sizeof a->text, "%s", db_error(r));
    (void)snprintf(a->sqlstate, sizeof a->sqlstate, "%s", db_sqlstate(r));
    (void)snprintf(a->constraint, sizeof a->constraint, "%s", db_constraint(r));
    (void)snprintf(a->value, sizeof a->value, "%s", db_str(r, 0, 0) ? db_str(r, 0, 0) : "-");
}

static void turn_until(struct fixture *f, const int *calls, int n)
{
    int64_t end = clock_ms() + 20000;

    while (*calls < n && clock_ms() < end)
        ev_loop_turn(f->loop, true);
    assert_int_equal(*calls, n);
}

static struct answer ask(struct fixture *f, struct db *db, const char *sql,
                         const struct db_param *params, unsigned flags)
{
    struct answer a = {0};

    assert_non_null(db_query(db, sql, params, flags, keep, &a));
    assert_int_equal(a.calls, 0); /* never inside the call */
    turn_until(f, &a.calls, 1);
    return a;
}

static void table(struct fixture *f)
{
    struct answer a = ask(f, f->db, "DROP TABLE IF EXISTS t", NULL, 0);

    assert_int_equal(a.status, DB_OK);
    a = ask(f, f->db, "CREATE TABLE t (id int CONSTRAINT t_id_key UNIQUE, v int CHECK (v < 100))",
            NULL, 0);
    assert_int_equal(a.status, DB_OK);
}

static void check_values(void *arg, const struct db_result *r)
{
    uint8_t bytes[3];
    char text[8];

    assert_int_equal(db_status(r), DB_OK);
    assert_int_equal(db_int(r, 0, 0), INT64_MIN);
    assert_string_equal(db_str(r, 0, 1), "it's \"$1\"");
    assert_true(db_null(r, 0, 2));
    assert_null(db_str(r, 0, 2));
    assert_true(db_bool(r, 0, 3));
    assert_true(db_real(r, 0, 4) == 0.1);
    assert_int_equal(db_bytes(r, 0, 5, bytes, 3), 0);
    assert_memory_equal(bytes, "\0\xff\x7f", 3);
    assert_int_equal(db_bytes(r, 0, 5, bytes, 2), -EINVAL);
    assert_string_equal(db_str(r, 0, 6), "10.0.0.7");
    assert_true(db_null(r, 0, 7));
    assert_int_equal(db_copy(r, 0, 1, text, sizeof text), -ENOBUFS);
    assert_int_equal(db_copy(r, 0, 2, text, sizeof text), -ENODATA);
    assert_true(db_null(r, 1, 0));
    assert_true(db_null(r, 0, 8));
    ++*(int *)arg;
}

static void test_values(void **state)
{
    struct fixture *f = *state;
    int calls = 0;

    assert_non_null(
        db_query(f->db,
                 "SELECT $1::bigint, $2::text, $3::text, $4::boolean, $5::float8, $6::bytea, "
                 "host($7::inet), $8::bigint",
                 DB_PARAMS(DB_INT(INT64_MIN), DB_TEXT("it's \"$1\""), DB_NULL, DB_BOOL(true),
                           DB_REAL(0.1), DB_BYTES("\0\xff\x7f", 3), DB_TEXT("10.0.0.7"), DB_ID(0)),
                 0, check_values, &calls));
    turn_until(f, &calls, 1);
}

static void test_session(void **state)
{
    struct fixture *f = *state;
    struct answer a = ask(f, f->db,
                          "SELECT concat_ws(' ', current_setting('statement_timeout'), "
                          "current_setting('default_transaction_isolation'), "
                          "current_setting('qvd.notify'), current_setting('timezone'), "
                          "current_setting('application_name'))",
                          NULL, 0);

    assert_string_equal(a.value, "5s read committed store UTC test");
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct answer a;

    table(f);
    a = ask(f, f->db, "INSERT INTO t VALUES (1, 1)", NULL, 0);
    assert_int_equal(a.affected, 1);
    a = ask(f, f->db, "INSERT INTO t VALUES (1, 1)", NULL, 0);
    assert_int_equal(a.status, DB_CONSTRAINT);
    assert_string_equal(a.constraint, "t_id_key");
    assert_string_equal(a.sqlstate, "23505");
    a = ask(f, f->db, "INSERT INTO t VALUES (2, 100)", NULL, 0);
    assert_int_equal(a.status, DB_CONSTRAINT);
    assert_string_equal(a.constraint, "t_v_check");
    a = ask(f, f->db, "SELEKT", NULL, 0);
    assert_int_equal(a.status, DB_ERROR);
    assert_string_equal(a.text, "syntax error at or near \"SELEKT\"");
    a = ask(f, f->db, "UPDATE t SET v = 5 WHERE id = 99", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    assert_int_equal(a.affected, 0);
}

static void test_many_at_once(void **state)
{
    struct fixture *f = *state;
    struct answer a[40] = {0};
    int calls = 0;
    struct db_stats stats;

    for (int i = 0; i < 40; i++)
        assert_non_null(
            db_query(f->db, "SELECT $1::int * 2", DB_PARAMS(DB_INT(i)), 0, keep, &a[i]));
    for (int i = 0; i < 40; i++) {
        char expected[8];

        turn_until(f, &a[i].calls, 1);
        (void)snprintf(expected, sizeof expected, "%d", 2 * i);
        assert_string_equal(a[i].value, expected);
        calls += a[i].calls;
    }
    assert_int_equal(calls, 40);
    db_get_stats(f->db, &stats);
    assert_true(stats.open <= 2);
    assert_int_equal(stats.queries, 40);
}

static void test_queue_limit(void **state)
{
    struct fixture *f = *state;
    struct answer a[60] = {0};
    int full = 0;

    for (int i = 0; i < 60; i++)
        assert_non_null(db_query(f->db, "SELECT 1", NULL, 0, keep, &a[i]));
    for (int i = 0; i < 60; i++) {
        turn_until(f, &a[i].calls, 1);
        assert_true(a[i].status == DB_OK || a[i].status == DB_FULL);
        full += a[i].status == DB_FULL;
    }
    assert_int_equal(full, 10);
}

static void check_batch(void *arg, const struct db_result *r)
{
    assert_int_equal(db_status(r), DB_OK);
    assert_int_equal(db_int(db_result_of(r, 0), 0, 0), 7);
    assert_int_equal(db_affected(db_result_of(r, 1)), 1);
    assert_int_equal(db_int(r, 0, 0), 1);
    ++*(int *)arg;
}

static void test_batch(void **state)
{
    struct fixture *f = *state;
    struct db_stmt good[] = {
        {"SELECT 7",                  NULL                },
        {"INSERT INTO t VALUES ($1)", DB_PARAMS(DB_INT(5))},
        {"SELECT count(*) FROM t",    NULL                },
    };
    struct db_stmt bad[] = {
        {"INSERT INTO t VALUES (6)", NULL},
        {"INSERT INTO t VALUES (5)", NULL},
        {"INSERT INTO t VALUES (7)", NULL},
    };
    struct answer a = {0};
    int calls = 0;

    table(f);
    assert_non_null(db_batch(f->db, good, 3, 0, check_batch, &calls));
    turn_until(f, &calls, 1);
    assert_non_null(db_batch(f->db, bad, 3, 0, keep, &a));
    turn_until(f, &a.calls, 1);
    assert_int_equal(a.status, DB_CONSTRAINT);
    a = ask(f, f->db, "SELECT string_agg(id::text, ',') FROM t", NULL, 0);
    assert_string_equal(a.value, "5");
}

/* Transactions: read, decide, write. */
struct counter {
    int runs, steps;
    enum { GO, STOP, SPOIL } what;
    struct fixture *f;
    struct answer answer;
};

static void write_step(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct counter *c = arg;

    c->steps++;
    assert_int_equal(db_status(r), DB_OK);
    if (c->what == STOP) {
        db_txn_abort(t);
        return;
    }
    db_txn_query(t, "UPDATE t SET v = $1 WHERE id = 1", DB_PARAMS(DB_INT(db_int(r, 0, 0) + 1)),
                 NULL, NULL);
    if (c->what == SPOIL)
        db_txn_query(t, "UPDATE t SET v = 1000", NULL, NULL, NULL);
    db_txn_commit(t);
}

static void run(struct db_txn *t, void *arg)
{
    struct counter *c = arg;

    c->runs++;
    db_txn_query(t, "SELECT v FROM t WHERE id = 1 FOR UPDATE", NULL, write_step, c);
}

static void txn_done(void *arg, const struct db_result *r)
{
    keep(&((struct counter *)arg)->answer, r);
}

static void test_txn(void **state)
{
    struct fixture *f = *state;
    struct counter c[12] = {0};
    struct answer a;

    table(f);
    (void)ask(f, f->db, "INSERT INTO t VALUES (1, 0)", NULL, 0);
    for (int i = 0; i < 12; i++) {
        c[i].what = i % 4 == 1 ? STOP : i % 4 == 2 ? SPOIL : GO;
        assert_non_null(db_txn(f->db, 0, run, txn_done, &c[i]));
    }
    for (int i = 0; i < 12; i++) {
        turn_until(f, &c[i].answer.calls, 1);
        assert_int_equal(c[i].runs, 1);
        assert_int_equal(c[i].answer.status, c[i].what == SPOIL ? DB_CONSTRAINT : DB_OK);
    }
    a = ask(f, f->db, "SELECT v FROM t", NULL, 0);
    assert_string_equal(a.value, "6");
}

/* Two transactions that take two rows crosswise: one is a deadlock's victim and runs again. */
struct crossing {
    struct fixture *f;
    struct crossing *peer;
    int first, runs;
    bool holds;
    struct db_txn *waiting;
    struct answer answer;
};

static void second_row(struct crossing *c)
{
    db_txn_query(c->waiting, "UPDATE t SET v = v + 1 WHERE id = $1",
                 DB_PARAMS(DB_INT(3 - c->first)), NULL, NULL);
    db_txn_commit(c->waiting);
    c->waiting = NULL;
}

static void first_locked(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct crossing *c = arg;

    c->holds = true;
    c->waiting = t;
    if (!c->peer->holds)
        return;
    second_row(c);
    if (c->peer->waiting)
        second_row(c->peer);
}

static void cross(struct db_txn *t, void *arg)
{
    struct crossing *c = arg;

    c->runs++;
    db_txn_query(t, "SET LOCAL deadlock_timeout = '50ms'", NULL, NULL, NULL);
    db_txn_query(t, "UPDATE t SET v = v + 1 WHERE id = $1", DB_PARAMS(DB_INT(c->first)),
                 first_locked, c);
}

static void crossed(void *arg, const struct db_result *r)
{
    keep(&((struct crossing *)arg)->answer, r);
}

static void test_deadlock_runs_again(void **state)
{
    struct fixture *f = *state;
    struct crossing a = {f, NULL, 1, 0, false, NULL, {0}}, b = {f, &a, 2, 0, false, NULL, {0}};
    struct answer sum;

    a.peer = &b;
    table(f);
    (void)ask(f, f->db, "INSERT INTO t VALUES (1, 0), (2, 0)", NULL, 0);
    assert_non_null(db_txn(f->db, 0, cross, crossed, &a));
    assert_non_null(db_txn(f->db, 0, cross, crossed, &b));
    turn_until(f, &a.answer.calls, 1);
    turn_until(f, &b.answer.calls, 1);
    assert_int_equal(a.answer.status, DB_OK);
    assert_int_equal(b.answer.status, DB_OK);
    assert_int_equal(a.runs + b.runs, 3);
    sum = ask(f, f->db, "SELECT sum(v) FROM t", NULL, 0);
    assert_string_equal(sum.value, "4");
}

/* Notifications. */
struct ear {
    int heard, listening;
    char last[64];
};

static void hear(void *arg, const char *channel, const char *payload)
{
    struct ear *e = arg;

    e->heard++;
    (void)snprintf(e->last, sizeof e->last, "%s:%s", channel, payload);
}

static void is_listening(void *arg)
{
    ((struct ear *)arg)->listening++;
}

static void test_notify(void **state)
{
    struct fixture *f = *state;
    struct ear e = {0};
    struct answer a;

    db_on_listening(f->db, is_listening, &e);
    assert_int_equal(db_listen(f->db, "h5", hear, &e), 0);
    assert_int_equal(db_listen(f->db, "h5", hear, &e), -EEXIST);
    assert_int_equal(db_listen(f->db, "x\"; DROP", hear, &e), -EINVAL);
    turn_until(f, &e.listening, 1);
    assert_true(db_is_listening(f->db));
    db_notify_id(f->other, "h5", "vm", 42);
    db_notify_id(f->other, "h5", "vm", 42); /* the same, sent once */
    db_notify_id(f->other, "h6", "vm", 43);
    db_notify_id(f->other, "h5", "vm", 44);
    turn_until(f, &e.heard, 2);
    assert_string_equal(e.last, "h5:vm 44");
    assert_int_equal(db_listen(f->db, "h6", hear, &e), 0);
    turn_until(f, &e.listening, 2);
    db_unlisten(f->db, "h5");
    a = ask(f, f->other, "SELECT pg_notify('h5', 'x'), pg_notify('h6', 'y')", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    turn_until(f, &e.heard, 3);
    assert_string_equal(e.last, "h6:y");
}

/* A notification's transaction must not wait for the disk. */
static void check_async(void *arg, const struct db_result *r)
{
    assert_string_equal(db_str(r, 0, 0), "off");
    ++*(int *)arg;
}

static void test_async_commit_holds_in_a_batch(void **state)
{
    struct fixture *f = *state;
    struct db_stmt stmts[] = {
        {"SELECT set_config('synchronous_commit', 'off', true)", NULL},
        {"SELECT current_setting('synchronous_commit')",         NULL},
    };
    int calls = 0;
    struct answer a;

    assert_non_null(db_batch(f->db, stmts, 2, 0, check_async, &calls));
    turn_until(f, &calls, 1);
    a = ask(f, f->db, "SELECT current_setting('synchronous_commit')", NULL, 0);
    assert_string_equal(a.value, "on");
}

static const char kill_all[] = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                               "WHERE application_name = 'test'";

static void note_change(void *arg, bool up)
{
    int *n = arg;

    n[up ? 1 : 0]++;
}

/* All connections are killed: a repeatable request is sent again, another one fails, LISTEN comes
 * back and tells so. */
static void test_loss(void **state)
{
    struct fixture *f = *state;
    struct ear e = {0};
    struct answer slow = {0}, once = {0}, a;
    int changes[2] = {0};
    struct db_stats stats;

    db_on_listening(f->db, is_listening, &e);
    db_on_change(f->db, note_change, changes);
    assert_int_equal(db_listen(f->db, "h5", hear, &e), 0);
    turn_until(f, &e.listening, 1);
    a = ask(f, f->db, "SELECT 1", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    assert_non_null(db_query(f->db, "SELECT pg_sleep(0.3)", NULL, DB_REPEAT, keep, &slow));
    assert_non_null(db_query(f->db, "SELECT pg_sleep(0.31)", NULL, 0, keep, &once));
    do {
        a = ask(f, f->other,
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", NULL,
                0);
    } while (strcmp(a.value, "2") != 0);
    a = ask(f, f->other, kill_all, NULL, 0);
    assert_string_equal(a.value, "3");
    turn_until(f, &once.calls, 1);
    assert_int_equal(once.status, DB_GONE);
    turn_until(f, &slow.calls, 1);
    assert_int_equal(slow.status, DB_OK);
    turn_until(f, &e.listening, 2);
    assert_int_equal(changes[0], 1);
    assert_int_equal(changes[1], 1);
    db_notify(f->other, "h5", "after");
    turn_until(f, &e.heard, 1);
    db_get_stats(f->db, &stats);
    assert_int_equal(stats.losses, 3);
    assert_string_equal(db_why_down(f->db), "");
}

/* Killed in the middle of a transaction, while nothing is on its way: it runs again. */
struct killed {
    struct fixture *f;
    int runs, killed;
    struct answer answer;
};

static void all_killed(void *arg, const struct db_result *r)
{
    ((struct killed *)arg)->killed++;
}

static void then_kill(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct killed *k = arg;

    if (k->runs == 1)
        assert_non_null(db_query(k->f->other, kill_all, NULL, 0, all_killed, k));
    else
        db_txn_commit(t);
}

static void run_killed(struct db_txn *t, void *arg)
{
    struct killed *k = arg;

    k->runs++;
    db_txn_query(t, "UPDATE t SET v = v + 1", NULL, then_kill, k);
}

static void killed_done(void *arg, const struct db_result *r)
{
    keep(&((struct killed *)arg)->answer, r);
}

static void test_loss_in_txn(void **state)
{
    struct fixture *f = *state;
    struct killed repeat = {.f = f}, once = {.f = f};
    struct answer a;

    table(f);
    (void)ask(f, f->db, "INSERT INTO t VALUES (1, 0)", NULL, 0);
    assert_non_null(db_txn(f->db, DB_REPEAT, run_killed, killed_done, &repeat));
    turn_until(f, &repeat.answer.calls, 1);
    assert_int_equal(repeat.answer.status, DB_OK);
    assert_int_equal(repeat.runs, 2);
    assert_non_null(db_txn(f->db, 0, run_killed, killed_done, &once));
    turn_until(f, &once.answer.calls, 1);
    assert_int_equal(once.answer.status, DB_GONE);
    assert_int_equal(once.runs, 1);
    a = ask(f, f->db, "SELECT v FROM t", NULL, DB_REPEAT);
    assert_string_equal(a.value, "1");
}

/* A transaction whose owner never ends it: the deadline does. */
static void run_nothing(struct db_txn *t, void *arg)
{
    ++((struct killed *)arg)->runs;
}

static void test_deadlines(void **state)
{
    struct fixture *f = *state;
    struct db_options options = {.name = "test", .deadline_ms = 300, .backoff_min_ms = 20};
    struct db *db = open_db(f->loop, &options);
    struct killed k = {.f = f};
    struct answer a;
    int64_t begin = clock_ms();

    assert_non_null(db_txn(db, DB_REPEAT, run_nothing, killed_done, &k));
    turn_until(f, &k.answer.calls, 1);
    assert_int_equal(k.answer.status, DB_GONE);
    assert_string_equal(k.answer.text, "no answer within 300 ms");
    assert_in_range(clock_ms() - begin, 290, 1500);
    assert_int_equal(k.runs, 1);
    a = ask(f, db, "SELECT pg_sleep(3)", NULL, DB_REPEAT);
    assert_int_equal(a.status, DB_GONE);
    a = ask(f, db, "SELECT 1", NULL, DB_REPEAT);
    assert_int_equal(a.status, DB_OK);
    db_free(db);
}

static void test_statement_timeout(void **state)
{
    struct fixture *f = *state;
    struct db_stmt stmts[] = {
        {"SET LOCAL statement_timeout = '100ms'", NULL},
        {"SELECT pg_sleep(2)",                    NULL},
    };
    struct answer a = {0};

    assert_non_null(db_batch(f->db, stmts, 2, 0, keep, &a));
    turn_until(f, &a.calls, 1);
    assert_int_equal(a.status, DB_TIMEOUT);
}

static void test_unreachable(void **state)
{
    struct fixture *f = *state;
    struct db_target t = {.host = "/nonexistent", .user = "postgres", .name = "x"};
    struct db_options options = {.deadline_ms = 200, .backoff_min_ms = 20, .backoff_max_ms = 40};
    struct db *db;
    struct answer a;
    struct db_stats stats;
    int changes[2] = {0};

    assert_int_equal(db_new(f->loop, &t, &options, &db), 0);
    db_on_change(db, note_change, changes);
    a = ask(f, db, "SELECT 1", NULL, DB_REPEAT);
    assert_int_equal(a.status, DB_GONE);
    assert_non_null(strstr(a.text, "no connection within 200 ms: "));
    assert_non_null(strstr(a.text, "/nonexistent"));
    db_get_stats(db, &stats);
    assert_in_range(stats.connects, 3, 21); /* pauses of 10..60 ms */
    assert_int_equal(changes[0], 1);
    db_free(db);
}

static void test_idle_close(void **state)
{
    struct fixture *f = *state;
    struct db_options options = {.name = "idle", .idle_ms = 50};
    struct db *db = open_db(f->loop, &options);
    struct answer a = ask(f, db, "SELECT 1", NULL, 0);
    struct db_stats stats;
    int64_t end = clock_ms() + 5000;

    assert_int_equal(a.status, DB_OK);
    do {
        ev_loop_turn(f->loop, true);
        db_get_stats(db, &stats);
    } while (stats.open > 0 && clock_ms() < end);
    assert_int_equal(stats.open, 0);
    assert_int_equal(stats.losses, 0);
    a = ask(f, db, "SELECT 1", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    db_get_stats(db, &stats);
    assert_int_equal(stats.connects, 2);
    db_free(db);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct answer cancelled = {0}, queued = {0}, a;
    struct db_request *q = db_query(f->db, "SELECT 1", NULL, 0, keep, &cancelled);
    struct killed k = {.f = f};
    struct db_request *t;

    db_cancel(q); /* queued: no connection yet */
    a = ask(f, f->db, "SELECT 2", NULL, 0);
    q = db_query(f->db, "SELECT 3", NULL, 0, keep, &queued);
    db_cancel(q); /* sent */
    t = db_txn(f->db, 0, run_nothing, killed_done, &k);
    while (k.runs == 0)
        ev_loop_turn(f->loop, true);
    db_cancel(t);
    a = ask(f, f->db, "SELECT 4", NULL, 0);
    assert_string_equal(a.value, "4");
    assert_int_equal(cancelled.calls + queued.calls + k.answer.calls, 0);
}

static void test_free_with_work(void **state)
{
    struct fixture *f = *state;
    struct answer a[20] = {0};
    struct killed k = {.f = f};

    assert_non_null(db_txn(f->db, 0, run_nothing, killed_done, &k));
    assert_int_equal(db_listen(f->db, "h1", hear, NULL), 0);
    for (int i = 0; i < 20; i++)
        assert_non_null(db_query(f->db, "SELECT 1", NULL, 0, keep, &a[i]));
    while (k.runs == 0)
        ev_loop_turn(f->loop, true);
    db_notify(f->db, "h1", "x");
    f->db = db_free(f->db);
    for (int i = 0; i < 10; i++)
        ev_loop_turn(f->loop, false);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_values),      LIVE(test_session),
        LIVE(test_errors),      LIVE(test_many_at_once),
        LIVE(test_queue_limit), LIVE(test_batch),
        LIVE(test_txn),         LIVE(test_deadlock_runs_again),
        LIVE(test_notify),      LIVE(test_async_commit_holds_in_a_batch),
        LIVE(test_loss),        LIVE(test_loss_in_txn),
        LIVE(test_deadlines),   LIVE(test_statement_timeout),
        LIVE(test_unreachable), LIVE(test_idle_close),
        LIVE(test_cancel),      LIVE(test_free_with_work),
    };

    if (!getenv("QVD_TEST_DB_HOST") || !getenv("QVD_TEST_DB_NAME")) {
        fputs("QVD_TEST_DB_HOST and QVD_TEST_DB_NAME must be set\n", stderr);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
