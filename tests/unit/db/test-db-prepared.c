// SPDX-License-Identifier: GPL-3.0-or-later

/* db's prepared statements: what the server keeps for a connection, and what becomes of a request
 * when that is worth nothing. */

#include "live.h"

static const char count_names[] = "SELECT count(*) FROM pg_prepared_statements";
static const char read_t[] = "SELECT * FROM t";

/* One connection, so that all statements meet there. */
static struct db *one(struct fixture *f)
{
    struct db_options options = {.name = "one", .queue_max = 300, .one_plan = true};

    return live_open_db(f->loop, &options);
}

static struct db_stats stats_of(const struct db *db)
{
    struct db_stats s;

    db_get_stats(db, &s);
    return s;
}

/* Other columns than before. */
static void widen(struct fixture *f)
{
    struct answer a = live_ask(f, f->other, "ALTER TABLE t ADD more int", NULL, 0);

    assert_int_equal(a.status, DB_OK);
}

static void test_kept(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a;

    for (int i = 0; i < 5; i++) {
        a = live_ask(f, db, "SELECT $1::int + 1", DB_PARAMS(DB_INT(i)), 0);
        assert_int_equal(strtol(a.value, NULL, 10), i + 1);
    }
    assert_int_equal(stats_of(db).queries, 5);
    assert_int_equal(stats_of(db).parses, 1);
    a = live_ask(f, db, "SELECT $1::int - 1", DB_PARAMS(DB_INT(7)), DB_BUILT);
    assert_string_equal(a.value, "6");
    a = live_ask(f, db, "SELECT generic_plans || ' ' || custom_plans FROM pg_prepared_statements",
                 NULL, DB_BUILT);
    assert_string_equal(a.value, "5 0");
    assert_int_equal(a.rows, 1); /* of those that are kept */
    db_free(db);
}

/* The same text in eight requests before the first is answered. */
static void test_at_once(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a[8] = {0}, names;

    names = live_ask(f, db, "SELECT 0", NULL, DB_BUILT); /* now there is a connection */
    for (int i = 0; i < 8; i++)
        assert_non_null(
            db_query(db, "SELECT $1::int * 3", DB_PARAMS(DB_INT(i)), 0, live_keep, &a[i]));
    for (int i = 0; i < 8; i++) {
        live_turn_until(f, &a[i].calls, 1);
        assert_int_equal(strtol(a[i].value, NULL, 10), 3 * i);
    }
    names = live_ask(f, db, count_names, NULL, DB_BUILT);
    assert_string_equal(names.value, "1");
    db_free(db);
}

/* 100 are kept; more than that go without a name. */
static void test_limit(void **state)
{
    static char sql[150][32];
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a;

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 150; i++) {
            (void)snprintf(sql[i], sizeof sql[i], "SELECT %d", i);
            a = live_ask(f, db, sql[i], NULL, 0);
            assert_int_equal(strtol(a.value, NULL, 10), i);
        }
    assert_int_equal(stats_of(db).parses, 150 + 50);
    a = live_ask(f, db, count_names, NULL, DB_BUILT);
    assert_string_equal(a.value, "100");
    db_free(db);
}

/* What the server could not read has no name; what stood behind it in the batch neither. */
static void test_parse_fails(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct db_stmt stmts[] = {
        {"SELECT 1",                  NULL                },
        {"INSERT INTO t VALUES (1)",  NULL                },
        {"SELECT id FROM t LIMIT $1", DB_PARAMS(DB_INT(1))},
    };
    struct answer a = {0}, b = {0};

    (void)live_ask(f, f->db, "DROP TABLE IF EXISTS t", NULL, 0);
    assert_non_null(db_batch(db, stmts, 3, 0, live_keep, &a));
    live_turn_until(f, &a.calls, 1);
    assert_int_equal(a.status, DB_ERROR);
    assert_string_equal(a.sqlstate, "42P01");
    assert_string_equal(a.text, "relation \"t\" does not exist");
    live_table(f);
    assert_non_null(db_batch(db, stmts, 3, 0, live_keep, &b));
    live_turn_until(f, &b.calls, 1);
    assert_int_equal(b.status, DB_OK);
    assert_string_equal(b.value, "1");
    assert_int_equal(stats_of(db).parses, 3 + 2);
    assert_int_equal(stats_of(db).connects, 1);
    db_free(db);
}

