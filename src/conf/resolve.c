// SPDX-License-Identifier: GPL-3.0-or-later

/* What the layers of settings come to: looks a key up, expands ${...}, checks the value, and does
 * so for all keys. Owns no layer. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "conf/layers-internal.h"

enum { EXPAND_DEPTH = 16 };

struct raw {
    const char *text;
    char source[320]; /* "" default */
    bool from_rows;
};

static void value_done(struct value *v)
{
    free(v->text);
    free(v->source);
}

void conf_resolved_done(struct resolved *r)
{
    for (size_t i = 0; i < r->n && r->v; i++)
        value_done(&r->v[i]);
    for (size_t i = 0; i < r->nx; i++) {
        free(r->x[i].key);
        value_done(&r->x[i].value);
    }
    free(r->v);
    free(r->x);
    *r = (struct resolved){0};
}

/* Looking up and expanding -------------------------------------------------------------------- */

static const struct conf_entry *entry_find(const struct conf_entries *e, const char *key)
{
    for (size_t i = e->n; i-- > 0;)
        if (strcmp(e->v[i].key, key) == 0)
            return &e->v[i];
    return NULL;
}

const struct row *conf_row_find(const struct rows *rows, int64_t tenant, const char *key)
{
    for (size_t i = 0; i < rows->n; i++)
        if (rows->v[i].tenant == tenant && strcmp(rows->v[i].key, key) == 0)
            return &rows->v[i];
    return NULL;
}

/* The uppermost layer's text of a key; false: nobody set it and there is no default. */
static bool lookup(const struct layers *l, const char *key, int64_t tenant, bool with_rows,
                   struct raw *ret)
{
    const struct conf_key *k = conf_find(key);
    const struct conf_entry *e = entry_find(&l->overrides, key);
    const struct row *row = NULL;

    *ret = (struct raw){0};
    if (e) {
        ret->text = e->value;
        (void)snprintf(ret->source, sizeof ret->source, "option");
        return true;
    }
    if (with_rows && !(k && k->scope == CONF_FILE)) {
        if (tenant >= 0)
            row = conf_row_find(&l->rows, tenant, key);
        if (!row)
            row = conf_row_find(&l->rows, -1, key);
    }
    if (row) {
        ret->text = row->value;
        ret->from_rows = true;
        if (row->tenant >= 0)
            (void)snprintf(ret->source, sizeof ret->source, "database (tenant %lld)",
                           (long long)row->tenant);
        else
            (void)snprintf(ret->source, sizeof ret->source, "database");
        return true;
    }
    for (size_t i = l->n_files; i-- > 0;) {
        e = entry_find(&l->files[i].entries, key);
        if (!e)
            continue;
        ret->text = e->value;
        if (str_format(ret->source, sizeof ret->source, "%s:%u", l->files[i].path, e->line) < 0)
            (void)snprintf(ret->source, sizeof ret->source, "file");
        return true;
    }
    ret->text = k && !conf_is_pattern(k) ? (k->def ? k->def : "") : NULL;
    return ret->text != NULL;
}

