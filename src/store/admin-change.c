// SPDX-License-Identifier: GPL-3.0-or-later
/* Creation, change and deletion of one object, each one statement made from the tables. */
#include <string.h>

#include "base/str.h"
#include "store/admin-internal.h"

/* What PostgreSQL's constraints mean to people. */
static const struct {
    const char *name, *text;
} constraints[] = {
    {"hosts_name_key",               "there is a host of this name already"                      },
    {"hosts_address_key",            "another host has this address"                             },
    {"osfs_tenant_id_name_key",      "there is an OSF of this name already"                      },
    {"users_tenant_id_login_key",    "there is a user of this login already"                     },
    {"vms_user_id_name_key",         "the user has a VM of this name already"                    },
    {"vms_ip_key",                   "another VM has this address"                               },
    {"dis_osf_id_version_key",       "the OSF has an image of this version already"              },
    {"di_tags_tag_check",            "a tag has 1 to 128 characters, no blanks and no commas"    },
    {"vms_di_tag_check",             "a tag has 1 to 128 characters, no blanks and no commas"    },
    {"dis_version_check",            "a version has letters, digits, \".\", \"_\" and \"-\" only"},
    {"vms_ip_check",                 "a VM's address is an IPv4 address"                         },
    {"vm_runtimes_expiration_check", "expirations are set on a running VM only"                  },
    {"vms_user_fkey",                "it still has VMs"                                          },
    {"vms_osf_fkey",                 "it still has VMs"                                          },
    {"dis_osf_id_fkey",              "it still has images"                                       },
};

static enum admin_status constraint_failed(const struct db_result *r, const char *what,
                                           struct qvd_error *err)
{
    bool check = strcmp(db_sqlstate(r), "23514") == 0 || strcmp(db_sqlstate(r), "23502") == 0;
    enum admin_status st = check ? ADMIN_INVALID : ADMIN_CONFLICT;

    for (size_t i = 0; i < ARRAY_SIZE(constraints); i++)
        if (db_violates(r, constraints[i].name)) {
            qvd_error_set(err, (int)st, "%s: %s", what, constraints[i].text);
            return st;
        }
    qvd_error_set(err, (int)st, "%s: refused by the database's rule %s", what, db_constraint(r));
    return st;
}

enum admin_status store_admin_failed(const struct db_result *r, const char *what,
                                     struct qvd_error *err)
{
    switch (db_status(r)) {
    case DB_OK:
        return ADMIN_OK;
    case DB_CONSTRAINT:
        return constraint_failed(r, what, err);
    case DB_ERROR:
        if (strncmp(db_sqlstate(r), "22", 2) == 0) {
            qvd_error_set(err, ADMIN_BAD, "%s: %.180s", what, db_error(r));
            return ADMIN_BAD;
        }
        qvd_error_set(err, ADMIN_BROKEN, "%s: %.180s", what, db_error(r));
        return ADMIN_BROKEN;
    default:
        qvd_error_set(err, ADMIN_AWAY, "the database does not answer (%s); try again",
                      db_status_name(db_status(r)));
        return ADMIN_AWAY;
    }
}

static bool is_reference(const struct admin_field *f)
{
    return f->value && strstr(f->value, "SELECT");
}

static void on_created(void *arg, const struct db_result *r)
{
    _cleanup_(admin_call_free_p) struct admin_call *c = arg;
    struct admin_done done = {0};

    done.status = store_admin_failed(r, c->resource->name, &done.err);
    if (done.status == ADMIN_OK)
        done.id = db_int(r, 0, 0);
    if (done.status == ADMIN_OK && !done.id) {
        done.status = ADMIN_INVALID;
        qvd_error_set(&done.err, ADMIN_INVALID, "%s: not created", c->resource->name);
        for (size_t i = 0; i < c->n_refs; i++)
            if (db_bool(r, 0, (int)i + 2))
                qvd_error_set(&done.err, ADMIN_INVALID, "%s: there is no such %s in this tenant",
                              c->resource->name, c->refs[i]);
        if (db_bool(r, 0, 1)) {
            done.status = ADMIN_CONFLICT;
            qvd_error_set(&done.err, ADMIN_CONFLICT,
                          "%s: no address is free between vm.network.ip.start and the end of the "
                          "network; delete VMs or widen it (vm.network.netmask)",
                          c->resource->name);
        }
    }
    c->fn.done(c->arg, &done);
}

