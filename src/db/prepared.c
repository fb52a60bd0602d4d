// SPDX-License-Identifier: GPL-3.0-or-later

/* Prepared statements: a text is read and planned once a connection, under a name that is taken
 * with its first use, in the same flight. Knows nothing of units and requests.
 *
 * A name counts only once the server has answered its Parse, which may fail or be skipped; until
 * then the same text goes without one. A connection on which a name turned out to be worth nothing
 * is stale: all goes without names there, and it is replaced as soon as it is free. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/db-internal.h"

struct prepared {
    char name[16];
    bool there; /* the server said so */
};

/* A new name for the text, not there yet; NULL: it goes without one. */
static struct prepared *name(struct conn *c, const char *sql)
{
    struct prepared *p;

    if (!c->prepared)
        c->prepared = map_new_str();
    if (!c->prepared || map_count(c->prepared) >= DB_PREPARED_MAX)
        return NULL;
    p = calloc(1, sizeof *p);
    if (!p || map_put_str(c->prepared, sql, p) < 0) {
        free(p);
        return NULL;
    }
    (void)snprintf(p->name, sizeof p->name, "q%u", ++c->names);
    return p;
}

bool prepared_send(struct conn *c, struct stmt *s)
{
    struct prepared *p = NULL;

    s->parsing = s->named = false;
    if (!s->built && !c->listener && !c->stale) {
        p = c->prepared ? map_get_str(c->prepared, s->sql) : NULL;
        if (p && !p->there)
            p = NULL;
        else if (!p && (p = name(c, s->sql)) != NULL)
            s->parsing = true;
    }
    if (!p || s->parsing)
        c->db->stats.parses++;
    if (!p)
        return PQsendQueryParams(c->pg, s->sql, s->n, NULL, s->values, NULL, NULL, 0) == 1;
    s->named = true;
    if (s->parsing && PQsendPrepare(c->pg, p->name, s->sql, 0, NULL) != 1)
        return false;
    return PQsendQueryPrepared(c->pg, p->name, s->n, s->values, NULL, NULL, 0) == 1;
}

void prepared_answered(struct conn *c, const struct stmt *s, bool ok)
{
    struct prepared *p = map_get_str(c->prepared, s->sql);

    if (ok && p)
        p->there = true;
    else if (!ok)
        free(map_take_str(c->prepared, s->sql));
}

/* 26000: there is no such name; 42P05: there is one already (both: somebody else has used this
 * session of the server). The result's columns are others than when it was prepared: an 0A000 of
 * this function, in every language of the server. */
static bool is_stale(const struct db_result *r)
{
    const char *where = r->pg ? PQresultErrorField(r->pg, PG_DIAG_SOURCE_FUNCTION) : NULL;

    return strcmp(r->sqlstate, "26000") == 0 || strcmp(r->sqlstate, "42P05") == 0 ||
           (strcmp(r->sqlstate, "0A000") == 0 && where &&
            strcmp(where, "RevalidateCachedQuery") == 0);
}

void prepared_check(struct conn *c, const struct stmt *s, struct db_result *r)
{
    if (!s->named || !is_stale(r))
        return;
    r->status = DB_CONFLICT; /* rolled back, and worth a repetition */
    c->stale = true;
}

void prepared_done(struct conn *c)
{
    size_t at = 0;

    if (!c->prepared)
        return;
    for (void *p; (p = map_next(c->prepared, &at, NULL)) != NULL;)
        free(p);
    c->prepared = map_free(c->prepared);
    c->names = 0;
    c->stale = false;
}
