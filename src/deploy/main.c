// SPDX-License-Identifier: GPL-3.0-or-later

/* qvd-deploy-db: installs the database of a farm or brings it up to date. May be repeated. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "conf/main.h"
#include "deploy/deploy.h"

struct arguments {
    bool force, status, check, ident_map;
    const char *admin_password_file, *user;
};

static int on_option(void *arg, const struct conf_option *o, const char *value)
{
    struct arguments *a = arg;

    if (strcmp(o->name, "force") == 0)
        a->force = true;
    else if (strcmp(o->name, "status") == 0)
        a->status = true;
    else if (strcmp(o->name, "check") == 0)
        a->check = true;
    else if (strcmp(o->name, "ident-map") == 0)
        a->ident_map = true;
    else if (strcmp(o->name, "admin-password-file") == 0)
        a->admin_password_file = value;
    else
        a->user = value;
    return 0;
}

static int install(struct deploy *d, struct qvd_error *err)
{
    int r = deploy_prepare(d, err);

    if (r == 0)
        r = deploy_migrate(d, err);
    if (r == 0)
        r = deploy_first_admin(d, err);
    return r;
}

/* Exit status. */
static int work(const struct conf *c, const struct arguments *a)
{
    struct deploy d = {.conf = c,
                       .user = a->user ? a->user : "postgres",
                       .admin_password_file = a->admin_password_file,
                       .force = a->force};
    struct qvd_error err = {0};
    int r = db_target_from_conf(c, "hkd", &d.target, &err);

    if (r == 0)
        r = deploy_connect(&d, "postgres", &d.server, &err);
    if (r == 0 && a->status)
        r = deploy_status(&d, &err);
    else if (r == 0 && a->check)
        r = deploy_check(&d, &err);
    else if (r == 0)
        r = install(&d, &err);
    PQfinish(d.pg);
    PQfinish(d.server);
    (void)fflush(stdout);
    if (r < 0)
        log_error("%s", err.text);
    return r < 0 ? 1 : r > 0 ? 3 : 0;
}

int main(int argc, char **argv)
{
    static const struct conf_option options[] = {
        {0,   "status",              NULL,   "tell which migrations are applied; 3: some are missing"},
        {0,   "check",               NULL,   "tell what PostgreSQL lacks; 3: something"              },
        {0,   "ident-map",           NULL,   "print the lines of pg_hba.conf and pg_ident.conf"      },
        {0,   "force",               NULL,   "destroy what the database holds and install anew"      },
        {0,   "admin-password-file", "FILE",
         "write the first administrator's password there (new, 0600)"                                },
        {'U', "user",                "ROLE", "connect as this role (postgres)"                       },
        {0,   NULL,                  NULL,   NULL                                                    },
    };
    struct arguments a = {0};
    const struct conf_program program = {
        .name = "qvd-deploy-db",
        .summary = "Installs the database of QVD, or brings it up to date; may be repeated.",
        .files = CONF_IN_NODE,
        .rows = deploy_read_rows,
        .tool = true,
        .options = options,
        .option = on_option,
        .arg = &a,
    };
    struct conf *c;
    int status;

    c = conf_main(&program, argc, argv, &status);
    if (!c)
        return status;
    if (a.status + a.check + a.ident_map + a.force > 1) {
        log_error("--status, --check, --ident-map and --force exclude each other");
        status = 2;
    } else if (a.ident_map) {
        deploy_print_ident_map();
        status = 0;
    } else {
        status = work(c, &a);
    }
    conf_free(c);
    return status;
}
