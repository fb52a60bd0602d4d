// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What administrators see and change, as tables: a resource is a table of fields, a field is one
 * row (type, SQL, what may be done with it). Lists, reading, creation, change and deletion are made
 * from the tables; only what is more than that has a function of its own (admin-vm.h, ...).
 *
 * All values travel as parameters of the statements. Needs the role qvd_api. */

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "model/filter.h"

enum admin_type {
    ADMIN_INT,    /* min..max */
    ADMIN_REAL,   /* only shown */
    ADMIN_TEXT,   /* at most max bytes (0: 1024), UTF-8, no control characters */
    ADMIN_LOGIN,  /* the same; trimmed, and lower-cased unless model.user.login.case-sensitive */
    ADMIN_BOOL,   /* true, false; in filters also yes, no, 1, 0 */
    ADMIN_WORD,   /* one of choices */
    ADMIN_STATE,  /* the same; a filter "starting" means starting_1 and starting_2 */
    ADMIN_IP,     /* an IPv4 or IPv6 address */
    ADMIN_TIME,   /* ISO 8601 */
    ADMIN_LIST,   /* texts; a filter asks whether one of them is so */
    ADMIN_SECRET, /* only written: hashed before it is stored */
};

/* A field. sql: the expression that is read, NULL for those only written. column: the one that is
 * set; value: the SQL of what it is set to, with %s for the parameter and $1 for the tenant (NULL:
 * the parameter itself); a value that gives NULL is refused as "there is none".
 * may, letters: r read, d shown by default in tables (and read), f filter, s sort, c set at
 * creation, m must be set at creation, e edit, x lives in the companion table, n may be null, A
 * only superadministrators may set it. */
struct admin_field {
    const char *name;
    enum admin_type type;
    const char *sql, *column, *value, *may;
    int64_t min, max;
    const char *choices; /* words separated by blanks */
    const char *text;
};

struct admin_resource {
    const char *name;   /* "vm" */
    const char *from;   /* FROM clause */
    const char *key;    /* expression of the id */
    const char *tenant; /* expression of the tenant; NULL: farm-wide, superadministrators only */
    const char *table;
    const char *companion, *companion_key; /* NULL: none */
    const char *keep;       /* why it may not be deleted, as SQL text expression; NULL: none */
    const char *properties; /* table of its properties and their key: "vm_properties", or NULL */
    const char *sort;       /* default order */
    const struct admin_field *fields;
    size_t n_fields;
    /* At creation: more columns, with their values; NULL: none. What they need is in params from
     * $2 on. */
    const char *extra_column, *extra_value;
    const char *text;
};

extern const struct admin_resource admin_host, admin_osf, admin_di, admin_user, admin_vm;
extern const struct admin_resource *const admin_resources[];
extern const size_t admin_n_resources;

/* NULL for the unknown. */
const struct admin_resource *admin_resource_find(const char *name);
const struct admin_field *admin_field_find(const struct admin_resource *r, const char *name);
bool admin_may(const struct admin_field *f, char letter);
const char *admin_type_name(enum admin_type t);

/* Who asks. tenant_id 0: a superadministrator, who sees all tenants. */
struct admin_who {
    int64_t id;
    int64_t tenant_id;
    const char *name; /* for the log */
    const char *tenant;
};

/* Conditions beside -errno, for the status of the answer. */
enum admin_status {
    ADMIN_OK,
    ADMIN_BAD,       /* the question has a fault: 400 */
    ADMIN_FORBIDDEN, /* 403 */
    ADMIN_NOT_FOUND, /* 404 */
    ADMIN_CONFLICT,  /* the state of things forbids it: 409 */
    ADMIN_INVALID,   /* a value is not possible: 422 */
    ADMIN_AWAY,      /* the database: 503 */
    ADMIN_BROKEN,    /* a defect: 500 */
};

struct admin_query {
    const struct filter *filter; /* NULL: all */
    const char *fields;          /* names separated by commas; NULL: all that are read */
    const char *sort;            /* "name,-id"; NULL: the resource's own */
    int64_t id;                  /* only this one; 0: all */
    int64_t limit, offset;
};

/* rows: each a JSON object as text. err: filled unless ADMIN_OK. */
struct admin_list {
    enum admin_status status;
    struct qvd_error err;
    int64_t total;
    const struct db_result *rows; /* column 1 is the object; NULL in a row: none */
    int n_rows;
};
typedef void admin_list_fn(void *arg, const struct admin_list *list);
/* 0: fn will be called; else a status and err: it will not. */
must_check enum admin_status store_admin_list(struct db *db, const struct admin_resource *r,
                                              const struct admin_who *who,
                                              const struct admin_query *q, admin_list_fn *fn,
                                              void *arg, struct qvd_error *err);

/* A value to be set; text NULL is SQL's NULL. Already checked against its field. */
struct admin_value {
    const struct admin_field *field;
    const char *text;
};
struct admin_done {
    enum admin_status status;
    struct qvd_error err;
    int64_t id; /* of what was made or changed */
};
typedef void admin_done_fn(void *arg, const struct admin_done *done);
/* tenant: whose it will be (0: not of a tenant). extra: parameters of r->extra_value, ended by
 * DB_KIND_END, or NULL. 0 as above. */
must_check enum admin_status store_admin_create(struct db *db, const struct admin_resource *r,
                                                const struct admin_who *who, int64_t tenant,
                                                const struct admin_value *values, size_t n,
                                                const struct db_param *extra, admin_done_fn *fn,
                                                void *arg, struct qvd_error *err);
must_check enum admin_status store_admin_edit(struct db *db, const struct admin_resource *r,
                                              const struct admin_who *who, int64_t id,
                                              const struct admin_value *values, size_t n,
                                              admin_done_fn *fn, void *arg, struct qvd_error *err);
must_check enum admin_status store_admin_delete(struct db *db, const struct admin_resource *r,
                                                const struct admin_who *who, int64_t id,
                                                admin_done_fn *fn, void *arg,
                                                struct qvd_error *err);

/* The id of a tenant by its name; not found: ADMIN_INVALID. */
must_check enum admin_status store_admin_tenant(struct db *db, const char *name, admin_done_fn *fn,
                                                void *arg, struct qvd_error *err);

/* Turns a failed result into a status and a text a person understands; what names the object. */
enum admin_status store_admin_failed(const struct db_result *r, const char *what,
                                     struct qvd_error *err);
