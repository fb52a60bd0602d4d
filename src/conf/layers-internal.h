// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The layers of settings and what they come to: shared by conf.c, which owns them, and resolve.c.
 */

#include "conf/conf-internal.h"

struct value {
    char *text;
    int64_t num;
    double real;
    char *source; /* NULL: default */
};

/* A tenant's own value, a key below a pattern, or one that is not in the table. */
struct extra {
    char *key;
    int64_t tenant;
    struct value value;
};

struct resolved {
    struct value *v; /* one a row of the table */
    size_t n;
    struct extra *x;
    size_t nx;
};

struct file {
    char *path;
    bool on_disk; /* read again by conf_reload() */
    struct conf_entries entries;
};

struct row {
    int64_t tenant;
    char *key, *value;
};

struct rows {
    struct row *v;
    size_t n;
};

struct layers {
    struct file *files;
    size_t n_files;
    struct rows rows;
    struct conf_entries overrides;
};

struct conf {
    conf_warn_fn *warn;
    void *warn_arg;
    conf_changed_fn *changed;
    void *changed_arg;
    struct layers layers;
    struct resolved now;
};

/* What one resolution works with. */
struct resolver {
    const struct conf *c;
    const struct layers *l;
    bool tell_files, tell_rows; /* warn about what is odd in them */
    struct qvd_error *err;
};

__attribute__((format(printf, 2, 3))) void conf_tell(const struct conf *c, const char *fmt, ...);

void conf_resolved_done(struct resolved *r);
must_check int conf_resolve(const struct resolver *r, struct resolved *ret);
const struct value *conf_extra_find(const struct resolved *r, int64_t tenant, const char *key);
const struct row *conf_row_find(const struct rows *rows, int64_t tenant, const char *key);
