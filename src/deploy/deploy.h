// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The steps of qvd-deploy-db. Each may be repeated: what is there already is left as it is. They
 * block: this program has no loop. */

#include <libpq-fe.h>
#include <stdbool.h>

#include "base/error.h"
#include "conf/conf.h"
#include "db/db.h"

#define DEPLOY_OWNER "qvd_owner"

/* The role of a part, the system user that peer authentication knows it by. */
struct deploy_role {
    const char *part, *role, *system_user;
};
extern const struct deploy_role deploy_roles[4];

struct deploy {
    const struct conf *conf;
    struct db_target target;
    const char *user; /* whom we connect as */
    const char *admin_password_file;
    bool force;
    PGconn *server; /* in the database "postgres" */
    PGconn *pg;     /* in the target's; NULL while it does not exist */
};

/* Connections (server.c). */
must_check int deploy_connect(const struct deploy *d, const char *database, PGconn **ret_pg,
                              struct qvd_error *err);
/* Does the target's database exist? 1, 0 or -errno. */
must_check int deploy_exists(const struct deploy *d, struct qvd_error *err);
/* Makes roles, database and their rights; with force destroys what was in the database first (says
 * so). Opens d->pg. Refuses a database that holds tables of others. */
must_check int deploy_prepare(struct deploy *d, struct qvd_error *err);

/* Runs one statement (or several without parameters). *ret (may be NULL) by PQclear(). 0, -EIO. */
must_check int deploy_sql(PGconn *pg, PGresult **ret, struct qvd_error *err, const char *sql);
/* The same with one text parameter. */
must_check int deploy_sql1(PGconn *pg, PGresult **ret, struct qvd_error *err, const char *sql,
                           const char *param);
/* First column of the first row as a number; 0 when there is none. */
must_check int deploy_number(PGconn *pg, const char *sql, long long *ret, struct qvd_error *err);
static inline void pqclear_p(PGresult **r)
{
    PQclear(*r);
}

/* Migrations (migrate.c). Applies what is missing, each in a transaction; tells each on stdout. */
must_check int deploy_migrate(struct deploy *d, struct qvd_error *err);
/* Prints what is applied and what is missing. 0 up to date, 1 something is missing, -errno. */
must_check int deploy_status(struct deploy *d, struct qvd_error *err);

/* The first administrator (admin.c): admin@* with a random password, unless there is one. Refuses
 * before anything is made when the password could not be told. */
must_check int deploy_first_admin(struct deploy *d, struct qvd_error *err);

/* What PostgreSQL lacks (check.c). 0 nothing, 1 something (told on stdout), -errno. */
must_check int deploy_check(struct deploy *d, struct qvd_error *err);
void deploy_print_ident_map(void);

/* Reads the settings of the database into c, as the role qvd_hkd: 0, or -errno with err. */
must_check int deploy_read_rows(struct conf *c, struct qvd_error *err);
