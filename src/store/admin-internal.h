// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Building statements from the tables. */

#include "base/buf.h"
#include "store/admin.h"

#define SQL_PARAMS_MAX (2 * FILTER_VALUES_MAX + 400)

/* A statement under construction. Errors stick: the last step tells. */
struct sql {
    struct buf text;
    struct db_param params[SQL_PARAMS_MAX + 1];
    size_t n;
    int failed; /* -errno */
};

must_check struct sql *sql_new(void);
struct sql *sql_free(struct sql *s);
static inline void sql_free_p(struct sql **s)
{
    sql_free(*s);
}
void sql_add(struct sql *s, const char *fmt, ...) printf_like(2, 3);
/* Takes a parameter and returns its number. The bytes must live until the statement is sent. */
unsigned sql_param(struct sql *s, struct db_param p);
/* The value with its parameter: "%s" of how becomes "$n"; how NULL: "$n". */
void sql_value(struct sql *s, const char *how, struct db_param p);
/* " AND tenant = $n" unless he may see all; the tenant of who. */
void sql_scope(struct sql *s, const struct admin_resource *r, const struct admin_who *who);
/* The condition of a filter. ADMIN_OK or ADMIN_BAD with err. */
must_check enum admin_status sql_filter(struct sql *s, const struct admin_resource *r,
                                        const struct filter *f, struct qvd_error *err);

/* A statement on its way, with whom to tell. Freed by the callback. */
struct admin_call {
    struct sql *sql;
    const struct admin_resource *resource;
    union {
        admin_list_fn *list;
        admin_done_fn *done;
    } fn;
    void *arg;
    int64_t id;
    const char *refs[8]; /* names of the fields whose value may turn out not to exist */
    size_t n_refs;
};
must_check struct admin_call *admin_call_new(const struct admin_resource *r, void *arg);
/* For who, if he may ask for that resource. ADMIN_OK and *ret_call; else a status with err. */
must_check enum admin_status admin_call_begin(const struct admin_resource *r,
                                              const struct admin_who *who, void *arg,
                                              struct admin_call **ret_call, struct qvd_error *err);
struct admin_call *admin_call_free(struct admin_call *c);
static inline void admin_call_free_p(struct admin_call **c)
{
    admin_call_free(*c);
}
/* Sends it; c belongs to done afterwards (which frees it). ADMIN_OK, or ADMIN_AWAY with err and c
 * freed. */
must_check enum admin_status admin_call_send(struct db *db, struct admin_call *c, unsigned flags,
                                             db_done_fn *done, struct qvd_error *err);
