// SPDX-License-Identifier: GPL-3.0-or-later

/* db against a real PostgreSQL: run by tests/e2e/test_db.py, which makes the server and names it in
 * QVD_TEST_DB_HOST, QVD_TEST_DB_NAME. */

#include "live.h"

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
    live_turn_until(f, &calls, 1);
}

static void test_session(void **state)
{
    struct fixture *f = *state;
    struct answer a = live_ask(f, f->db,
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

    live_table(f);
    a = live_ask(f, f->db, "INSERT INTO t VALUES (1, 1)", NULL, 0);
    assert_int_equal(a.affected, 1);
    a = live_ask(f, f->db, "INSERT INTO t VALUES (1, 1)", NULL, 0);
    assert_int_equal(a.status, DB_CONSTRAINT);
    assert_string_equal(a.constraint, "t_id_key");
    assert_string_equal(a.sqlstate, "23505");
    a = live_ask(f, f->db, "INSERT INTO t VALUES (2, 100)", NULL, 0);
    assert_int_equal(a.status, DB_CONSTRAINT);
    assert_string_equal(a.constraint, "t_v_check");
    a = live_ask(f, f->db, "SELEKT", NULL, 0);
    assert_int_equal(a.status, DB_ERROR);
    assert_string_equal(a.text, "syntax error at or near \"SELEKT\"");
    a = live_ask(f, f->db, "UPDATE t SET v = 5 WHERE id = 99", NULL, 0);
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
            db_query(f->db, "SELECT $1::int * 2", DB_PARAMS(DB_INT(i)), 0, live_keep, &a[i]));
    for (int i = 0; i < 40; i++) {
        char expected[8];

        live_turn_until(f, &a[i].calls, 1);
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
        assert_non_null(db_query(f->db, "SELECT 1", NULL, 0, live_keep, &a[i]));
    for (int i = 0; i < 60; i++) {
        live_turn_until(f, &a[i].calls, 1);
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

    live_table(f);
    assert_non_null(db_batch(f->db, good, 3, 0, check_batch, &calls));
    live_turn_until(f, &calls, 1);
    assert_non_null(db_batch(f->db, bad, 3, 0, live_keep, &a));
    live_turn_until(f, &a.calls, 1);
    assert_int_equal(a.status, DB_CONSTRAINT);
    a = live_ask(f, f->db, "SELECT string_agg(id::text, ',') FROM t", NULL, 0);
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
    live_keep(&((struct counter *)arg)->answer, r);
}

static void test_txn(void **state)
{
    struct fixture *f = *state;
    struct counter c[12] = {0};
    struct answer a;

    live_table(f);
    (void)live_ask(f, f->db, "INSERT INTO t VALUES (1, 0)", NULL, 0);
    for (int i = 0; i < 12; i++) {
        c[i].what = i % 4 == 1 ? STOP : i % 4 == 2 ? SPOIL : GO;
        assert_non_null(db_txn(f->db, 0, run, txn_done, &c[i]));
    }
    for (int i = 0; i < 12; i++) {
        live_turn_until(f, &c[i].answer.calls, 1);
        assert_int_equal(c[i].runs, 1);
        assert_int_equal(c[i].answer.status, c[i].what == SPOIL ? DB_CONSTRAINT : DB_OK);
    }
    a = live_ask(f, f->db, "SELECT v FROM t", NULL, 0);
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
    live_keep(&((struct crossing *)arg)->answer, r);
}

static void test_deadlock_runs_again(void **state)
{
    struct fixture *f = *state;
    struct crossing a = {f, NULL, 1, 0, false, NULL, {0}}, b = {f, &a, 2, 0, false, NULL, {0}};
    struct answer sum;

    a.peer = &b;
    live_table(f);
    (void)live_ask(f, f->db, "INSERT INTO t VALUES (1, 0), (2, 0)", NULL, 0);
    assert_non_null(db_txn(f->db, 0, cross, crossed, &a));
    assert_non_null(db_txn(f->db, 0, cross, crossed, &b));
    live_turn_until(f, &a.answer.calls, 1);
    live_turn_until(f, &b.answer.calls, 1);
    assert_int_equal(a.answer.status, DB_OK);
    assert_int_equal(b.answer.status, DB_OK);
    /* One at least was the victim and ran again, which may meet the other once more; neither more
     * than its first run and three repetitions. */
    assert_in_range(a.runs + b.runs, 3, 8);
    sum = live_ask(f, f->db, "SELECT sum(v) FROM t", NULL, 0);
    assert_string_equal(sum.value, "4");
}

static void test_notify(void **state)
{
    struct fixture *f = *state;
    struct ear e = {0};
    struct answer a;

    db_on_listening(f->db, live_is_listening, &e);
    assert_int_equal(db_listen(f->db, "h5", live_hear, &e), 0);
    assert_int_equal(db_listen(f->db, "h5", live_hear, &e), -EEXIST);
    assert_int_equal(db_listen(f->db, "x\"; DROP", live_hear, &e), -EINVAL);
    live_turn_until(f, &e.listening, 1);
    assert_true(db_is_listening(f->db));
    db_notify_id(f->other, "h5", "vm", 42);
    db_notify_id(f->other, "h5", "vm", 42); /* the same, sent once */
    db_notify_id(f->other, "h6", "vm", 43);
    db_notify_id(f->other, "h5", "vm", 44);
    live_turn_until(f, &e.heard, 2);
    assert_string_equal(e.last, "h5:vm 44");
    assert_int_equal(db_listen(f->db, "h6", live_hear, &e), 0);
    live_turn_until(f, &e.listening, 2);
    db_unlisten(f->db, "h5");
    a = live_ask(f, f->other, "SELECT pg_notify('h5', 'x'), pg_notify('h6', 'y')", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    live_turn_until(f, &e.heard, 3);
    assert_string_equal(e.last, "h6:y");
}

/* What is in no hurry goes with what is; alone it goes a moment later. */
static void test_notify_later(void **state)
{
    struct fixture *f = *state;
    struct ear e = {0};
    int64_t begin;

    db_on_listening(f->db, live_is_listening, &e);
    assert_int_equal(db_listen(f->db, "h5", live_hear, &e), 0);
    live_turn_until(f, &e.listening, 1);
    begin = clock_ms();
    db_notify_id_later(f->other, "h5", "vm", 1);
    live_turn_until(f, &e.heard, 1);
    assert_true(clock_ms() - begin >= 99);
    db_notify_id_later(f->other, "h5", "vm", 2);
    db_notify_id_later(f->other, "h5", "vm", 3);
    db_notify_id(f->other, "h5", "vm", 2); /* no longer later, and sent once */
    live_turn_until(f, &e.heard, 3);
    assert_string_equal(e.last, "h5:vm 3");
    db_notify_id(f->other, "h5", "vm", 4);
    live_turn_until(f, &e.heard, 4);
    assert_string_equal(e.last, "h5:vm 4");
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
    live_turn_until(f, &calls, 1);
    a = live_ask(f, f->db, "SELECT current_setting('synchronous_commit')", NULL, 0);
    assert_string_equal(a.value, "on");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_values),
        LIVE(test_session),
        LIVE(test_errors),
        LIVE(test_many_at_once),
        LIVE(test_queue_limit),
        LIVE(test_batch),
        LIVE(test_txn),
        LIVE(test_deadlock_runs_again),
        LIVE(test_notify),
        LIVE(test_notify_later),
        LIVE(test_async_commit_holds_in_a_batch),
    };

    return live_run(tests, ARRAY_SIZE(tests));
}