/* A statement that fails when it runs has been read all the same: its name stays. */
static void test_run_fails(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a;

    live_table(f);
    for (int i = 0; i < 3; i++) {
        a = live_ask(f, db, "INSERT INTO t VALUES ($1, 100)", DB_PARAMS(DB_INT(i)), 0);
        assert_int_equal(a.status, DB_CONSTRAINT);
        assert_string_equal(a.constraint, "t_v_check");
    }
    assert_int_equal(stats_of(db).parses, 1);
    db_free(db);
}

/* Transactions whose statements are refused because one before them failed. */
struct work {
    int runs;
    const char *first;
    struct answer answer;
};

static void last_step(struct db_txn *t, void *arg, const struct db_result *r)
{
    assert_int_equal(db_status(r), DB_OK);
    db_txn_commit(t);
}

static void run(struct db_txn *t, void *arg)
{
    struct work *w = arg;

    w->runs++;
    db_txn_query(t, w->first, NULL, NULL, NULL);
    db_txn_query(t, "INSERT INTO t VALUES (5)", NULL, NULL, NULL);
    db_txn_query(t, read_t, NULL, last_step, w);
}

static void worked(void *arg, const struct db_result *r)
{
    live_keep(&((struct work *)arg)->answer, r);
}

static void test_aborted_txn(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct work bad = {.first = "SELECT 1 / 0"}, good = {.first = "SELECT 1"};
    struct answer a;

    live_table(f);
    assert_non_null(db_txn(db, 0, run, worked, &bad));
    live_turn_until(f, &bad.answer.calls, 1);
    assert_int_equal(bad.answer.status, DB_ERROR);
    assert_string_equal(bad.answer.sqlstate, "22012");
    for (int i = 0; i < 2; i++) {
        (void)live_ask(f, f->db, "DELETE FROM t", NULL, 0);
        assert_non_null(db_txn(db, 0, run, worked, &good));
        live_turn_until(f, &good.answer.calls, i + 1);
        assert_int_equal(good.answer.status, DB_OK);
    }
    /* BEGIN and the division once, ROLLBACK once, the two refused ones twice, "SELECT 1" and COMMIT
     * once. */
    assert_int_equal(stats_of(db).parses, 1 + 1 + 1 + 2 * 2 + 1 + 1);
    a = live_ask(f, db, "SELECT count(*) FROM t", NULL, 0);
    assert_string_equal(a.value, "1");
    db_free(db);
}

/* ALTER TABLE between two uses. Where the plan only is affected the server makes another by itself;
 * where the columns are, the request is repeated and the connection replaced, which is no loss. */
static void test_alter(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct work w = {.first = "SELECT 1"};
    struct answer a;

    live_table(f);
    a = live_ask(f, db, "INSERT INTO t (id) VALUES (3) RETURNING id", NULL, 0);
    a = live_ask(f, db, read_t, NULL, 0);
    assert_int_equal(a.rows, 1);
    widen(f);
    a = live_ask(f, db, "INSERT INTO t (id) VALUES (3) RETURNING id", NULL, 0);
    assert_int_equal(a.status, DB_CONSTRAINT);
    assert_int_equal(stats_of(db).retries, 0);
    a = live_ask(f, db, read_t, NULL, 0); /* without DB_REPEAT: nothing was done */
    assert_int_equal(a.status, DB_OK);
    assert_int_equal(a.rows, 1);
    assert_int_equal(stats_of(db).retries, 1);
    assert_non_null(db_txn(db, 0, run, worked, &w));
    live_turn_until(f, &w.answer.calls, 1);
    (void)live_ask(f, f->other, "ALTER TABLE t DROP more", NULL, 0);
    (void)live_ask(f, f->other, "DELETE FROM t WHERE id = 5", NULL, 0);
    assert_non_null(db_txn(db, 0, run, worked, &w));
    live_turn_until(f, &w.answer.calls, 2);
    assert_int_equal(w.answer.status, DB_OK);
    assert_int_equal(w.runs, 3);
    assert_int_equal(stats_of(db).retries, 2);
    assert_int_equal(stats_of(db).connects, 3);
    assert_int_equal(stats_of(db).losses, 0);
    a = live_ask(f, db, "SELECT count(*) FROM t", NULL, 0);
    assert_string_equal(a.value, "2");
    db_free(db);
}