/* Replaces each ${key} of text. 0 and *ret (new), -EINVAL with err, -ENOMEM. */
static int expand(const struct resolver *r, const char *text, int64_t tenant, bool with_rows,
                  unsigned depth, struct qvd_error *err, char **ret)
{
    _cleanup_(free_p) char *out = NULL;
    size_t len = 0;

    if (depth > EXPAND_DEPTH)
        return qvd_error_set(err, -EINVAL, "${...} leads back to itself or is nested too deep");
    for (;;) {
        const char *open = strstr(text, "${");
        const char *close = open ? strchr(open, '}') : NULL;
        size_t plain = open ? (size_t)(open - text) : strlen(text);
        _cleanup_(free_p) char *value = NULL;
        char key[CONF_KEY_MAX + 1];
        struct raw raw;
        size_t value_len = 0;
        char *bigger;
        int error;

        if (open &&
            (!close || str_copy_n(key, sizeof key, open + 2, (size_t)(close - open) - 2) < 0))
            return qvd_error_set(err, -EINVAL, "has a ${ that is not a ${key}");
        if (open) {
            if (!lookup(r->l, key, tenant, with_rows, &raw))
                return qvd_error_set(err, -EINVAL, "uses ${%.80s}, which is not set", key);
            error = expand(r, raw.text, tenant, with_rows, depth + 1, err, &value);
            if (error < 0)
                return error;
            value_len = strlen(value);
        }
        if (len + plain + value_len > CONF_VALUE_MAX)
            return qvd_error_set(err, -EINVAL, "is longer than %d bytes", CONF_VALUE_MAX);
        bigger = realloc(out, len + plain + value_len + 1);
        if (!bigger)
            return qvd_error_set(err, -ENOMEM, "out of memory");
        out = bigger;
        memcpy(out + len, text, plain);
        if (value)
            memcpy(out + len + plain, value, value_len);
        len += plain + value_len;
        out[len] = 0;
        if (!open)
            break;
        text = close + 1;
    }
    *ret = TAKE_PTR(out);
    return 0;
}

/* Resolving -------------------------------------------------------------------------------------
 */

static int resolve_raw(const struct resolver *r, const struct conf_key *k, const struct raw *raw,
                       int64_t tenant, bool with_rows, struct qvd_error *err, struct value *ret)
{
    struct value v = {0};
    int error = expand(r, raw->text, tenant, with_rows, 0, err, &v.text);

    if (error == 0 && k && !conf_is_pattern(k))
        error = conf_value(k, v.text, &v.num, &v.real, err);
    if (error == 0 && raw->source[0]) {
        v.source = strdup(raw->source);
        error = v.source ? 0 : qvd_error_set(err, -ENOMEM, "out of memory");
    }
    if (error < 0) {
        value_done(&v);
        return error;
    }
    *ret = v;
    return 0;
}

/* One key for one tenant. A bad row of the database falls back to what is below it, with a word; a
 * bad file is the caller's error. */
static int resolve_key(const struct resolver *r, const char *key, int64_t tenant, struct value *ret)
{
    const struct conf_key *k = conf_find(key);
    struct qvd_error why;
    struct raw raw;
    int error;

    if (!lookup(r->l, key, tenant, true, &raw))
        raw.text = "";
    error = resolve_raw(r, k, &raw, tenant, true, &why, ret);
    if (error == -EINVAL && r->l->rows.n > 0) {
        /* Is it the database's doing? Then it works without it. */
        struct qvd_error below;
        struct raw file;

        if (!lookup(r->l, key, -1, false, &file))
            file.text = "";
        if (resolve_raw(r, k, &file, -1, false, &below, ret) == 0) {
            if (r->tell_rows)
                conf_tell(r->c, "database: %s %s; using \"%.60s\"", key, why.text,
                          k && k->type == CONF_SECRET ? "***" : ret->text);
            return 0;
        }
    }
    if (error < 0)
        return qvd_error_set(r->err, error, "%s%s%s%s%.80s: %s", raw.source,
                             raw.source[0] ? ": " : "", key, raw.source[0] ? " = " : " ",
                             k && k->type == CONF_SECRET ? "***" : raw.text, why.text);
    return 0;
}

static int add_extra(const struct resolver *r, struct resolved *to, int64_t tenant, const char *key)
{
    struct extra *x;

    for (size_t i = 0; i < to->nx; i++)
        if (to->x[i].tenant == tenant && strcmp(to->x[i].key, key) == 0)
            return 0;
    x = reallocarray(to->x, to->nx + 1, sizeof *x);
    if (!x)
        return qvd_error_set(r->err, -ENOMEM, "out of memory");
    to->x = x;
    x = &to->x[to->nx];
    *x = (struct extra){.key = strdup(key), .tenant = tenant};
    to->nx++;
    if (!x->key)
        return qvd_error_set(r->err, -ENOMEM, "out of memory");
    return resolve_key(r, key, tenant, &x->value);
}

