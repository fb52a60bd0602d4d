// SPDX-License-Identifier: GPL-3.0-or-later
/* Statements and conditions from the tables of fields. Values are parameters, always. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "store/admin-internal.h"

struct sql *sql_new(void)
{
    struct sql *s = calloc(1, sizeof *s);

    if (s)
        buf_init(&s->text, 0);
    return s;
}

struct sql *sql_free(struct sql *s)
{
    if (s) {
        buf_done(&s->text);
        free(s);
    }
    return NULL;
}

void sql_add(struct sql *s, const char *fmt, ...)
{
    char small[2048];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof small)
        s->failed = -E2BIG;
    else if (buf_append(&s->text, small, (size_t)n) < 0)
        s->failed = -ENOMEM;
}

unsigned sql_param(struct sql *s, struct db_param p)
{
    if (s->n >= SQL_PARAMS_MAX) {
        s->failed = -E2BIG;
        return 1;
    }
    s->params[s->n] = p;
    return (unsigned)++s->n;
}

void sql_value(struct sql *s, const char *how, struct db_param p)
{
    unsigned n = sql_param(s, p);
    const char *mark = how ? strstr(how, "%s") : NULL;

    if (!mark)
        sql_add(s, "$%u", n);
    else
        sql_add(s, "%.*s$%u%s", (int)(mark - how), how, n, mark + 2);
}

void sql_scope(struct sql *s, const struct admin_resource *r, const struct admin_who *who)
{
    if (r->tenant && who->tenant_id != 0)
        sql_add(s, " AND %s = $%u", r->tenant, sql_param(s, DB_INT(who->tenant_id)));
}

static enum admin_status bad_value(const struct admin_field *f, const char *value,
                                   const char *wanted, struct qvd_error *err)
{
    qvd_error_set(err, ADMIN_BAD, "filter: %s = \"%.60s\": %s expected", f->name, value, wanted);
    return ADMIN_BAD;
}

static const char *bool_text(const char *v)
{
    static const char *const yes[] = {"1", "yes", "true", "y", "on", "t"};
    static const char *const no[] = {"0", "no", "false", "n", "off", "f"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        if (strcasecmp(v, yes[i]) == 0)
            return "t";
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        if (strcasecmp(v, no[i]) == 0)
            return "f";
    return NULL;
}

static bool is_real(const char *v)
{
    char *end;

    (void)strtod(v, &end);
    return *v && !*end && strspn(v, "+-0123456789.eE") == strlen(v);
}

static bool is_ip(const char *v)
{
    unsigned char room[16];

    return inet_pton(AF_INET, v, room) == 1 || inet_pton(AF_INET6, v, room) == 1;
}

static const char *const operators[] = {
    [FILTER_EQ] = "=",  [FILTER_NE] = "=",  [FILTER_LT] = "<",       [FILTER_GT] = ">",
    [FILTER_LE] = "<=", [FILTER_GE] = ">=", [FILTER_BETWEEN] = ">=",
};

/* One comparison of the field with a value that is not empty. */
static enum admin_status compare(struct sql *s, const struct admin_field *f, const char *op,
                                 const struct filter_value *v, struct qvd_error *err)
{
    bool equal = strcmp(op, "=") == 0;
    bool text = f->type == ADMIN_TEXT || f->type == ADMIN_LOGIN || f->type == ADMIN_WORD ||
                f->type == ADMIN_STATE || f->type == ADMIN_IP || f->type == ADMIN_LIST;
    int64_t number;

    if (v->like && !(equal && text))
        return bad_value(f, v->text, "a value without wildcards", err);
    if (v->like && f->type != ADMIN_LIST) {
        sql_add(s, "%s LIKE ", f->sql);
        sql_value(s, NULL, DB_TEXT(v->like));
        return ADMIN_OK;
    }
    switch (f->type) {
    case ADMIN_INT:
        if (str_to_i64(v->text, INT64_MIN, INT64_MAX, &number) < 0)
            return bad_value(f, v->text, "a whole number", err);
        sql_add(s, "%s %s $%u::bigint", f->sql, op, sql_param(s, DB_INT(number)));
        break;
    case ADMIN_REAL:
        if (!is_real(v->text))
            return bad_value(f, v->text, "a number", err);
        sql_add(s, "%s %s $%u::float8", f->sql, op, sql_param(s, DB_TEXT(v->text)));
        break;
    case ADMIN_BOOL:
        if (!bool_text(v->text) || !equal)
            return bad_value(f, v->text, "= or != and yes or no", err);
        sql_add(s, "%s = $%u::boolean", f->sql, sql_param(s, DB_TEXT(bool_text(v->text))));
        break;
    case ADMIN_TIME:
        sql_add(s, "%s %s $%u::timestamptz", f->sql, op, sql_param(s, DB_TEXT(v->text)));
        break;
    case ADMIN_IP:
        if (!is_ip(v->text))
            return bad_value(f, v->text, "an address", err);
        sql_add(s, "(%s)::inet %s $%u::inet", f->sql, op, sql_param(s, DB_TEXT(v->text)));
        break;
    case ADMIN_STATE:
        if (!equal)
            return bad_value(f, v->text, "= or !=", err);
        sql_add(s, "(%s = $%u OR ", f->sql, sql_param(s, DB_TEXT(v->text)));
        sql_add(s, "%s LIKE $%u || '\\_%%')", f->sql, (unsigned)s->n);
        break;
    case ADMIN_LIST:
        sql_add(s, "EXISTS (SELECT FROM unnest(%s) x WHERE x %s $%u)", f->sql,
                v->like ? "LIKE" : op, sql_param(s, DB_TEXT(v->like ? v->like : v->text)));
        break;
    default:
        sql_add(s, "%s %s $%u", f->sql, op, sql_param(s, DB_TEXT(v->text)));
        break;
    }
    return ADMIN_OK;
}

