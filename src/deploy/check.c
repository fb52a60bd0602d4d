// SPDX-License-Identifier: GPL-3.0-or-later

/* What PostgreSQL lacks for QVD: connections, encoding, roles, who may log in as what. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "deploy/deploy.h"

/* Connections of one node (hkd 1 + 1, broker 1 + 2, authd 1 + 1) and of one API (1 + 4 and its
 * authd). */
enum { HKD = 2, BROKER = 3, AUTHD = 2, API = 5, SPARE = 10 };

static bool tell(bool good, const char *what, const char *mend)
{
    printf("%-4s  %s%s%s\n", good ? "ok" : "FAIL", what, good ? "" : ": ", good ? "" : mend);
    return good;
}

static int check_connections(struct deploy *d, bool *good, struct qvd_error *err)
{
    long long max, hosts;
    char what[128], mend[128];
    int r = deploy_number(d->server, "SELECT current_setting('max_connections')", &max, err);

    if (r == 0)
        r = deploy_number(d->pg, "SELECT count(*) FROM hosts", &hosts, err);
    if (r < 0)
        return r;
    hosts = hosts > 0 ? hosts : 1;
    long long need = hosts * (HKD + BROKER + AUTHD) + API + AUTHD + SPARE;

    (void)snprintf(what, sizeof what, "max_connections = %lld, %lld nodes may use %lld", max, hosts,
                   need);
    (void)snprintf(mend, sizeof mend, "set it to %lld or more and restart PostgreSQL", need);
    *good &= tell(max >= need, what, mend);
    return 0;
}

static int check_setting(struct deploy *d, const char *sql, const char *what, const char *mend,
                         bool *good, struct qvd_error *err)
{
    long long n;
    int r = deploy_number(d->pg, sql, &n, err);

    if (r == 0)
        *good &= tell(n > 0, what, mend);
    return r;
}

static int check_role(struct deploy *d, const struct deploy_role *role, bool *good,
                      struct qvd_error *err)
{
    char sql[256], what[128], mend[160], key[64];
    long long n;
    int r;

    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pg_roles WHERE rolname = '%s' AND rolcanlogin AND NOT "
                   "rolsuper AND NOT rolcreaterole AND NOT rolcreatedb",
                   role->role);
    (void)snprintf(what, sizeof what, "role %s may log in and no more", role->role);
    r = check_setting(d, sql, what, "run qvd-deploy-db, or take its other attributes away", good,
                      err);
    if (r < 0 || *conf_str(d->conf, "database.user"))
        return r;
    if (*d->target.host == '/') {
        (void)snprintf(sql, sizeof sql,
                       "SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NULL AND "
                       "sys_name = '%s' AND pg_username = '%s'",
                       role->system_user, role->role);
        (void)snprintf(what, sizeof what, "%s may be %s over the unix socket", role->system_user,
                       role->role);
        return check_setting(d, sql, what,
                             "put the lines of qvd-deploy-db --ident-map into pg_hba.conf and "
                             "pg_ident.conf, and reload PostgreSQL",
                             good, err);
    }
    (void)snprintf(key, sizeof key, "database.%s.password", role->part);
    (void)snprintf(
        sql, sizeof sql,
        "SELECT count(*) FROM pg_authid WHERE rolname = '%s' AND rolpassword IS NOT NULL",
        role->role);
    (void)snprintf(what, sizeof what, "role %s has a password", role->role);
    (void)snprintf(mend, sizeof mend, "set %s in node.conf and run qvd-deploy-db", key);
    r = deploy_number(d->server, sql, &n, err);
    if (r == 0)
        *good &= tell(n > 0 && *conf_str(d->conf, key), what, mend);
    return r;
}

int deploy_check(struct deploy *d, struct qvd_error *err)
{
    bool good = true;
    int r = deploy_exists(d, err);

    if (r == 0)
        return qvd_error_set(err, -ENOENT, "database %s does not exist: run qvd-deploy-db",
                             d->target.name);
    if (r > 0)
        r = deploy_connect(d, d->target.name, &d->pg, err);
    if (r == 0)
        r = check_connections(d, &good, err);
    if (r == 0)
        r = check_setting(d, "SELECT (current_setting('server_version_num')::int >= 150000)::int",
                          "PostgreSQL 15 or later", "install a newer PostgreSQL", &good, err);
    if (r == 0)
        r = check_setting(d, "SELECT (getdatabaseencoding() = 'UTF8')::int", "encoding UTF8",
                          "install into a new database", &good, err);
    if (r == 0)
        r = check_setting(d, "SELECT (current_setting('fsync') = 'on')::int", "fsync = on",
                          "without it a power cut may destroy the database", &good, err);
    if (r == 0)
        r = check_setting(d, "SELECT (current_setting('autovacuum') = 'on')::int",
                          "autovacuum = on", "set it", &good, err);
    if (r == 0)
        r = check_setting(d, "SELECT count(*) FROM administrators WHERE NOT blocked",
                          "there is an administrator",
                          "run qvd-deploy-db --admin-password-file FILE", &good, err);
    for (size_t i = 0; i < ARRAY_SIZE(deploy_roles) && r == 0; i++)
        r = check_role(d, &deploy_roles[i], &good, err);
    return r < 0 ? r : !good;
}

void deploy_print_ident_map(void)
{
    printf("# pg_hba.conf, above other \"local\" lines:\n");
    for (size_t i = 0; i < ARRAY_SIZE(deploy_roles); i++)
        printf("local  all  %-9s  peer map=qvd\n", deploy_roles[i].role);
    printf("\n# pg_ident.conf:\n");
    for (size_t i = 0; i < ARRAY_SIZE(deploy_roles); i++)
        printf("qvd  %-11s  %s\n", deploy_roles[i].system_user, deploy_roles[i].role);
}
