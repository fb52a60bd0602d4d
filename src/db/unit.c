// SPDX-License-Identifier: GPL-3.0-or-later

/* Statements with their parameters, and units of them: what is sent up to one Sync. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db/db-internal.h"

enum { NUMBER_MAX = 32 };

static size_t param_size(const struct db_param *p)
{
    switch (p->kind) {
    case DB_KIND_TEXT:
        return strlen(p->data) + 1;
    case DB_KIND_BYTES:
        return 2 + 2 * p->len + 1;
    case DB_KIND_INT:
    case DB_KIND_REAL:
        return NUMBER_MAX;
    default:
        return 0;
    }
}

static void param_write(const struct db_param *p, char *at)
{
    switch (p->kind) {
    case DB_KIND_TEXT:
        strcpy(at, p->data);
        break;
    case DB_KIND_BYTES:
        memcpy(at, "\\x", 2);
        hex_encode(p->data, p->len, at + 2);
        break;
    case DB_KIND_INT:
        (void)snprintf(at, NUMBER_MAX, "%lld", (long long)p->i);
        break;
    default:
        (void)snprintf(at, NUMBER_MAX, "%.17g", p->real);
        break;
    }
}

int stmt_init(struct stmt *s, const char *sql, const struct db_param *params)
{
    size_t size = 0;
    char *at;

    *s = (struct stmt){.sql = sql};
    for (; params && params[s->n].kind != DB_KIND_END; s->n++)
        size += param_size(&params[s->n]);
    s->data = malloc((size_t)s->n * sizeof *s->values + size + 1);
    if (!s->data)
        return -ENOMEM;
    s->values = (const char **)(void *)s->data;
    at = s->data + (size_t)s->n * sizeof *s->values;
    for (int i = 0; i < s->n; i++) {
        s->values[i] = params[i].kind == DB_KIND_NULL ? NULL : at;
        if (s->values[i])
            param_write(&params[i], at);
        at += param_size(&params[i]);
    }
    return 0;
}

void stmt_done(struct stmt *s)
{
    free(s->data);
    *s = (struct stmt){0};
}

int unit_init(struct unit *u, const struct db_stmt *stmts, size_t n,
              void (*answered)(struct unit *u, bool lost))
{
    int r = 0;

    *u = (struct unit){.n = n, .answered = answered};
    list_init(&u->node);
    u->stmts = calloc(n, sizeof *u->stmts);
    u->results = calloc(n, sizeof *u->results);
    if (!u->stmts || !u->results)
        r = -ENOMEM;
    for (size_t i = 0; i < n && r == 0; i++) {
        u->results[i].first = u->results;
        u->results[i].n = n;
        r = stmt_init(&u->stmts[i], stmts[i].sql, stmts[i].params);
    }
    if (r < 0)
        unit_done(u);
    return r;
}

void unit_done(struct unit *u)
{
    for (size_t i = 0; i < u->n; i++) {
        if (u->stmts)
            stmt_done(&u->stmts[i]);
        if (u->results)
            db_result_done(&u->results[i]);
    }
    free(u->stmts);
    free(u->results);
    u->stmts = NULL;
    u->results = NULL;
    u->n = 0;
}

void unit_reset(struct unit *u)
{
    u->at = 0;
    u->got = false;
    for (size_t i = 0; i < u->n; i++) {
        db_result_done(&u->results[i]);
        u->results[i].first = u->results;
        u->results[i].n = u->n;
    }
}

struct db_result *unit_result(struct unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->results[i].status != DB_OK)
            return &u->results[i];
    return &u->results[u->n - 1];
}
