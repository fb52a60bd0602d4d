// SPDX-License-Identifier: GPL-3.0-or-later

/* Reads the settings' rows of the database. */

#include "store/config.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/conf.h"

struct load {
    struct conf *conf;
    store_config_done *done;
    void *arg;
};

static int take_rows(struct conf *conf, const struct db_result *r, struct qvd_error *err)
{
    size_t n = (size_t)db_rows(r);
    _cleanup_(free_p) struct conf_row *rows = calloc(n + 1, sizeof *rows);
    int error = rows ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && error == 0; i++)
        rows[i] =
            (struct conf_row){db_int(r, (int)i, 0), db_str(r, (int)i, 1), db_str(r, (int)i, 2)};
    if (error == 0)
        error = conf_set_rows(conf, rows, n);
    return error < 0 ? qvd_error_errno(err, error, "settings of the database") : 0;
}

static void on_rows(void *arg, const struct db_result *r)
{
    struct load *l = arg;
    struct qvd_error err = {0};
    int error = db_status(r) == DB_OK ? take_rows(l->conf, r, &err)
                                      : db_fail(r, &err, "settings of the database");

    l->done(l->arg, error, &err);
}

struct db_request *store_config_load(struct db *db, struct conf *conf, store_config_done *done,
                                     void *arg)
{
    struct load *l = malloc(sizeof *l);
    struct db_request *q;

    if (!l)
        return NULL;
    *l = (struct load){conf, done, arg};
    q = db_query(db, "SELECT tenant_id, key, value FROM config_values ORDER BY tenant_id, key",
                 DB_NO_PARAMS, DB_REPEAT, on_rows, l);
    if (q)
        db_own(q, l);
    else
        free(l);
    return q;
}
