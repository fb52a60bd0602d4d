// SPDX-License-Identifier: GPL-3.0-or-later

/* Connections as the superuser, the roles, the database. */

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "deploy/deploy.h"

const struct deploy_role deploy_roles[4] = {
    {"hkd",  "qvd_hkd",  "root"      },
    {"l7r",  "qvd_l7r",  "qvd-broker"},
    {"auth", "qvd_auth", "qvd-auth"  },
    {"api",  "qvd_api",  "qvd-api"   },
};

static void on_notice(void *arg, const char *message)
{
    log_debug("%s", message);
}

static PGconn *connect_as(const struct deploy *d, const char *database)
{
    const struct db_target *t = &d->target;
    const char *const keys[] = {"host",    "hostaddr", "port",        "dbname",
                                "user",    "sslmode",  "sslrootcert", "application_name",
                                "options", NULL};
    const char *const values[] = {
        t->host,
        *t->hostaddr ? t->hostaddr : NULL,
        *t->port ? t->port : NULL,
        database,
        d->user,
        *t->sslmode ? t->sslmode : NULL,
        *t->sslrootcert ? t->sslrootcert : NULL,
        "qvd-deploy-db",
        "-c default_transaction_isolation=read\\ committed",
        NULL,
    };

    return PQconnectdbParams(keys, values, 0);
}

/* As root over a unix socket the system user of the same name may be who peer authentication wants.
 */
static PGconn *connect_as_system_user(const struct deploy *d, const char *database)
{
    const struct passwd *pw = getpwnam(d->user);
    PGconn *pg;

    if (geteuid() != 0 || *d->target.host != '/' || !pw || seteuid(pw->pw_uid) < 0)
        return NULL;
    pg = connect_as(d, database);
    if (seteuid(0) < 0) {
        PQfinish(pg);
        return NULL;
    }
    return pg;
}

int deploy_connect(const struct deploy *d, const char *database, PGconn **ret_pg,
                   struct qvd_error *err)
{
    PGconn *pg = connect_as(d, database), *other;
    char why[200];

    if (PQstatus(pg) != CONNECTION_OK && strstr(PQerrorMessage(pg), "eer authentication failed")) {
        other = connect_as_system_user(d, database);
        if (other) {
            PQfinish(pg);
            pg = other;
        }
    }
    if (PQstatus(pg) != CONNECTION_OK) {
        (void)snprintf(why, sizeof why, "%s", PQerrorMessage(pg));
        PQfinish(pg);
        return qvd_error_set(err, -ECONNREFUSED, "%s", str_trim(why));
    }
    (void)PQsetNoticeProcessor(pg, on_notice, NULL);
    *ret_pg = pg;
    return 0;
}

static int take(PGconn *pg, PGresult *r, PGresult **ret, struct qvd_error *err)
{
    ExecStatusType status = PQresultStatus(r);

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

        (void)qvd_error_set(err, -EIO, "PostgreSQL: %s", message ? message : PQerrorMessage(pg));
        PQclear(r);
        return -EIO;
    }
    if (ret)
        *ret = r;
    else
        PQclear(r);
    return 0;
}

int deploy_sql(PGconn *pg, PGresult **ret, struct qvd_error *err, const char *sql)
{
    return take(pg, PQexec(pg, sql), ret, err);
}

int deploy_sql1(PGconn *pg, PGresult **ret, struct qvd_error *err, const char *sql,
                const char *param)
{
    return take(pg, PQexecParams(pg, sql, 1, NULL, &param, NULL, NULL, 0), ret, err);
}

int deploy_number(PGconn *pg, const char *sql, long long *ret, struct qvd_error *err)
{
    _cleanup_(pqclear_p) PGresult *r = NULL;
    int error = deploy_sql(pg, &r, err, sql);
    int64_t n = 0;

    if (error < 0)
        return error;
    if (PQntuples(r) > 0 && !PQgetisnull(r, 0, 0) &&
        str_to_i64(PQgetvalue(r, 0, 0), INT64_MIN, INT64_MAX, &n) < 0)
        return qvd_error_set(err, -EIO, "PostgreSQL: not a number: %s", PQgetvalue(r, 0, 0));
    *ret = n;
    return 0;
}

