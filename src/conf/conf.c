// SPDX-License-Identifier: GPL-3.0-or-later

/* The layers of settings: each change of one resolves all keys anew (resolve.c) into a second set
 * of values, which takes the place of the first when nothing was wrong. Knows nothing of syntax
 * (parse.c) and of what a value may be (table.c). */

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "conf/layers-internal.h"

__attribute__((format(printf, 2, 3))) void conf_tell(const struct conf *c, const char *fmt, ...)
{
    struct qvd_error text;
    va_list args;

    if (!c->warn)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text.text, sizeof text.text, fmt, args);
    va_end(args);
    c->warn(c->warn_arg, text.text);
}

static void rows_done(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].key);
        free(r->v[i].value);
    }
    free(r->v);
    *r = (struct rows){0};
}

static void tell_changes(const struct conf *c, const struct resolved *old)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    if (!c->changed)
        return;
    for (size_t i = 0; i < n; i++)
        if (old->v && old->v[i].text && strcmp(old->v[i].text, c->now.v[i].text) != 0)
            c->changed(c->changed_arg, &keys[i], -1, old->v[i].text);
    for (size_t i = 0; i < c->now.nx; i++) {
        const struct extra *x = &c->now.x[i];
        const struct value *before = conf_extra_find(old, x->tenant, x->key);
        const struct conf_key *k = conf_find(x->key);

        if (k && (!before || strcmp(before->text, x->value.text) != 0))
            c->changed(c->changed_arg, k, x->tenant, before ? before->text : "");
    }
    for (size_t i = 0; i < old->nx; i++) {
        const struct extra *x = &old->x[i];
        const struct conf_key *k = conf_find(x->key);

        if (k && !conf_extra_find(&c->now, x->tenant, x->key))
            c->changed(c->changed_arg, k, x->tenant, x->value.text);
    }
}

/* Puts new layers in force, or leaves everything as it was. */
static int apply(struct conf *c, const struct layers *l, bool tell_files, bool tell_rows,
                 struct qvd_error *err)
{
    struct qvd_error scratch;
    struct resolver r = {c, l, tell_files, tell_rows, err ? err : &scratch};
    struct resolved next, old = c->now;
    int error = conf_resolve(&r, &next);

    if (error < 0)
        return error;
    c->layers = *l;
    c->now = next;
    tell_changes(c, &old);
    conf_resolved_done(&old);
    return 0;
}

/* The layers' owners ----------------------------------------------------------------------------
 */

struct conf *conf_new(conf_warn_fn *warn_fn, void *arg)
{
    struct conf *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->warn = warn_fn;
    c->warn_arg = arg;
    if (apply(c, &c->layers, false, false, NULL) < 0)
        return conf_free(c);
    return c;
}

struct conf *conf_free(struct conf *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < c->layers.n_files; i++) {
        free(c->layers.files[i].path);
        conf_entries_done(&c->layers.files[i].entries);
    }
    free(c->layers.files);
    rows_done(&c->layers.rows);
    conf_entries_done(&c->layers.overrides);
    conf_resolved_done(&c->now);
    free(c);
    return NULL;
}

static int add_file(struct conf *c, const char *name, const char *text, size_t len, bool on_disk,
                    struct qvd_error *err)
{
    struct layers l = c->layers;
    struct file f = {.on_disk = on_disk};
    int r = conf_parse(name, text, len, &f.entries, err);

    if (r < 0)
        return r;
    f.path = strdup(name);
    l.files = calloc(l.n_files + 1, sizeof *l.files);
    if (!f.path || !l.files) {
        r = qvd_error_set(err, -ENOMEM, "%s: out of memory", name);
    } else {
        if (c->layers.n_files > 0)
            memcpy(l.files, c->layers.files, c->layers.n_files * sizeof *l.files);
        l.files[l.n_files++] = f;
        struct file *before = c->layers.files;

        r = apply(c, &l, true, false, err);
        if (r == 0) {
            free(before);
            return 0;
        }
    }
    free(l.files);
    free(f.path);
    conf_entries_done(&f.entries);
    return r;
}

static int read_file(const char *path, char **ret, size_t *ret_len, struct qvd_error *err)
{
    int r = fs_read(path, CONF_FILE_MAX, ret, ret_len);

    if (r == -EFBIG)
        return qvd_error_set(err, -EINVAL, "%s: larger than %d bytes", path, CONF_FILE_MAX);
    if (r < 0)
        return qvd_error_errno(err, r, "%s", path);
    return 0;
}

int conf_load(struct conf *c, const char *path, struct qvd_error *err)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len;
    int r = read_file(path, &text, &len, err);

    return r < 0 ? r : add_file(c, path, text, len, true, err);
}

int conf_load_text(struct conf *c, const char *name, const char *text, size_t len,
                   struct qvd_error *err)
{
    return add_file(c, name, text, len, false, err);
}

int conf_reload(struct conf *c, struct qvd_error *err)
{
    struct layers l = c->layers;
    struct file *old = c->layers.files;
    size_t done = 0;
    int r = 0;

    if (l.n_files == 0)
        return 0;
    l.files = calloc(l.n_files, sizeof *l.files);
    if (!l.files)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    for (; done < l.n_files && r == 0; done++) {
        _cleanup_(free_p) char *text = NULL;
        size_t len;

        l.files[done] = old[done];
        if (!old[done].on_disk)
            continue;
        l.files[done].entries = (struct conf_entries){0};
        r = read_file(old[done].path, &text, &len, err);
        if (r == 0)
            r = conf_parse(old[done].path, text, len, &l.files[done].entries, err);
    }
    if (r == 0)
        r = apply(c, &l, true, true, err);
    for (size_t i = 0; i < done; i++)
        if (old[i].on_disk)
            conf_entries_done(r == 0 ? &old[i].entries : &l.files[i].entries);
    free(r == 0 ? old : l.files);
    return r;
}

