// SPDX-License-Identifier: GPL-3.0-or-later
/* Lists of a resource: which fields, filtered, sorted, a page of them. PostgreSQL makes the JSON.
 */
#include <string.h>

#include "base/str.h"
#include "store/admin-internal.h"

static void add_field(struct sql *s, const struct admin_field *f, bool first)
{
    sql_add(s, "%s'%s', ", first ? "" : ", ", f->name);
    if (f->type == ADMIN_TIME)
        sql_add(s, "to_char((%s) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')", f->sql);
    else
        sql_add(s, "%s", f->sql);
}

static enum admin_status unknown_field(const struct admin_resource *r, const char *name,
                                       const char *what, struct qvd_error *err)
{
    const char *near = NULL;
    unsigned best = 3;

    for (size_t i = 0; i < r->n_fields; i++) {
        unsigned d = str_distance(name, r->fields[i].name);
        if (d < best && admin_may(&r->fields[i], 'r')) {
            best = d;
            near = r->fields[i].name;
        }
    }
    qvd_error_set(err, ADMIN_BAD, "%s: %s has no field \"%.60s\"%s%s%s", what, r->name, name,
                  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return ADMIN_BAD;
}

static enum admin_status add_fields(struct sql *s, const struct admin_resource *r,
                                    const char *fields, struct qvd_error *err)
{
    bool first = true;

    if (!fields || !*fields) {
        for (size_t i = 0; i < r->n_fields; i++) {
            if (!admin_may(&r->fields[i], 'r'))
                continue;
            add_field(s, &r->fields[i], first);
            first = false;
        }
        return ADMIN_OK;
    }
    for (const char *at = fields; *at;) {
        size_t n = strcspn(at, ",");
        char name[64];
        if (n == 0 || n >= sizeof name)
            return unknown_field(r, "", "fields", err);
        memcpy(name, at, n);
        name[n] = '\0';
        const struct admin_field *f = admin_field_find(r, name);
        if (!f || !admin_may(f, 'r'))
            return unknown_field(r, name, "fields", err);
        add_field(s, f, first);
        first = false;
        at += at[n] ? n + 1 : n;
    }
    return ADMIN_OK;
}

static enum admin_status add_sort(struct sql *s, const struct admin_resource *r, const char *sort,
                                  struct qvd_error *err)
{
    sql_add(s, " ORDER BY ");
    for (const char *at = sort && *sort ? sort : r->sort; *at;) {
        bool down = *at == '-';
        at += down;
        size_t n = strcspn(at, ",");
        char name[64] = "";
        if (n < sizeof name)
            memcpy(name, at, n);
        const struct admin_field *f = admin_field_find(r, name);
        if (!f || !admin_may(f, 's'))
            return unknown_field(r, name, "sort", err);
        sql_add(s, "%s %s NULLS LAST, ", f->sql, down ? "DESC" : "ASC");
        at += at[n] ? n + 1 : n;
    }
    sql_add(s, "%s", r->key);
    return ADMIN_OK;
}

static enum admin_status add_where(struct sql *s, const struct admin_resource *r,
                                   const struct admin_who *who, const struct admin_query *q,
                                   struct qvd_error *err)
{
    sql_add(s, " FROM %s WHERE true", r->from);
    sql_scope(s, r, who);
    if (q->id)
        sql_add(s, " AND %s = $%u", r->key, sql_param(s, DB_INT(q->id)));
    if (!q->filter)
        return ADMIN_OK;
    sql_add(s, " AND ");
    return sql_filter(s, r, q->filter, err);
}

static void on_list(void *arg, const struct db_result *r)
{
    _cleanup_(admin_call_free_p) struct admin_call *c = arg;
    struct admin_list list = {.rows = r};

    list.status = store_admin_failed(r, c->resource->text, &list.err);
    if (list.status == ADMIN_OK) {
        list.n_rows = db_rows(r);
        list.total = db_int(r, 0, 0);
        if (list.n_rows == 1 && db_null(r, 0, 1))
            list.n_rows = 0;
    }
    c->fn.list(c->arg, &list);
}

enum admin_status store_admin_list(struct db *db, const struct admin_resource *r,
                                   const struct admin_who *who, const struct admin_query *q,
                                   admin_list_fn *fn, void *arg, struct qvd_error *err)
{
    struct admin_call *c = NULL;
    enum admin_status st = admin_call_begin(r, who, arg, &c, err);

    if (st != ADMIN_OK)
        return st;
    c->fn.list = fn;
    /* The same conditions twice; their parameters too, which costs nothing worth a trick. */
    sql_add(c->sql, "SELECT t.n, l.o FROM (SELECT count(*) AS n");
    st = add_where(c->sql, r, who, q, err);
    sql_add(c->sql, ") t LEFT JOIN LATERAL (SELECT json_build_object(");
    if (st == ADMIN_OK)
        st = add_fields(c->sql, r, q->fields, err);
    sql_add(c->sql, ")::text AS o");
    if (st == ADMIN_OK)
        st = add_where(c->sql, r, who, q, err);
    if (st == ADMIN_OK)
        st = add_sort(c->sql, r, q->sort, err);
    if (st != ADMIN_OK) {
        admin_call_free(c);
        return st;
    }
    sql_add(c->sql, " LIMIT $%u OFFSET ", sql_param(c->sql, DB_INT(q->limit)));
    sql_add(c->sql, "$%u) l ON true", sql_param(c->sql, DB_INT(q->offset)));
    return admin_call_send(db, c, DB_REPEAT, on_list, err);
}
