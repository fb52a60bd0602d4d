// SPDX-License-Identifier: GPL-3.0-or-later

/* Writes numbers into table `numbers` through db, many at once, until stdin ends, and prints what
 * became of each: "ok N" or "gone N". tests/e2e/test_db.py kills the server meanwhile. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"
#include "db/db.h"
#include "ev/ev.h"

enum { AT_ONCE = 40 };

static struct {
    struct ev_loop *loop;
    struct db *db;
    long next, open;
    bool ending;
} s;

static void insert(void);

static void answered(void *arg, const struct db_result *r)
{
    const char *word = db_status(r) == DB_OK ? "ok" : db_status(r) == DB_GONE ? "gone" : "wrong";

    printf("%s %ld %s\n", word, (long)(intptr_t)arg, db_error(r));
    fflush(stdout);
    s.open--;
    if (!s.ending)
        insert();
    else if (s.open == 0)
        ev_loop_stop(s.loop, 0);
}

/* The number is its id: the second time changes nothing. */
static void insert(void)
{
    long n = s.next++;

    if (!db_query(s.db, "INSERT INTO numbers VALUES ($1) ON CONFLICT (n) DO NOTHING",
                  DB_PARAMS(DB_INT(n)), DB_REPEAT, answered, (void *)(intptr_t)n))
        exit(1);
    s.open++;
}

static void on_stdin(void *arg, unsigned events)
{
    char c;

    if (read(STDIN_FILENO, &c, 1) == 0)
        s.ending = true;
}

static void on_change(void *arg, bool up)
{
    printf("%s 0 %s\n", up ? "up" : "down", db_why_down(s.db));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct db_target t = {.user = "postgres"};
    struct db_options o = {.name = "outage", .connections = 4, .deadline_ms = 3000};
    struct ev_io *io;

    if (argc != 3 || str_copy(t.host, sizeof t.host, argv[1]) < 0 ||
        str_copy(t.name, sizeof t.name, argv[2]) < 0 || ev_loop_new(&s.loop) < 0 ||
        db_new(s.loop, &t, &o, &s.db) < 0 ||
        ev_io_new(s.loop, STDIN_FILENO, EV_IO_IN, on_stdin, NULL, &io) < 0)
        return 2;
    db_on_change(s.db, on_change, NULL);
    for (int i = 0; i < AT_ONCE; i++)
        insert();
    ev_loop_run(s.loop);
    ev_io_free(io);
    db_free(s.db);
    ev_loop_free(s.loop);
    return 0;
}
