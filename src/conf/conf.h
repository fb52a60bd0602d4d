// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Settings: one table of all keys (settings.def), the files that set them, the database's rows over
 * the files, and typed getters. A key is asked for by its name; asking for one that is not in the
 * table ends the program (a test asks for all).
 *
 * Layers, the later wins: default, files in their order, database (all tenants), database (one
 * tenant), override (a program's option or environment). Keys of scope FILE are never taken from
 * the database. ${other.key} is expanded when the layers are put together.
 *
 * Adding a setting is one row in settings.def. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"

enum conf_type {
    CONF_STR,      /* any text */
    CONF_INT,      /* min..max */
    CONF_REAL,     /* min..max, decimal point */
    CONF_BOOL,     /* 1 yes true on / 0 no false off */
    CONF_CHOICE,   /* one of the words of choices (separated by blanks); any case */
    CONF_DURATION, /* a number with ms, s, m, h or d behind (none: s); min..max in ms */
    CONF_PATH,     /* absolute */
    CONF_IP,       /* an address, or empty */
    CONF_ADDRESS,  /* an address or * */
    CONF_LIST,     /* words separated by commas or blanks */
    CONF_SECRET,   /* text that is never shown */
    CONF_OBSOLETE, /* accepted with a warning; text names the successor */
    CONF_RESERVED, /* accepted with a warning: nobody asks for it in this version */
    CONF_TYPE_MAX
};

/* Where a value makes sense: one for the whole farm, one a tenant, one a node, or only in a file
 * (needed before there is a database, or on machines without one). */
enum conf_scope { CONF_CLUSTER, CONF_TENANT, CONF_NODE, CONF_FILE, CONF_SCOPE_MAX };

/* What a change needs: nothing, a reload (SIGHUP), a restart of the program. */
enum conf_when { CONF_LIVE, CONF_RELOAD, CONF_RESTART, CONF_WHEN_MAX };

/* Which templates show the key (bits). */
enum { CONF_IN_NODE = 1, CONF_IN_VMA = 2, CONF_IN_CLIENT = 4, CONF_IN_QA = 8 };

/* A row of the table. A key that ends in ".*" stands for all names that begin so. */
struct conf_key {
    const char *key;
    enum conf_type type;
    const char *def; /* text, unexpanded; NULL: must be set by those who ask for it */
    int64_t min, max;
    const char *choices; /* of STR and LIST: the name of their form (forms.c), NULL: any */
    enum conf_scope scope;
    enum conf_when when;
    unsigned files;
    const char *text; /* of an OBSOLETE one: "use KEY" or why nothing takes its place */
};

struct conf;

/* A row of the table `configs`. */
struct conf_row {
    int64_t tenant; /* -1: all */
    const char *key, *value;
};

/* Told once for each thing that is odd but not fatal; text names file and line. */
typedef void conf_warn_fn(void *arg, const char *text);

/* The defaults only; NULL when out of memory. warn may be NULL. */
must_check struct conf *conf_new(conf_warn_fn *warn, void *arg);
/* NULL-safe; always NULL. */
struct conf *conf_free(struct conf *c);
static inline void conf_free_p(struct conf **c)
{
    conf_free(*c);
}

/* Reads one more file over the former ones. 0; -ENOENT when it is not there (err filled: ignore it
 * where the file is optional); -EINVAL and err ("FILE:LINE: KEY: ...") for a bad one, the settings
 * then are as before. */
must_check int conf_load(struct conf *c, const char *path, struct qvd_error *err);
/* The same for text in memory; name is what messages call it. Does not remember it for reload. */
must_check int conf_load_text(struct conf *c, const char *name, const char *text, size_t len,
                              struct qvd_error *err);
/* Replaces the database's layer. Rows that cannot be used are told to warn and left out.
 * 0 or -ENOMEM. */
must_check int conf_set_rows(struct conf *c, const struct conf_row *rows, size_t n);
/* Sets above all files and rows (options, environment). 0, -EINVAL with err, -ENOMEM. */
must_check int conf_override(struct conf *c, const char *key, const char *value,
                             struct qvd_error *err);
/* Reads all files again. 0, or -errno with err and nothing changed. */
must_check int conf_reload(struct conf *c, struct qvd_error *err);

/* Calls fn for each key whose value changed (conf_load, conf_set_rows, conf_reload, conf_override;
 * for a tenant's own value tenant is >= 0, else -1). old is its former text; new values can be
 * asked for inside. One listener; NULL takes it away. */
typedef void conf_changed_fn(void *arg, const struct conf_key *key, int64_t tenant,
                             const char *old);
void conf_on_change(struct conf *c, conf_changed_fn *fn, void *arg);

/* Values for all tenants. Texts belong to c and live until the next change of c. */
const char *conf_str(const struct conf *c, const char *key); /* "" when empty, never NULL */
int64_t conf_int(const struct conf *c, const char *key);     /* INT, BOOL (0/1), DURATION (ms) */
bool conf_bool(const struct conf *c, const char *key);
int64_t conf_ms(const struct conf *c, const char *key); /* DURATION */
double conf_real(const struct conf *c, const char *key);
/* A tenant's value of a key of scope TENANT, else the one for all. */
const char *conf_tenant_str(const struct conf *c, int64_t tenant, const char *key);
int64_t conf_tenant_int(const struct conf *c, int64_t tenant, const char *key);
/* A key below a ".*" row or a custom key of the database; NULL when nobody set it. */
const char *conf_custom(const struct conf *c, int64_t tenant, const char *key);
/* Walks what is set for all tenants below a prefix ("api.public."): *at begins as 0; false at the
 * end. */
bool conf_below(const struct conf *c, const char *prefix, size_t *at, const char **ret_key,
                const char **ret_value);
/* Was it set by anything but the default? */
bool conf_is_set(const struct conf *c, const char *key);
/* Fails naming the file when one of the keys (the last is NULL) is empty: 0 or -EINVAL. */
must_check int conf_require(const struct conf *c, struct qvd_error *err, const char *key, ...)
    __attribute__((sentinel));
/* Walks a LIST: *at begins as NULL. Copies the next word to dst; false at the end (words that do
 * not fit are cut). */
bool conf_list_next(const char *list, const char **at, char *dst, size_t size);

/* The table, for the API, `qa config` and the documentation. */
const struct conf_key *conf_keys(size_t *ret_n);
/* The row of a name ("client.share.3" gives "client.share.*"); NULL for the unknown. */
const struct conf_key *conf_find(const char *name);
/* The known name nearest to a wrong one; NULL when none is near. */
const char *conf_nearest(const char *name);
/* Would this text do for this key? 0 or -EINVAL with err naming what is allowed. Text that holds a
 * ${...} is checked when it is expanded. */
must_check int conf_check(const struct conf_key *key, const char *value, struct qvd_error *err);
/* What is told of a key that does nothing: "accepted, without effect in this version" (RESERVED),
 * or "is obsolete, ignoring it: " (OBSOLETE), which its text ends. NULL for all others. */
const char *conf_idle_note(const struct conf_key *key);
const char *conf_type_name(enum conf_type t);
const char *conf_scope_name(enum conf_scope s);
const char *conf_when_name(enum conf_when w);

/* All keys of the files' bits, with values and where they come from; secrets as "***". */
void conf_dump(const struct conf *c, unsigned files, FILE *out);
/* The template of a settings file: each key commented out with its text, default and bounds. */
void conf_print_template(unsigned file, const char *name, FILE *out);
/* The section SETTINGS of the file's manual page, for scdoc. */
void conf_print_manual(unsigned file, FILE *out);