/* fmt has one %s for the quoted name. */
static int sql_name(PGconn *pg, struct qvd_error *err, const char *fmt, const char *name)
{
    char *quoted = PQescapeIdentifier(pg, name, strlen(name));
    _cleanup_(free_p) char *sql = NULL;
    const char *mark = strstr(fmt, "%s");

    if (quoted)
        sql = str_printf("%.*s%s%s", (int)(mark - fmt), fmt, quoted, mark + 2);
    PQfreemem(quoted);
    if (!sql)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    return deploy_sql(pg, NULL, err, sql);
}

static int row_exists(PGconn *pg, const char *sql, const char *param, struct qvd_error *err)
{
    _cleanup_(pqclear_p) PGresult *r = NULL;
    int error = deploy_sql1(pg, &r, err, sql, param);

    return error < 0 ? error : PQntuples(r) > 0;
}

int deploy_exists(const struct deploy *d, struct qvd_error *err)
{
    return row_exists(d->server, "SELECT FROM pg_database WHERE datname = $1", d->target.name, err);
}

/* Sends a verifier, never the password itself: the server's log may keep statements. */
static int set_password(PGconn *pg, const char *role, const char *password, struct qvd_error *err)
{
    char *verifier = PQencryptPasswordConn(pg, password, role, "scram-sha-256");
    char *literal = verifier ? PQescapeLiteral(pg, verifier, strlen(verifier)) : NULL;
    char *name = PQescapeIdentifier(pg, role, strlen(role));
    _cleanup_(free_p) char *sql = NULL;
    int r;

    if (literal && name)
        sql = str_printf("ALTER ROLE %s PASSWORD %s", name, literal);
    r = sql ? deploy_sql(pg, NULL, err, sql)
            : qvd_error_set(err, -EIO, "role %s: %s", role, PQerrorMessage(pg));
    PQfreemem(verifier);
    PQfreemem(literal);
    PQfreemem(name);
    return r;
}

static int make_role(struct deploy *d, const char *role, bool login, const char *password,
                     struct qvd_error *err)
{
    int r = row_exists(d->server, "SELECT FROM pg_roles WHERE rolname = $1", role, err);

    if (r == 0) {
        r = sql_name(d->server, err,
                     login ? "CREATE ROLE %s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE"
                           : "CREATE ROLE %s NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",
                     role);
        if (r == 0)
            printf("role %s: made\n", role);
    }
    if (r >= 0 && *password)
        r = set_password(d->server, role, password, err);
    return r < 0 ? r : 0;
}

static int make_roles(struct deploy *d, struct qvd_error *err)
{
    const char *all = conf_str(d->conf, "database.user");
    char key[64];
    int r = make_role(d, DEPLOY_OWNER, false, "", err);

    for (size_t i = 0; i < ARRAY_SIZE(deploy_roles) && r == 0; i++) {
        (void)snprintf(key, sizeof key, "database.%s.password", deploy_roles[i].part);
        r = make_role(d, deploy_roles[i].role, true, conf_str(d->conf, key), err);
    }
    if (r == 0 && *all) {
        log_warning(
            "database.user = %s gives each program the rights of all; better leave it empty", all);
        r = make_role(d, all, true, conf_str(d->conf, "database.password"), err);
        if (r == 0)
            r = sql_name(d->server, err, "GRANT qvd_hkd, qvd_l7r, qvd_auth, qvd_api TO %s", all);
    }
    /* One who is no superuser must be a member to act as the owner. */
    if (r == 0)
        r = deploy_sql(d->server, NULL, err,
                       "DO $$BEGIN IF NOT pg_has_role(current_user, 'qvd_owner', 'MEMBER') THEN "
                       "EXECUTE format('GRANT qvd_owner TO %I', current_user); END IF; END$$");
    return r;
}