static enum admin_status compare_any(struct sql *s, const struct admin_field *f,
                                     const struct filter *t, struct qvd_error *err)
{
    for (size_t i = 0; i < t->n_values; i++) {
        enum admin_status st = ADMIN_OK;
        const char *op = t->op == FILTER_BETWEEN && i == 1 ? "<=" : operators[t->op];
        if (i)
            sql_add(s, t->op == FILTER_BETWEEN ? " AND " : " OR ");
        if (t->values[i].text[0] || t->values[i].like)
            st = compare(s, f, op, &t->values[i], err);
        else if (f->type == ADMIN_LIST)
            sql_add(s, "%s = '{}'", f->sql);
        else
            sql_add(s, "coalesce((%s)::text, '') = ''", f->sql);
        if (st != ADMIN_OK)
            return st;
    }
    return ADMIN_OK;
}

static enum admin_status property(struct sql *s, const struct admin_resource *r,
                                  const struct filter *t, struct qvd_error *err)
{
    static const struct admin_field value = {
        .name = "property", .type = ADMIN_TEXT, .sql = "p.value"};

    if (!r->properties) {
        qvd_error_set(err, ADMIN_BAD, "filter: %s has no properties", r->name);
        return ADMIN_BAD;
    }
    sql_add(s,
            "EXISTS (SELECT FROM %s p JOIN qvd_object_properties_list q ON q.id = p.property_id"
            " JOIN properties_list l ON l.id = q.property_id WHERE p.%s_id = %s AND l.key = ",
            r->properties, r->name, r->key);
    sql_value(s, NULL, DB_TEXT(t->key + strlen("property.")));
    sql_add(s, " AND (");
    enum admin_status st = compare_any(s, &value, t, err);
    sql_add(s, "))");
    return st;
}

/* What "alice" alone asks for: the name, or what stands for it. */
static const struct admin_field *filter_field(const struct admin_resource *r, const char *key)
{
    const struct admin_field *f = admin_field_find(r, key);

    if (!f && strcmp(key, "name") == 0)
        f = admin_field_find(r, "login");
    if (!f && strcmp(key, "name") == 0)
        f = admin_field_find(r, "path");
    return f && admin_may(f, 'f') ? f : NULL;
}

static enum admin_status test(struct sql *s, const struct admin_resource *r, const struct filter *t,
                              struct qvd_error *err)
{
    const struct admin_field *f = filter_field(r, t->key);
    enum admin_status st;

    if (!f && !str_starts(t->key, "property.")) {
        qvd_error_set(err, ADMIN_BAD, "filter: %s has no field \"%.60s\" to filter by", r->name,
                      t->key);
        return ADMIN_BAD;
    }
    sql_add(s, t->op == FILTER_NE ? "NOT coalesce((" : "coalesce((");
    st = f ? compare_any(s, f, t, err) : property(s, r, t, err);
    sql_add(s, "), false)");
    return st;
}

enum admin_status sql_filter(struct sql *s, const struct admin_resource *r, const struct filter *f,
                             struct qvd_error *err)
{
    enum admin_status st;

    if (f->kind == FILTER_TEST)
        return test(s, r, f, err);
    sql_add(s, f->kind == FILTER_NOT ? "NOT (" : "(");
    st = sql_filter(s, r, f->left, err);
    if (st == ADMIN_OK && f->right) {
        sql_add(s, f->kind == FILTER_AND ? " AND " : " OR ");
        st = sql_filter(s, r, f->right, err);
    }
    sql_add(s, ")");
    return st;
}

struct admin_call *admin_call_new(const struct admin_resource *r, void *arg)
{
    struct admin_call *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->resource = r;
    c->arg = arg;
    c->sql = sql_new();
    return c->sql ? c : admin_call_free(c);
}

struct admin_call *admin_call_free(struct admin_call *c)
{
    if (c) {
        sql_free(c->sql);
        free(c);
    }
    return NULL;
}

enum admin_status admin_call_send(struct db *db, struct admin_call *c, unsigned flags,
                                  db_done_fn *done, struct qvd_error *err)
{
    const char *text = buf_cstr(&c->sql->text);
    int failed = c->sql->failed;

    c->sql->params[c->sql->n] = (struct db_param){.kind = DB_KIND_END};
    if (failed == 0 && text && db_query(db, text, c->sql->params, flags | DB_BUILT, done, c))
        return ADMIN_OK;
    admin_call_free(c);
    if (failed == -E2BIG) {
        qvd_error_set(err, ADMIN_BAD, "the question is too long");
        return ADMIN_BAD;
    }
    qvd_error_set(err, ADMIN_AWAY, "out of memory");
    return ADMIN_AWAY;
}

/* Farm-wide things are the superadministrators'. */
static enum admin_status check_right(const struct admin_resource *r, const struct admin_who *who,
                                     struct qvd_error *err)
{
    if (r->tenant || who->tenant_id == 0)
        return ADMIN_OK;
    qvd_error_set(err, ADMIN_FORBIDDEN, "%s: only superadministrators (of tenant *) may", r->text);
    return ADMIN_FORBIDDEN;
}

enum admin_status admin_call_begin(const struct admin_resource *r, const struct admin_who *who,
                                   void *arg, struct admin_call **ret_call, struct qvd_error *err)
{
    enum admin_status st = check_right(r, who, err);

    if (st != ADMIN_OK)
        return st;
    struct admin_call *c = admin_call_new(r, arg);
    if (!c) {
        qvd_error_set(err, ADMIN_AWAY, "out of memory");
        return ADMIN_AWAY;
    }
    *ret_call = c;
    return ADMIN_OK;
}
