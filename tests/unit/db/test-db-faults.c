// SPDX-License-Identifier: GPL-3.0-or-later

/* db when things go wrong: lost connections, deadlines, an absent server, cancelled requests. */

#include "live.h"

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

    db_on_listening(f->db, live_is_listening, &e);
    db_on_change(f->db, note_change, changes);
    assert_int_equal(db_listen(f->db, "h5", live_hear, &e), 0);
    live_turn_until(f, &e.listening, 1);
    a = live_ask(f, f->db, "SELECT 1", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    assert_non_null(db_query(f->db, "SELECT pg_sleep(0.3)", NULL, DB_REPEAT, live_keep, &slow));
    assert_non_null(db_query(f->db, "SELECT pg_sleep(0.31)", NULL, 0, live_keep, &once));
    do {
        a = live_ask(f, f->other,
                     "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'",
                     NULL, 0);
    } while (strcmp(a.value, "2") != 0);
    a = live_ask(f, f->other, kill_all, NULL, 0);
    assert_string_equal(a.value, "3");
    live_turn_until(f, &once.calls, 1);
    assert_int_equal(once.status, DB_GONE);
    live_turn_until(f, &slow.calls, 1);
    assert_int_equal(slow.status, DB_OK);
    live_turn_until(f, &e.listening, 2);
    assert_int_equal(changes[0], 1);
    assert_int_equal(changes[1], 1);
    db_notify(f->other, "h5", "after");
    live_turn_until(f, &e.heard, 1);
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
    live_keep(&((struct killed *)arg)->answer, r);
}

static void test_loss_in_txn(void **state)
{
    struct fixture *f = *state;
    struct killed repeat = {.f = f}, once = {.f = f};
    struct answer a;

    live_table(f);
    (void)live_ask(f, f->db, "INSERT INTO t VALUES (1, 0)", NULL, 0);
    assert_non_null(db_txn(f->db, DB_REPEAT, run_killed, killed_done, &repeat));
    live_turn_until(f, &repeat.answer.calls, 1);
    assert_int_equal(repeat.answer.status, DB_OK);
    assert_int_equal(repeat.runs, 2);
    assert_non_null(db_txn(f->db, 0, run_killed, killed_done, &once));
    live_turn_until(f, &once.answer.calls, 1);
    assert_int_equal(once.answer.status, DB_GONE);
    assert_int_equal(once.runs, 1);
    a = live_ask(f, f->db, "SELECT v FROM t", NULL, DB_REPEAT);
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
    struct db *db = live_open_db(f->loop, &options);
    struct killed k = {.f = f};
    struct answer a;
    int64_t begin = clock_ms();

    assert_non_null(db_txn(db, DB_REPEAT, run_nothing, killed_done, &k));
    live_turn_until(f, &k.answer.calls, 1);
    assert_int_equal(k.answer.status, DB_GONE);
    assert_string_equal(k.answer.text, "no answer within 300 ms");
    assert_in_range(clock_ms() - begin, 290, 1500);
    assert_int_equal(k.runs, 1);
    a = live_ask(f, db, "SELECT pg_sleep(3)", NULL, DB_REPEAT);
    assert_int_equal(a.status, DB_GONE);
    a = live_ask(f, db, "SELECT 1", NULL, DB_REPEAT);
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

    assert_non_null(db_batch(f->db, stmts, 2, 0, live_keep, &a));
    live_turn_until(f, &a.calls, 1);
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
    a = live_ask(f, db, "SELECT 1", NULL, DB_REPEAT);
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
    struct db *db = live_open_db(f->loop, &options);
    struct answer a = live_ask(f, db, "SELECT 1", NULL, 0);
    struct db_stats stats;
    int64_t end = clock_ms() + 5000;

    assert_int_equal(a.status, DB_OK);
    do {
        ev_loop_turn(f->loop, true);
        db_get_stats(db, &stats);
    } while (stats.open > 0 && clock_ms() < end);
    assert_int_equal(stats.open, 0);
    assert_int_equal(stats.losses, 0);
    a = live_ask(f, db, "SELECT 1", NULL, 0);
    assert_int_equal(a.status, DB_OK);
    db_get_stats(db, &stats);
    assert_int_equal(stats.connects, 2);
    db_free(db);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct answer cancelled = {0}, queued = {0}, a;
    struct db_request *q = db_query(f->db, "SELECT 1", NULL, 0, live_keep, &cancelled);
    struct killed k = {.f = f};
    struct db_request *t;

    db_cancel(q); /* queued: no connection yet */
    a = live_ask(f, f->db, "SELECT 2", NULL, 0);
    q = db_query(f->db, "SELECT 3", NULL, 0, live_keep, &queued);
    db_cancel(q); /* sent */
    t = db_txn(f->db, 0, run_nothing, killed_done, &k);
    while (k.runs == 0)
        ev_loop_turn(f->loop, true);
    db_cancel(t);
    a = live_ask(f, f->db, "SELECT 4", NULL, 0);
    assert_string_equal(a.value, "4");
    assert_int_equal(cancelled.calls + queued.calls + k.answer.calls, 0);
}

