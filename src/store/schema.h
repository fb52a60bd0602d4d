// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Does the database's schema fit this program, now? Looked at when the owner says (each time that
 * LISTEN stands, at each notification of the settings: qvd-deploy-db sends one) and every half
 * minute while it does not. */

#include "store/store.h"

struct store_schema;

/* why: NULL when it fits (again), else what is wrong and what to type; only when that changes. */
typedef void store_schema_fn(void *arg, const char *why);

/* Taken to fit until the first look. 0 or -ENOMEM. */
must_check int store_schema_new(struct ev_loop *loop, struct db *db, store_schema_fn *fn, void *arg,
                                struct store_schema **ret_schema);
/* NULL-safe, always NULL. Before the db. */
struct store_schema *store_schema_free(struct store_schema *s);
void store_schema_look(struct store_schema *s);
bool store_schema_fits(const struct store_schema *s);
