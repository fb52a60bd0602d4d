// SPDX-License-Identifier: GPL-3.0-or-later
/* Who comes: how many connections an address has (over all workers), and which addresses are
 * balancers, which count for nobody. */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "l7r/worker/worker-internal.h"

/* Those of this worker where the memory of all of them is missing. */
static unsigned enter(struct worker *w, struct source *s)
{
    return w->counts ? l7r_counts_enter(w->counts, w->region, s->address) : s->count;
}

struct source *source_enter(struct worker *w, const char *address, bool balancer)
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
    s->count++;
    /* A balancer's own connections (it looks whether we live) are nobody's. */
    s->balancer = balancer || addrs_have(&w->proxies, address);
    if (enter(w, s) > w->context.per_source && !s->balancer) {
        source_leave(w, s);
        return NULL;
    }
    return s;
}

void source_leave(struct worker *w, struct source *s)
{
    if (!s)
        return;
    if (w->counts)
        l7r_counts_leave(w->counts, w->region, s->address);
    if (--s->count > 0)
        return;
    (void)map_take_str(w->sources, s->address);
    free(s);
}

void source_set_proxies(struct worker *w, const char *list)
{
    struct addrs next = {0};

    while (*list) {
        char word[64];
        size_t len = strcspn(list, ", \t");
        if (len && (str_copy_n(word, sizeof word, list, len) < 0 || addrs_add(&next, word) < 0))
            log_error("l7r.trusted_proxies: %.*s is no address and no network (or one too many);"
                      " it is not trusted",
                      (int)len, list);
        list += len + (list[len] != 0);
    }
    w->proxies = next;
}
