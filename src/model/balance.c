// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/balance.h"

#include <stdio.h>
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
                   void *arg, size_t *ret_roomiest)
{
    int best = -1;
    double best_score = 0, most = 0;
    size_t roomiest = 0;

    for (size_t i = 0; i < n; i++) {
        double u = random(arg), room = balance_room(&nodes[i]), score;

        if (i == 0 || room > most) {
            most = room;
            roomiest = i;
        }
        if (room < need_ram)
            continue;
        score = plugin(&nodes[i], w, u);
        if (best < 0 || score > best_score) {
            best = (int)i;
            best_score = score;
        }
    }
    if (best < 0 && ret_roomiest)
        *ret_roomiest = roomiest;
    return best;
}

void balance_refusal(char *dst, size_t size, double need_ram, size_t n,
                     const struct balance_node *roomiest, const char *name)
{
    double room = n ? balance_room(roomiest) : 0;

    if (n == 0)
        (void)snprintf(dst, size,
                       "no node runs VMs now; see qa host list (state running, backend, not "
                       "blocked)");
    else
        (void)snprintf(
            dst, size,
            "it needs %.0f MB (memory of its OSF) and no node has them free: the roomiest "
            "of %zu, %.60s, has %.0f MB, %.0f too few",
            need_ram, n, name, room, need_ram - room);
}
