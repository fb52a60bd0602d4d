// SPDX-License-Identifier: GPL-3.0-or-later

/* What several files of store need: channels, payloads, the check of the schema. */

#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db/migrations.h"

void store_channel_host(char dst[STORE_CHANNEL_SIZE], int64_t host)
{
    (void)snprintf(dst, STORE_CHANNEL_SIZE, "h%lld", (long long)host);
}

void store_channel_l7r(char dst[STORE_CHANNEL_SIZE], int64_t instance)
{
    (void)snprintf(dst, STORE_CHANNEL_SIZE, "l%lld", (long long)instance);
}

void store_tell_host(struct db *db, int64_t host, const char *kind, int64_t id)
{
    char channel[STORE_CHANNEL_SIZE];

    if (host == 0)
        return;
    store_channel_host(channel, host);
    db_notify_id(db, channel, kind, id);
}

void store_tell_l7r(struct db *db, int64_t instance, const char *kind, int64_t id)
{
    char channel[STORE_CHANNEL_SIZE];

    if (instance == 0)
        return;
    store_channel_l7r(channel, instance);
    db_notify_id(db, channel, kind, id);
}

void store_tell_api(struct db *db, const char *kind, int64_t id)
{
    db_notify_id(db, STORE_CHANNEL_API, kind, id);
}

void store_tell_api_later(struct db *db, const char *kind, int64_t id)
{
    db_notify_id_later(db, STORE_CHANNEL_API, kind, id);
}

bool store_payload(const char *payload, char *kind, size_t size, int64_t *ret_id)
{
    const char *blank = strchr(payload, ' ');

    return blank && str_copy_n(kind, size, payload, (size_t)(blank - payload)) == 0 && *kind &&
           str_to_i64(blank + 1, INT64_MIN, INT64_MAX, ret_id) == 0;
}

struct check {
    store_schema_done *done;
    void *arg;
};

static void on_schema(void *arg, const struct db_result *r)
{
    struct check *c = arg;
    struct qvd_error err = {0};
    long long have = db_int(r, 0, 0);
    int error = 0;

    if (db_status(r) == DB_ERROR)
        error = qvd_error_set(&err, -EPROTO,
                              "the database holds no schema of QVD (%s): run "
                              "qvd-deploy-db",
                              db_error(r));
    else if (db_status(r) != DB_OK)
        error = db_fail(r, &err, "schema");
    else if (have != migrations_last())
        error = qvd_error_set(&err, -EPROTO,
                              "the database's schema is %lld, this program is for "
                              "%d: %s",
                              have, migrations_last(),
                              have < migrations_last() ? "run qvd-deploy-db"
                                                       : "install the newer program");
    c->done(c->arg, error, &err);
}

struct db_request *store_schema_check(struct db *db, store_schema_done *done, void *arg)
{
    struct check *c = malloc(sizeof *c);
    struct db_request *q;

    if (!c)
        return NULL;
    *c = (struct check){done, arg};
    q = db_query(db, "SELECT coalesce(max(version), 0) FROM schema_migrations", DB_NO_PARAMS,
                 DB_REPEAT, on_schema, c);
    if (q)
        db_own(q, c);
    else
        free(c);
    return q;
}
