// SPDX-License-Identifier: GPL-3.0-or-later

/* Migrations: numbered, embedded, one transaction each, remembered with the checksum of their text.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "config.h"
#include "db/migrations.h"
#include "deploy/deploy.h"

static const char make_table[] =
    "SET ROLE qvd_owner; "
    "CREATE TABLE IF NOT EXISTS schema_migrations ("
    "version integer PRIMARY KEY CHECK (version > 0), name text NOT NULL, "
    "sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'), program text NOT NULL, "
    "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";

/* What is applied must be a beginning of what we know, word by word. *ret_n: how many are. */
static int compare(struct deploy *d, size_t *ret_n, struct qvd_error *err)
{
    _cleanup_(pqclear_p) PGresult *rows = NULL;
    size_t n;
    const struct migration *m = migrations(&n);
    int r = deploy_sql(d->pg, &rows, err,
                       "SELECT version, name, sha256 FROM schema_migrations ORDER BY version");

    if (r < 0)
        return r;
    for (int i = 0; i < PQntuples(rows); i++) {
        if ((size_t)i >= n)
            return qvd_error_set(err, -EPROTO,
                                 "database %s has migration %s (%s), which this qvd-deploy-db %s "
                                 "does not know: install the newer program",
                                 d->target.name, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1),
                                 QVD_VERSION);
        if (strcmp(PQgetvalue(rows, i, 2), m[i].sha256) != 0)
            return qvd_error_set(
                err, -EPROTO,
                "database %s: migration %s (%s) was applied with another text than "
                "this qvd-deploy-db %s has: it was made by another program",
                d->target.name, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1), QVD_VERSION);
    }
    *ret_n = (size_t)PQntuples(rows);
    return 0;
}

static int remember(PGconn *pg, const struct migration *m, struct qvd_error *err)
{
    char version[16];
    const char *params[] = {version, m->name, m->sha256, "qvd-deploy-db " QVD_VERSION};
    PGresult *r;
    bool good;

    (void)snprintf(version, sizeof version, "%d", m->version);
    r = PQexecParams(pg,
                     "INSERT INTO schema_migrations (version, name, sha256, program) "
                     "VALUES ($1, $2, $3, $4)",
                     4, NULL, params, NULL, NULL, 0);
    good = PQresultStatus(r) == PGRES_COMMAND_OK;
    PQclear(r);
    return good ? 0 : qvd_error_set(err, -EIO, "PostgreSQL: %s", PQerrorMessage(pg));
}

static int apply(PGconn *pg, const struct migration *m, struct qvd_error *err)
{
    struct qvd_error ignored;
    int r = deploy_sql(pg, NULL, err, "BEGIN; SET LOCAL ROLE qvd_owner");

    if (r == 0)
        r = deploy_sql(pg, NULL, err, m->sql);
    if (r == 0)
        r = remember(pg, m, err);
    if (r == 0)
        r = deploy_sql(pg, NULL, err, "COMMIT");
    if (r == 0) {
        printf("migration %04d (%s): applied\n", m->version, m->name);
        return 0;
    }
    (void)qvd_error_wrap(err, "migration %04d (%s), nothing of it remains", m->version, m->name);
    (void)!deploy_sql(pg, NULL, &ignored, "ROLLBACK");
    return r;
}

int deploy_migrate(struct deploy *d, struct qvd_error *err)
{
    size_t n, applied = 0;
    const struct migration *m = migrations(&n);
    int r = deploy_sql(d->pg, NULL, err, "SELECT pg_advisory_lock(hashtext('qvd-deploy-db'))");

    if (r == 0)
        r = deploy_sql(d->pg, NULL, err, make_table);
    if (r == 0)
        r = compare(d, &applied, err);
    for (size_t i = applied; i < n && r == 0; i++)
        r = apply(d->pg, &m[i], err);
    if (r == 0 && applied < n) /* daemons that wait for it look again */
        r = deploy_sql(d->pg, NULL, err, "NOTIFY config, 'schema 0'");
    if (r == 0 && applied == n)
        printf("database %s: up to date (migration %04d)\n", d->target.name, migrations_last());
    return r;
}

static int print_applied(struct deploy *d, struct qvd_error *err)
{
    _cleanup_(pqclear_p) PGresult *rows = NULL;
    int r = deploy_sql(d->pg, &rows, err,
                       "SELECT version, name, to_char(applied_at AT TIME ZONE 'UTC', "
                       "'YYYY-MM-DD HH24:MI'), program FROM schema_migrations ORDER BY version");

    for (int i = 0; r == 0 && i < PQntuples(rows); i++)
        printf("  %04d  %-24s applied %s UTC by %s\n", atoi(PQgetvalue(rows, i, 0)),
               PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2), PQgetvalue(rows, i, 3));
    return r;
}

int deploy_status(struct deploy *d, struct qvd_error *err)
{
    size_t n, applied = 0;
    const struct migration *m = migrations(&n);
    long long ours = 0;
    int r = deploy_exists(d, err);

    printf("database %s on %s: ", d->target.name, d->target.host);
    if (r > 0)
        r = deploy_connect(d, d->target.name, &d->pg, err);
    else if (r == 0)
        printf("does not exist\n");
    if (r == 0 && d->pg)
        r = deploy_number(d->pg, "SELECT count(to_regclass('public.schema_migrations'))", &ours,
                          err);
    if (r == 0 && d->pg)
        printf(ours ? "PostgreSQL %d\n" : "not installed (PostgreSQL %d)\n",
               PQserverVersion(d->pg) / 10000);
    if (r == 0 && ours) {
        r = print_applied(d, err);
        if (r == 0)
            r = compare(d, &applied, err);
    }
    for (size_t i = applied; i < n && r == 0; i++)
        printf("  %04d  %-24s missing\n", m[i].version, m[i].name);
    return r < 0 ? r : applied < n;
}
