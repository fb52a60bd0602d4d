// SPDX-License-Identifier: GPL-3.0-or-later

/* The settings of the database, for --dump-config of all server programs. */

#include <errno.h>
#include <string.h>

#include "db/db.h"
#include "deploy/deploy.h"
#include "ev/ev.h"
#include "store/config.h"

enum { LIMIT_MS = 5000 };

struct reading {
    struct ev_loop *loop;
    int r;
    struct qvd_error *err;
};

static void on_rows(void *arg, int r, const struct qvd_error *err)
{
    struct reading *d = arg;

    d->r = r;
    if (r < 0)
        *d->err = *err;
    ev_loop_stop(d->loop, 0);
}

static void on_limit(void *arg)
{
    struct reading *d = arg;

    ev_loop_stop(d->loop, 0);
}

int deploy_read_rows(struct conf *c, struct qvd_error *err)
{
    const struct db_options options = {.name = "qvd-deploy-db", .connections = 1};
    struct reading d = {.r = -EAGAIN, .err = err};
    struct ev_timer *limit = NULL;
    struct db_target target;
    struct db *db = NULL;
    int r = db_target_from_conf(c, "hkd", &target, err);

    if (r < 0)
        return r;
    qvd_error_set(err, -EAGAIN, "the database gives no answer");
    if (ev_loop_new(&d.loop) < 0 || db_new(d.loop, &target, &options, &db) < 0 ||
        ev_timer_new(d.loop, on_limit, &d, &limit) < 0 || !store_config_load(db, c, on_rows, &d))
        d.r = qvd_error_set(err, -ENOMEM, "out of memory");
    else {
        ev_timer_arm(limit, LIMIT_MS);
        (void)ev_loop_run(d.loop);
        if (d.r < 0 && *db_why_down(db))
            qvd_error_set(err, d.r, "%s", db_why_down(db));
    }
    explicit_bzero(&target, sizeof target);
    ev_timer_free(limit);
    db_free(db);
    ev_loop_free(d.loop);
    return d.r;
}
