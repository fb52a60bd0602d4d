// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of conf share: the reader, and a value as it was checked. */

#include "conf/conf.h"

enum {
    CONF_FILE_MAX = 1024 * 1024,
    CONF_KEY_MAX = 255,
    CONF_VALUE_MAX = 65536,
    CONF_ENTRIES_MAX = 4096
};

/* One "key = value" of a file; key and value are the entry's own. */
struct conf_entry {
    char *key, *value;
    unsigned line;
};

struct conf_entries {
    struct conf_entry *v;
    size_t n;
};
void conf_entries_done(struct conf_entries *e);

/* Reads the text of a file: 0 and *ret, -EINVAL with err ("NAME:LINE: ..."), -ENOMEM. */
must_check int conf_parse(const char *name, const char *text, size_t len, struct conf_entries *ret,
                          struct qvd_error *err);

/* A checked value as number: INT, BOOL, DURATION in *ret_num, REAL in *ret_real. 0 or -EINVAL with
 * err: what is allowed, without the key's name. */
must_check int conf_value(const struct conf_key *key, const char *text, int64_t *ret_num,
                          double *ret_real, struct qvd_error *err);

/* The forms that rows of STR and LIST name (forms.c): whether text has it, and what it is in words;
 * NULL: there is no such form. */
bool form_fits(const char *name, const char *text);
const char *form_text(const char *name);

/* Place of a row in the table. */
size_t conf_index(const struct conf_key *key);
bool conf_is_pattern(const struct conf_key *key);

/* Where the present value of a table's row comes from: "default", "FILE:LINE", "database",
 * "option". */
const char *conf_source(const struct conf *c, const struct conf_key *key);
/* Walks the custom keys and those below a pattern: false at the end. */
bool conf_extra_at(const struct conf *c, size_t i, int64_t *ret_tenant, const char **ret_key,
                   const char **ret_value, const char **ret_source);
