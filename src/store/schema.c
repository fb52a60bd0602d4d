// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "ev/ev.h"

enum { AGAIN_MS = 30000 };

struct store_schema {
    struct db *db;
    store_schema_fn *fn;
    void *arg;
    struct ev_timer *again;
    struct db_request *request;
    bool once_more;
    char why[256];
};

static void look(void *arg);

static void on_look(void *arg, int r, const struct qvd_error *err)
{
    struct store_schema *s = arg;
    const char *why = r == -EPROTO ? err->text : "";

    s->request = NULL;
    if (s->once_more) {
        look(s);
        return;
    }
    if (r == 0 || r == -EPROTO) {
        bool news = strcmp(why, s->why) != 0;

        if (str_copy(s->why, sizeof s->why, why) < 0)
            s->why[sizeof s->why - 1] = 0;
        if (news)
            s->fn(s->arg, *why ? s->why : NULL);
    }
    if (s->why[0])
        ev_timer_arm_jittered(s->again, AGAIN_MS, 20);
    else
        ev_timer_disarm(s->again);
}

static void look(void *arg)
{
    struct store_schema *s = arg;

    s->once_more = s->request;
    if (s->request)
        return;
    s->request = store_schema_check(s->db, on_look, s);
    if (!s->request)
        ev_timer_arm_jittered(s->again, AGAIN_MS, 20);
}

int store_schema_new(struct ev_loop *loop, struct db *db, store_schema_fn *fn, void *arg,
                     struct store_schema **ret_schema)
{
    struct store_schema *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    *s = (struct store_schema){.db = db, .fn = fn, .arg = arg};
    if (ev_timer_new(loop, look, s, &s->again) < 0) {
        free(s);
        return -ENOMEM;
    }
    *ret_schema = s;
    return 0;
}

struct store_schema *store_schema_free(struct store_schema *s)
{
    if (s) {
        db_cancel(s->request);
        ev_timer_free(s->again);
        free(s);
    }
    return NULL;
}

void store_schema_look(struct store_schema *s)
{
    look(s);
}

bool store_schema_fits(const struct store_schema *s)
{
    return !s->why[0];
}
