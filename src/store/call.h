// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A question to the database under way. It owns what it needs and frees itself after its answer, so
 * whoever asked may lose interest but not stop it: what was sent is done all the same. */

#include <stdbool.h>
#include <stdlib.h>

#include "db/db.h"

struct store_call {
    bool dropped; /* nobody waits for the answer any more */
};

/* The callback will not come. NULL-safe; always NULL. Until the callback has begun. */
static inline struct store_call *store_call_drop(struct store_call *c)
{
    if (c)
        c->dropped = true;
    return NULL;
}

/* For store's own use: the end of a call, or its failure to begin (request NULL: out of memory). */
static inline struct store_call *store_call_began(struct store_call *c,
                                                  const struct db_request *request)
{
    if (request)
        return c;
    free(c);
    return NULL;
}