static void tell_unknown(const struct conf *c, const char *where, unsigned line, const char *key)
{
    const char *near = conf_nearest(key);
    char at[16] = "";

    if (line)
        (void)snprintf(at, sizeof at, ":%u", line);
    conf_tell(c, "%s%s: unknown key %.100s%s%s%s", where, at, key, near ? "; did you mean " : "",
              near ? near : "", near ? "?" : "");
}

static int resolve_file(const struct resolver *r, const struct file *f, struct resolved *to)
{
    for (size_t i = 0; i < f->entries.n; i++) {
        const struct conf_entry *e = &f->entries.v[i];
        const struct conf_key *k = conf_find(e->key);
        const struct row *row;
        int error = 0;

        if (!k && r->tell_files)
            tell_unknown(r->c, f->path, e->line, e->key);
        if (k && k->type >= CONF_OBSOLETE && r->tell_files)
            conf_tell(r->c, "%s:%u: %.100s %s%s", f->path, e->line, e->key, conf_idle_note(k),
                      k->type == CONF_OBSOLETE ? k->text : "");
        row = k && k->scope <= CONF_TENANT ? conf_row_find(&r->l->rows, -1, e->key) : NULL;
        if (row && strcmp(row->value, e->value) != 0 && r->tell_rows)
            conf_tell(r->c, "%s:%u: %s has another value in the database, which is taken", f->path,
                      e->line, e->key);
        if (!k || (conf_is_pattern(k) && k->type != CONF_OBSOLETE))
            error = add_extra(r, to, -1, e->key);
        if (error < 0)
            return error;
    }
    return 0;
}

static int resolve_rows(const struct resolver *r, struct resolved *to)
{
    for (size_t i = 0; i < r->l->rows.n; i++) {
        const struct row *row = &r->l->rows.v[i];
        const struct conf_key *k = conf_find(row->key);
        int error = 0;

        if (k && k->scope == CONF_FILE) {
            if (r->tell_rows)
                conf_tell(r->c, "database: %s works from files only, ignoring it", row->key);
            continue;
        }
        if (k && row->tenant >= 0 && k->scope != CONF_TENANT) {
            if (r->tell_rows)
                conf_tell(r->c,
                          "database: %s is not a setting of single tenants, ignoring tenant %lld's",
                          row->key, (long long)row->tenant);
            continue;
        }
        if (!k || conf_is_pattern(k) || row->tenant >= 0)
            error = add_extra(r, to, row->tenant, row->key);
        if (error < 0)
            return error;
    }
    return 0;
}

int conf_resolve(const struct resolver *r, struct resolved *ret)
{
    struct resolved to = {0};
    const struct conf_key *keys = conf_keys(&to.n);
    int error = 0;

    to.v = calloc(to.n, sizeof *to.v);
    if (!to.v)
        error = qvd_error_set(r->err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < to.n && error == 0; i++)
        if (!conf_is_pattern(&keys[i]))
            error = resolve_key(r, keys[i].key, -1, &to.v[i]);
    for (size_t i = 0; i < r->l->n_files && error == 0; i++)
        error = resolve_file(r, &r->l->files[i], &to);
    for (size_t i = 0; i < r->l->overrides.n && error == 0; i++) {
        const struct conf_key *k = conf_find(r->l->overrides.v[i].key);

        if (!k || conf_is_pattern(k))
            error = add_extra(r, &to, -1, r->l->overrides.v[i].key);
    }
    if (error == 0)
        error = resolve_rows(r, &to);
    if (error < 0) {
        conf_resolved_done(&to);
        return error;
    }
    *ret = to;
    return 0;
}

const struct value *conf_extra_find(const struct resolved *r, int64_t tenant, const char *key)
{
    for (size_t i = 0; i < r->nx; i++)
        if (r->x[i].tenant == tenant && strcmp(r->x[i].key, key) == 0)
            return &r->x[i].value;
    return NULL;
}