int conf_set_rows(struct conf *c, const struct conf_row *rows, size_t n)
{
    struct layers l = c->layers;
    struct rows old = c->layers.rows;
    int r = 0;

    l.rows = (struct rows){.v = calloc(n ? n : 1, sizeof *l.rows.v)};
    if (!l.rows.v)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct row *row = &l.rows.v[l.rows.n++];

        *row = (struct row){rows[i].tenant, strdup(rows[i].key), strdup(rows[i].value)};
        if (!row->key || !row->value)
            r = -ENOMEM;
    }
    if (r == 0)
        r = apply(c, &l, false, true, NULL);
    rows_done(r == 0 ? &old : &l.rows);
    return r;
}

int conf_override(struct conf *c, const char *key, const char *value, struct qvd_error *err)
{
    const struct conf_key *k = conf_find(key);
    struct layers l = c->layers;
    struct conf_entry *before = l.overrides.v, *e;
    const char *near = k ? NULL : conf_nearest(key);
    int r;

    if (!k)
        return qvd_error_set(err, -EINVAL, "unknown key %.100s%s%s%s", key,
                             near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    l.overrides.v = calloc(l.overrides.n + 1, sizeof *e);
    if (!l.overrides.v)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    if (before)
        memcpy(l.overrides.v, before, l.overrides.n * sizeof *e);
    e = &l.overrides.v[l.overrides.n++];
    *e = (struct conf_entry){.key = strdup(key), .value = strdup(value)};
    r = e->key && e->value ? apply(c, &l, false, false, err)
                           : qvd_error_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        free(e->key);
        free(e->value);
        free(l.overrides.v);
        return r;
    }
    free(before);
    return 0;
}

void conf_on_change(struct conf *c, conf_changed_fn *fn, void *arg)
{
    c->changed = fn;
    c->changed_arg = arg;
}

/* Getters ---------------------------------------------------------------------------------------
 */

static const struct value *get(const struct conf *c, const char *key)
{
    const struct conf_key *k = conf_find(key);

    if (!k || conf_is_pattern(k)) {
        fprintf(stderr, "settings: %s is asked for but not in the table\n", key);
        abort();
    }
    return &c->now.v[conf_index(k)];
}

static const struct value *get_tenant(const struct conf *c, int64_t tenant, const char *key)
{
    const struct value *v = tenant >= 0 ? conf_extra_find(&c->now, tenant, key) : NULL;

    return v ? v : get(c, key);
}

const char *conf_str(const struct conf *c, const char *key)
{
    return get(c, key)->text;
}

int64_t conf_int(const struct conf *c, const char *key)
{
    return get(c, key)->num;
}

bool conf_bool(const struct conf *c, const char *key)
{
    return get(c, key)->num != 0;
}

int64_t conf_ms(const struct conf *c, const char *key)
{
    return get(c, key)->num;
}

double conf_real(const struct conf *c, const char *key)
{
    return get(c, key)->real;
}

const char *conf_tenant_str(const struct conf *c, int64_t tenant, const char *key)
{
    return get_tenant(c, tenant, key)->text;
}

int64_t conf_tenant_int(const struct conf *c, int64_t tenant, const char *key)
{
    return get_tenant(c, tenant, key)->num;
}

const char *conf_custom(const struct conf *c, int64_t tenant, const char *key)
{
    const struct value *v = tenant >= 0 ? conf_extra_find(&c->now, tenant, key) : NULL;

    if (!v)
        v = conf_extra_find(&c->now, -1, key);
    return v ? v->text : NULL;
}

bool conf_below(const struct conf *c, const char *prefix, size_t *at, const char **ret_key,
                const char **ret_value)
{
    while (*at < c->now.nx) {
        const struct extra *x = &c->now.x[(*at)++];

        if (x->tenant < 0 && str_starts(x->key, prefix)) {
            *ret_key = x->key;
            *ret_value = x->value.text;
            return true;
        }
    }
    return false;
}

bool conf_is_set(const struct conf *c, const char *key)
{
    return get(c, key)->source != NULL;
}

int conf_require(const struct conf *c, struct qvd_error *err, const char *key, ...)
{
    const char *file = c->layers.n_files > 0 ? c->layers.files[c->layers.n_files - 1].path : NULL;
    va_list args;
    int r = 0;

    va_start(args, key);
    for (; key && r == 0; key = va_arg(args, const char *))
        if (!*conf_str(c, key))
            r = qvd_error_set(err, -EINVAL, "%s must be set%s%s: %s", key, file ? " in " : "",
                              file ? file : "", conf_find(key)->text);
    va_end(args);
    return r;
}

const char *conf_source(const struct conf *c, const struct conf_key *key)
{
    const char *source = c->now.v[conf_index(key)].source;

    return source ? source : "default";
}

bool conf_extra_at(const struct conf *c, size_t i, int64_t *ret_tenant, const char **ret_key,
                   const char **ret_value, const char **ret_source)
{
    if (i >= c->now.nx)
        return false;
    *ret_tenant = c->now.x[i].tenant;
    *ret_key = c->now.x[i].key;
    *ret_value = c->now.x[i].value.text;
    *ret_source = c->now.x[i].value.source ? c->now.x[i].value.source : "default";
    return true;
}
