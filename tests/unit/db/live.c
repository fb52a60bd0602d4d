// SPDX-License-Identifier: GPL-3.0-or-later

#include "live.h"

struct db *live_open_db(struct ev_loop *loop, const struct db_options *options)
{
    struct db_target t = {.user = "postgres"};
    struct db *db;

    assert_int_equal(str_copy(t.host, sizeof t.host, getenv("QVD_TEST_DB_HOST")), 0);
    assert_int_equal(str_copy(t.name, sizeof t.name, getenv("QVD_TEST_DB_NAME")), 0);
    assert_int_equal(db_new(loop, &t, options, &db), 0);
    return db;
}

int live_setup(void **state)
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
    f.db = live_open_db(f.loop, &options);
    options.name = "other";
    f.other = live_open_db(f.loop, &options);
    *state = &f;
    return 0;
}

int live_teardown(void **state)
{
    struct fixture *f = *state;

    f->db = db_free(f->db);
    f->other = db_free(f->other);
    f->loop = ev_loop_free(f->loop);
    return 0;
}

void live_keep(void *arg, const struct db_result *r)
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

void live_turn_until(struct fixture *f, const int *calls, int n)
{
    int64_t end = clock_ms() + 20000;

    while (*calls < n && clock_ms() < end)
        ev_loop_turn(f->loop, true);
    assert_int_equal(*calls, n);
}

struct answer live_ask(struct fixture *f, struct db *db, const char *sql,
                       const struct db_param *params, unsigned flags)
{
    struct answer a = {0};

    assert_non_null(db_query(db, sql, params, flags, live_keep, &a));
    assert_int_equal(a.calls, 0); /* never inside the call */
    live_turn_until(f, &a.calls, 1);
    return a;
}

void live_table(struct fixture *f)
{
    struct answer a = live_ask(f, f->db, "DROP TABLE IF EXISTS t", NULL, 0);

    assert_int_equal(a.status, DB_OK);
    a = live_ask(f, f->db,
                 "CREATE TABLE t (id int CONSTRAINT t_id_key UNIQUE, v int CHECK (v < 100))", NULL,
                 0);
    assert_int_equal(a.status, DB_OK);
}

void live_hear(void *arg, const char *channel, const char *payload)
{
    struct ear *e = arg;

    e->heard++;
    (void)snprintf(e->last, sizeof e->last, "%s:%s", channel, payload);
}

void live_is_listening(void *arg)
{
    ((struct ear *)arg)->listening++;
}

int live_run(const struct CMUnitTest *tests, size_t n)
{
    if (!getenv("QVD_TEST_DB_HOST") || !getenv("QVD_TEST_DB_NAME")) {
        fputs("QVD_TEST_DB_HOST and QVD_TEST_DB_NAME must be set\n", stderr);
        return 2;
    }
    return _cmocka_run_group_tests("db", tests, n, NULL, NULL);
}