/* "c0, c1, ..., cn-1" */
static void add_columns(struct sql *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sql_add(s, "%sc%zu", i ? ", " : "", i);
}

static void build_create(struct admin_call *c, const struct admin_resource *r,
                         const struct admin_value *v, size_t n, bool extra)
{
    struct sql *s = c->sql;
    size_t all = n + (extra ? 1 : 0);

    sql_add(s, "WITH r AS (SELECT $1::bigint AS tenant");
    for (size_t i = 0; i < n; i++) {
        sql_add(s, ", ");
        sql_value(s, v[i].field->value ? v[i].field->value : "%s::text", DB_TEXT(v[i].text));
        sql_add(s, " AS c%zu", i);
    }
    if (extra)
        sql_add(s, ", %s AS c%zu", r->extra_value, n);
    sql_add(s, "), ins AS (INSERT INTO %s (", r->table);
    for (size_t i = 0; i < n; i++)
        sql_add(s, "%s%s", i ? ", " : "", v[i].field->column);
    if (extra)
        sql_add(s, "%s%s", n ? ", " : "", r->extra_column);
    sql_add(s, ") SELECT ");
    add_columns(s, all);
    sql_add(s, " FROM r WHERE true");
    for (size_t i = 0; i < n; i++)
        if (is_reference(v[i].field))
            sql_add(s, " AND c%zu IS NOT NULL", i);
    if (extra)
        sql_add(s, " AND c%zu IS NOT NULL", n);
    sql_add(s, " RETURNING id) SELECT (SELECT id FROM ins), ");
    if (extra)
        sql_add(s, "c%zu IS NULL", n);
    else
        sql_add(s, "false");
    for (size_t i = 0; i < n && c->n_refs < ARRAY_SIZE(c->refs); i++)
        if (is_reference(v[i].field)) {
            c->refs[c->n_refs++] = v[i].field->name;
            sql_add(s, ", c%zu IS NULL", i);
        }
    sql_add(s, " FROM r");
}

enum admin_status store_admin_create(struct db *db, const struct admin_resource *r,
                                     const struct admin_who *who, int64_t tenant,
                                     const struct admin_value *values, size_t n,
                                     const struct db_param *extra, admin_done_fn *fn, void *arg,
                                     struct qvd_error *err)
{
    struct admin_call *c = NULL;
    enum admin_status st = admin_call_begin(r, who, arg, &c, err);

    if (st != ADMIN_OK)
        return st;
    c->fn.done = fn;
    (void)sql_param(c->sql, DB_INT(tenant));
    for (const struct db_param *p = extra; p && p->kind != DB_KIND_END; p++)
        (void)sql_param(c->sql, *p);
    bool with_extra = r->extra_column && (extra || !strstr(r->extra_value, "$2"));
    build_create(c, r, values, n, with_extra);
    return admin_call_send(db, c, 0, on_created, err);
}

static void on_edited(void *arg, const struct db_result *r)
{
    _cleanup_(admin_call_free_p) struct admin_call *c = arg;
    struct admin_done done = {.id = c->id};

    done.status = store_admin_failed(r, c->resource->name, &done.err);
    if (done.status == ADMIN_OK && db_rows(r) == 0) {
        done.status = ADMIN_NOT_FOUND;
        qvd_error_set(&done.err, ADMIN_NOT_FOUND, "there is no %s %lld", c->resource->name,
                      (long long)c->id);
    }
    c->fn.done(c->arg, &done);
}

/* One UPDATE of those fields that live in the table (or in the companion); nothing without any. */
static void add_update(struct sql *s, const char *table, const char *key, const char *cte,
                       const struct admin_value *v, size_t n, bool companion)
{
    bool first = true;

    for (size_t i = 0; i < n; i++) {
        if (admin_may(v[i].field, 'x') != companion)
            continue;
        if (first)
            sql_add(s, ", %s AS (UPDATE %s x SET ", cte, table);
        sql_add(s, "%s%s = ", first ? "" : ", ", v[i].field->column);
        sql_value(s, v[i].field->value, DB_TEXT(v[i].text));
        first = false;
    }
    if (!first)
        sql_add(s, " FROM o WHERE x.%s = o.id)", key);
}