static int create_database(struct deploy *d, struct qvd_error *err)
{
    int r = sql_name(d->server, err,
                     "CREATE DATABASE %s OWNER qvd_owner TEMPLATE template0 ENCODING 'UTF8' "
                     "LOCALE 'C.UTF-8'",
                     d->target.name);

    if (r < 0) /* not every system has that locale */
        r = sql_name(d->server, err,
                     "CREATE DATABASE %s OWNER qvd_owner TEMPLATE template0 ENCODING 'UTF8' "
                     "LOCALE 'C'",
                     d->target.name);
    if (r == 0)
        printf("database %s: made\n", d->target.name);
    return r;
}

/* What goes with the database: counts of what people would miss. */
static void tell_losses(struct deploy *d)
{
    static const char *const tables[] = {"tenants", "administrators", "users",   "osfs",    "dis",
                                         "vms",     "hosts",          "configs", "sessions"};
    struct qvd_error err;
    char sql[128];

    fprintf(stderr, "qvd-deploy-db: --force destroys the database %s on %s:\n", d->target.name,
            d->target.host);
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        long long n;

        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM public.%s", tables[i]);
        if (deploy_number(d->pg, sql, &n, &err) == 0)
            fprintf(stderr, "  %-15s %lld\n", tables[i], n);
    }
    fprintf(stderr, "Images, overlays and homes below path.storage.root stay on disk.\n");
}

static int destroy(struct deploy *d, struct qvd_error *err)
{
    int r;

    tell_losses(d);
    PQfinish(d->pg);
    d->pg = NULL;
    r = sql_name(d->server, err, "DROP DATABASE %s WITH (FORCE)", d->target.name);
    if (r == 0)
        printf("database %s: destroyed\n", d->target.name);
    return r;
}

/* Refuses what is neither empty nor ours. */
static int refuse_foreign(struct deploy *d, struct qvd_error *err)
{
    long long ours, tables;
    int r =
        deploy_number(d->pg, "SELECT count(to_regclass('public.schema_migrations'))", &ours, err);

    if (r == 0)
        r = deploy_number(d->pg,
                          "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = "
                          "c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE "
                          "'pg\\_%' AND n.nspname <> 'information_schema'",
                          &tables, err);
    if (r == 0 && ours == 0 && tables > 0)
        r = qvd_error_set(err, -EEXIST,
                          "database %s holds %lld tables that qvd-deploy-db did not make: choose "
                          "another database.name, or destroy them with --force",
                          d->target.name, tables);
    return r;
}

static int grant(struct deploy *d, struct qvd_error *err)
{
    int r = sql_name(d->pg, err, "REVOKE ALL ON DATABASE %s FROM PUBLIC", d->target.name);

    if (r == 0)
        r = sql_name(d->pg, err,
                     "GRANT CONNECT ON DATABASE %s TO qvd_hkd, qvd_l7r, qvd_auth, qvd_api",
                     d->target.name);
    if (r == 0)
        r = deploy_sql(d->pg, NULL, err,
                       "REVOKE CREATE ON SCHEMA public FROM PUBLIC; "
                       "GRANT USAGE ON SCHEMA public TO qvd_hkd, qvd_l7r, qvd_auth, qvd_api; "
                       "GRANT CREATE, USAGE ON SCHEMA public TO qvd_owner");
    return r;
}

int deploy_prepare(struct deploy *d, struct qvd_error *err)
{
    int r;

    if (PQserverVersion(d->server) < 150000)
        return qvd_error_set(err, -EPROTO, "PostgreSQL %d: QVD needs 15 or later",
                             PQserverVersion(d->server) / 10000);
    r = deploy_sql(d->server, NULL, err, "SELECT pg_advisory_lock(hashtext('qvd-deploy-db'))");
    if (r == 0)
        r = make_roles(d, err);
    if (r < 0)
        return r;
    r = deploy_exists(d, err);
    if (r > 0)
        r = deploy_connect(d, d->target.name, &d->pg, err);
    if (r == 0 && d->pg && d->force)
        r = destroy(d, err);
    if (r == 0 && !d->pg) {
        r = create_database(d, err);
        if (r == 0)
            r = deploy_connect(d, d->target.name, &d->pg, err);
    }
    if (r == 0)
        r = refuse_foreign(d, err);
    if (r == 0)
        r = grant(d, err);
    return r;
}