/* Eight of them on the way when the first fails. */
static void test_alter_under_many(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a[40] = {0};

    live_table(f);
    (void)live_ask(f, db, read_t, NULL, 0);
    (void)live_ask(f, db, "SELECT 1", NULL, 0);
    widen(f);
    for (int i = 0; i < 40; i++)
        assert_non_null(db_query(db, i % 2 ? "SELECT 1" : read_t, NULL, 0, live_keep, &a[i]));
    for (int i = 0; i < 40; i++) {
        live_turn_until(f, &a[i].calls, 1);
        assert_int_equal(a[i].status, DB_OK);
    }
    assert_int_equal(stats_of(db).connects, 2);
    assert_in_range(stats_of(db).retries, 1, 4); /* those of the first eight that read t */
    db_free(db);
}

/* Somebody between us and the server has given our session away and cleaned it, or has named
 * something as we would. */
static void test_names_spoilt(void **state)
{
    static const char *const spoilers[] = {"DEALLOCATE ALL", "PREPARE q2 AS SELECT 'not ours'"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(spoilers); i++) {
        struct db *db = one(f);
        struct answer a = live_ask(f, db, "SELECT 1", NULL, 0);

        a = live_ask(f, db, spoilers[i], NULL, DB_BUILT);
        assert_int_equal(a.status, DB_OK);
        a = live_ask(f, db, "SELECT 'ours'", NULL, 0);
        assert_string_equal(a.value, "ours");
        a = live_ask(f, db, "SELECT 1", NULL, 0);
        assert_string_equal(a.value, "1");
        assert_int_equal(stats_of(db).retries, 1);
        assert_int_equal(stats_of(db).connects, 2);
        a = live_ask(f, db, "SELECT 1", NULL, 0);
        assert_int_equal(a.status, DB_OK);
        assert_int_equal(stats_of(db).retries, 1);
        db_free(db);
    }
}

/* A statement that the server really does not support is no conflict. */
static void test_not_supported(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a = live_ask(f, db, "SELECT count(*) FROM t FOR UPDATE", NULL, 0);

    assert_int_equal(a.status, DB_ERROR);
    assert_string_equal(a.sqlstate, "0A000");
    assert_int_equal(stats_of(db).retries, 0);
    db_free(db);
}

/* What was prepared goes with its connection. */
static void test_loss(void **state)
{
    struct fixture *f = *state;
    struct db *db = one(f);
    struct answer a;

    for (int i = 1; i <= 2; i++) {
        a = live_ask(f, db, "SELECT $1::int * 5", DB_PARAMS(DB_INT(i)), DB_REPEAT);
        assert_int_equal(strtol(a.value, NULL, 10), 5 * i);
    }
    assert_int_equal(stats_of(db).parses, 1);
    a = live_ask(f, f->other,
                 "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                 " WHERE application_name = 'one'",
                 NULL, 0);
    assert_string_equal(a.value, "1");
    for (int i = 1; i <= 2; i++) {
        a = live_ask(f, db, "SELECT $1::int * 5", DB_PARAMS(DB_INT(i)), DB_REPEAT);
        assert_int_equal(a.status, DB_OK);
        assert_int_equal(strtol(a.value, NULL, 10), 5 * i);
    }
    assert_int_equal(stats_of(db).connects, 2);
    assert_in_range(stats_of(db).parses, 2, 2);
    db_free(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_kept),         LIVE(test_at_once),
        LIVE(test_limit),        LIVE(test_parse_fails),
        LIVE(test_run_fails),    LIVE(test_aborted_txn),
        LIVE(test_alter),        LIVE(test_alter_under_many),
        LIVE(test_names_spoilt), LIVE(test_not_supported),
        LIVE(test_loss),
    };

    return live_run(tests, ARRAY_SIZE(tests));
}
