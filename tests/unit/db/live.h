// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the tests of db against a real PostgreSQL share. The server is made by tests/e2e/test_db.py,
 * which names it in QVD_TEST_DB_HOST, QVD_TEST_DB_NAME. */

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

/* What an answer was, kept after it is gone. */
struct answer {
    int calls;
    enum db_status status;
    char text[256], sqlstate[6], constraint[64];
    int rows;
    int64_t affected;
    char value[64];
};

/* What was heard on channels. */
struct ear {
    int heard, listening;
    char last[64];
};

struct db *live_open_db(struct ev_loop *loop, const struct db_options *options);
int live_setup(void **state);
int live_teardown(void **state);
/* A done callback that fills the answer. */
void live_keep(void *arg, const struct db_result *r);
void live_turn_until(struct fixture *f, const int *calls, int n);
struct answer live_ask(struct fixture *f, struct db *db, const char *sql,
                       const struct db_param *params, unsigned flags);
/* An empty table t (id int unique, v int < 100). */
void live_table(struct fixture *f);
void live_hear(void *arg, const char *channel, const char *payload);
void live_is_listening(void *arg);
int live_run(const struct CMUnitTest *tests, size_t n);

#define LIVE(test) cmocka_unit_test_setup_teardown(test, live_setup, live_teardown)
