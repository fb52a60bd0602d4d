// SPDX-License-Identifier: GPL-3.0-or-later
/* How many connections an address has. */
#include <string.h>

#include "base/str.h"
#include "l7r/worker/worker-internal.h"

struct source *source_enter(struct worker *w, const char *address)
{
    struct source *s = map_get_str(w->sources, address);

    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return NULL;
        if (str_copy(s->address, sizeof s->address, address) < 0 ||
            map_put_str(w->sources, address, s) < 0) {
            free(s);
            return NULL;
        }
    }
    if (s->count >= w->context.per_source)
        return NULL;
    s->count++;
    return s;
}

void source_leave(struct worker *w, struct source *s)
{
    if (!s || --s->count > 0)
        return;
    (void)map_take_str(w->sources, s->address);
    free(s);
}
