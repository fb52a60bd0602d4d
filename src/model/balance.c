// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/balance.h"

#include <string.h>

#include "base/cleanup.h"

static double not_negative(double v)
{
    return v > 0 ? v : 0;
}

/* Shares, not megabytes and bogomips: so that the weights mean the same on every machine. */
static double score_default(const struct balance_node *n, const struct balance_weights *w, double u)
{
    double ram = n->usable_ram > 0 ? balance_room(n) / n->usable_ram : 0;
    double cpu = not_negative(n->free_cpu - n->reserved_cpu);

    return w->ram * ram + w->cpu * cpu + w->random * u;
}

static double score_random(const struct balance_node *n, const struct balance_weights *w, double u)
{
    return u;
}

static const struct {
    const char *name;
    balance_fn *fn;
} plugins[] = {
    {"default", score_default},
    {"random",  score_random },
};

balance_fn *balance_plugin(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(plugins); i++)
        if (strcmp(plugins[i].name, name) == 0)
            return plugins[i].fn;
    return NULL;
}

double balance_room(const struct balance_node *n)
{
    return not_negative(n->usable_ram * n->free_ram - n->reserved_ram);
}

int balance_choose(balance_fn *plugin, const struct balance_node *nodes, size_t n,
                   const struct balance_weights *w, double need_ram, double (*random)(void *arg),
                   void *arg, double *ret_most)
{
    int best = -1;
    double best_score = 0, most = 0;

    for (size_t i = 0; i < n; i++) {
        double u = random(arg), room = balance_room(&nodes[i]), score;

        if (room > most)
            most = room;
        if (room < need_ram)
            continue;
        score = plugin(&nodes[i], w, u);
        if (best < 0 || score > best_score) {
            best = (int)i;
            best_score = score;
        }
    }
    if (best < 0 && ret_most)
        *ret_most = most;
    return best;
}
