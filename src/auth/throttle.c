// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/throttle.h"

#include <string.h>

#include "base/list.h"
#include "base/map.h"

struct entry {
    struct list node; /* oldest use first */
    unsigned count;
    int64_t last;       /* the last try began, or the last halving */
    int64_t not_before; /* of the next */
    char key[];
};

struct throttle {
    struct throttle_limits limits;
    struct map *entries;
    struct list by_use;
};

/* What all keys beyond keys_max share. */
#define OTHERS "\x01others"

struct throttle *throttle_new(const struct throttle_limits *limits)
{
    struct throttle *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->limits = *limits;
    list_init(&t->by_use);
    t->entries = map_new_str();
    return t->entries ? t : throttle_free(t);
}

void throttle_set_limits(struct throttle *t, const struct throttle_limits *limits)
{
    t->limits = *limits;
}

static void drop(struct throttle *t, struct entry *e)
{
    (void)map_take_str(t->entries, e->key);
    list_remove(&e->node);
    free(e);
}

struct throttle *throttle_free(struct throttle *t)
{
    if (!t)
        return NULL;
    QVD_LIST_FOREACH (e, &t->by_use, struct entry, node)
        drop(t, e);
    map_free(t->entries);
    free(t);
    return NULL;
}

static void forgive_by_time(const struct throttle *t, struct entry *e, int64_t now)
{
    while (e->count && now - e->last >= t->limits.forgive_ms) {
        e->count /= 2;
        e->last += t->limits.forgive_ms;
    }
}

/* The oldest entries first: those of no more weight go. */
static void sweep(struct throttle *t, int64_t now)
{
    QVD_LIST_FOREACH (e, &t->by_use, struct entry, node) {
        forgive_by_time(t, e, now);
        if (e->count == 0 && e->not_before <= now)
            drop(t, e);
    }
}

static struct entry *find(struct throttle *t, const char *key, int64_t now)
{
    struct entry *e = map_get_str(t->entries, key);

    if (!e && map_count(t->entries) >= t->limits.keys_max)
        e = map_get_str(t->entries, OTHERS);
    if (e)
        forgive_by_time(t, e, now);
    return e;
}

int64_t throttle_wait(struct throttle *t, const char *key, int64_t now_ms)
{
    const struct entry *e = find(t, key, now_ms);

    return e && e->not_before > now_ms ? e->not_before - now_ms : 0;
}

static must_check struct entry *add(struct throttle *t, const char *key, int64_t now)
{
    if (map_count(t->entries) >= t->limits.keys_max) {
        sweep(t, now);
        if (map_count(t->entries) >= t->limits.keys_max)
            key = OTHERS;
    }
    struct entry *e = calloc(1, sizeof *e + strlen(key) + 1);
    if (!e)
        return NULL;
    memcpy(e->key, key, strlen(key) + 1);
    list_init(&e->node);
    e->last = now;
    if (map_put_str(t->entries, e->key, e) < 0) {
        free(e);
        return NULL;
    }
    return e;
}

int throttle_count(struct throttle *t, const char *key, int64_t now_ms)
{
    struct entry *e = find(t, key, now_ms);

    if (!e && !(e = add(t, key, now_ms)))
        return -ENOMEM;
    list_remove(&e->node);
    list_append(&t->by_use, &e->node);
    int64_t begin = e->not_before > now_ms ? e->not_before : now_ms;
    e->count++;
    e->last = begin;
    uint64_t wait = 0;
    if (e->count >= t->limits.free) {
        unsigned over = e->count - t->limits.free;
        wait = over >= 31 ? t->limits.longest_ms : (uint64_t)t->limits.first_ms << over;
    }
    e->not_before = begin + (int64_t)(wait < t->limits.longest_ms ? wait : t->limits.longest_ms);
    return 0;
}

void throttle_forgive(struct throttle *t, const char *key)
{
    struct entry *e = map_get_str(t->entries, key);

    if (e && e->count) {
        e->count--;
        if (e->count < t->limits.free)
            e->not_before = 0;
    }
}

void throttle_clear(struct throttle *t, const char *key)
{
    struct entry *e = map_get_str(t->entries, key);

    if (e)
        drop(t, e);
}