enum admin_status store_admin_edit(struct db *db, const struct admin_resource *r,
                                   const struct admin_who *who, int64_t id,
                                   const struct admin_value *values, size_t n, admin_done_fn *fn,
                                   void *arg, struct qvd_error *err)
{
    struct admin_call *c = NULL;
    enum admin_status st = admin_call_begin(r, who, arg, &c, err);

    if (st != ADMIN_OK)
        return st;
    c->fn.done = fn;
    c->id = id;
    sql_add(c->sql, "WITH o AS (SELECT %s AS id FROM %s WHERE %s = $%u", r->key, r->from, r->key,
            sql_param(c->sql, DB_INT(id)));
    sql_scope(c->sql, r, who);
    sql_add(c->sql, ")");
    add_update(c->sql, r->table, "id", "a", values, n, false);
    if (r->companion)
        add_update(c->sql, r->companion, r->companion_key, "b", values, n, true);
    sql_add(c->sql, " SELECT id FROM o");
    return admin_call_send(db, c, DB_REPEAT, on_edited, err);
}

static void on_deleted(void *arg, const struct db_result *r)
{
    _cleanup_(admin_call_free_p) struct admin_call *c = arg;
    struct admin_done done = {.id = c->id};
    const char *name = c->resource->name;

    done.status = store_admin_failed(r, name, &done.err);
    if (done.status == ADMIN_OK && db_rows(r) == 0) {
        done.status = ADMIN_NOT_FOUND;
        qvd_error_set(&done.err, ADMIN_NOT_FOUND, "there is no %s %lld", name, (long long)c->id);
    } else if (done.status == ADMIN_OK && !db_null(r, 0, 0)) {
        done.status = ADMIN_CONFLICT;
        qvd_error_set(&done.err, ADMIN_CONFLICT, "%s %lld not deleted: %s", name, (long long)c->id,
                      db_str(r, 0, 0));
    }
    c->fn.done(c->arg, &done);
}

enum admin_status store_admin_delete(struct db *db, const struct admin_resource *r,
                                     const struct admin_who *who, int64_t id, admin_done_fn *fn,
                                     void *arg, struct qvd_error *err)
{
    struct admin_call *c = NULL;
    enum admin_status st = admin_call_begin(r, who, arg, &c, err);

    if (st != ADMIN_OK)
        return st;
    c->fn.done = fn;
    c->id = id;
    sql_add(c->sql, "WITH o AS (SELECT %s AS id, ", r->key);
    sql_add(c->sql, "%s", r->keep ? r->keep : "NULL::text");
    sql_add(c->sql, " AS why FROM %s WHERE %s = $%u", r->from, r->key,
            sql_param(c->sql, DB_INT(id)));
    sql_scope(c->sql, r, who);
    sql_add(c->sql,
            "), d AS (DELETE FROM %s x USING o WHERE x.id = o.id AND o.why IS NULL"
            " RETURNING x.id) SELECT o.why, (SELECT count(*) FROM d) FROM o",
            r->table);
    return admin_call_send(db, c, DB_REPEAT, on_deleted, err);
}

static void on_tenant(void *arg, const struct db_result *r)
{
    _cleanup_(admin_call_free_p) struct admin_call *c = arg;
    struct admin_done done = {0};

    done.status = store_admin_failed(r, "tenant", &done.err);
    if (done.status == ADMIN_OK && db_rows(r) == 0) {
        done.status = ADMIN_INVALID;
        qvd_error_set(&done.err, ADMIN_INVALID, "there is no such tenant");
    } else if (done.status == ADMIN_OK) {
        done.id = db_int(r, 0, 0);
    }
    c->fn.done(c->arg, &done);
}

enum admin_status store_admin_tenant(struct db *db, const char *name, admin_done_fn *fn, void *arg,
                                     struct qvd_error *err)
{
    struct admin_call *c = admin_call_new(NULL, arg);

    if (!c) {
        qvd_error_set(err, ADMIN_AWAY, "out of memory");
        return ADMIN_AWAY;
    }
    c->fn.done = fn;
    sql_add(c->sql, "SELECT id FROM tenants WHERE name = $%u AND id >= 1",
            sql_param(c->sql, DB_TEXT(name)));
    return admin_call_send(db, c, DB_REPEAT, on_tenant, err);
}