/* A transaction given up while it waits for a busy connection never begins; the next one does. */
static void test_cancel_in_line(void **state)
{
    struct fixture *f = *state;
    struct db_options options = {.name = "line"};
    struct db *db = live_open_db(f->loop, &options);
    struct killed given_up = {.f = f}, next = {.f = f};
    struct answer busy = {0}, a;
    struct db_request *q;

    live_table(f);
    a = live_ask(f, f->db, "INSERT INTO t VALUES (1, 0)", NULL, 0);
    a = live_ask(f, db, "SELECT 1", NULL, 0); /* now there is a connection */
    assert_non_null(db_query(db, "SELECT pg_sleep(0.2)", NULL, 0, live_keep, &busy));
    q = db_txn(db, 0, run_nothing, killed_done, &given_up);
    next.runs = 1; /* so that it commits */
    assert_non_null(db_txn(db, 0, run_killed, killed_done, &next));
    ev_loop_turn(f->loop, false);
    db_cancel(q);
    live_turn_until(f, &busy.calls, 1);
    live_turn_until(f, &next.answer.calls, 1);
    assert_int_equal(next.answer.status, DB_OK);
    assert_int_equal(given_up.runs + given_up.answer.calls, 0);
    a = live_ask(f, db, "SELECT v FROM t", NULL, 0);
    assert_string_equal(a.value, "1");
    db_free(db);
}

/* One connection more than the server gives: what there is goes on, nobody is told of a loss. */
static void test_one_connection_refused(void **state)
{
    struct fixture *f = *state;
    struct db_target t = {.user = "scarce"};
    struct db_options options = {.name = "scarce", .connections = 3, .backoff_min_ms = 20};
    struct answer a[6] = {0}, made;
    int changes[2] = {0};
    struct db *db;

    made = live_ask(f, f->db, "CREATE ROLE scarce LOGIN CONNECTION LIMIT 1", NULL, 0);
    assert_int_equal(made.status, DB_OK);
    assert_int_equal(str_copy(t.host, sizeof t.host, getenv("QVD_TEST_DB_HOST")), 0);
    assert_int_equal(str_copy(t.name, sizeof t.name, getenv("QVD_TEST_DB_NAME")), 0);
    assert_int_equal(db_new(f->loop, &t, &options, &db), 0);
    made = live_ask(f, db, "SELECT 1", NULL, 0);
    assert_int_equal(made.status, DB_OK);
    db_on_change(db, note_change, changes);
    for (int i = 0; i < 6; i++)
        assert_non_null(db_query(db, "SELECT pg_sleep(0.05)", NULL, 0, live_keep, &a[i]));
    for (int i = 0; i < 6; i++) {
        live_turn_until(f, &a[i].calls, 1);
        assert_int_equal(a[i].status, DB_OK);
    }
    assert_int_equal(changes[0], 0);
    db_free(db);
    made = live_ask(f, f->db, "DROP ROLE scarce", NULL, 0);
}

static void test_free_with_work(void **state)
{
    struct fixture *f = *state;
    struct answer a[20] = {0};
    struct killed k = {.f = f};

    assert_non_null(db_txn(f->db, 0, run_nothing, killed_done, &k));
    assert_int_equal(db_listen(f->db, "h1", live_hear, NULL), 0);
    for (int i = 0; i < 20; i++)
        assert_non_null(db_query(f->db, "SELECT 1", NULL, 0, live_keep, &a[i]));
    while (k.runs == 0)
        ev_loop_turn(f->loop, true);
    db_notify(f->db, "h1", "x");
    f->db = db_free(f->db);
    for (int i = 0; i < 10; i++)
        ev_loop_turn(f->loop, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_loss),
        LIVE(test_loss_in_txn),
        LIVE(test_deadlines),
        LIVE(test_statement_timeout),
        LIVE(test_unreachable),
        LIVE(test_idle_close),
        LIVE(test_cancel),
        LIVE(test_cancel_in_line),
        LIVE(test_one_connection_refused),
        LIVE(test_free_with_work),
    };

    return live_run(tests, ARRAY_SIZE(tests));
}
