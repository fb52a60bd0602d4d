// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/map.h"

#include <stdbool.h>
#include <string.h>

#include "base/str.h"

struct slot {
    uint64_t hash; /* of strings; of numbers the key itself is in number */
    uint64_t number;
    char *string;
    void *value; /* NULL: free */
};

struct map {
    struct slot *slots;
    size_t size; /* a power of two, or 0 */
    size_t count;
    bool strings;
    uint64_t seed; /* keys may come from outside: no crafted collisions */
};

static struct map *map_new(bool strings)
{
    struct map *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->strings = strings;
    if (random_bytes(&m->seed, sizeof m->seed) < 0) {
        free(m);
        return NULL;
    }
    return m;
}

struct map *map_new_u64(void)
{
    return map_new(false);
}

struct map *map_new_str(void)
{
    return map_new(true);
}

struct map *map_free(struct map *m)
{
    if (m) {
        for (size_t i = 0; i < m->size; i++)
            free(m->slots[i].string);
        free(m->slots);
        free(m);
    }
    return NULL;
}

/* The finaliser of MurmurHash3 (public domain). */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

static uint64_t hash_of(const struct map *m, uint64_t number, const char *string)
{
    uint64_t h = m->seed;

    if (!string)
        return mix(h ^ number);
    for (; *string; string++)
        h = mix(h ^ (uint8_t)*string);
    return h;
}

static bool same(const struct slot *s, uint64_t hash, uint64_t number, const char *string)
{
    return s->hash == hash && (string ? strcmp(s->string, string) == 0 : s->number == number);
}

/* The slot of the key, or the free one where it would go. The table is never full. */
static struct slot *find(const struct map *m, uint64_t hash, uint64_t number, const char *string)
{
    size_t i = hash & (m->size - 1);

    while (m->slots[i].value && !same(&m->slots[i], hash, number, string))
        i = (i + 1) & (m->size - 1);
    return &m->slots[i];
}

static must_check int grow(struct map *m)
{
    struct map bigger = *m;

    if (m->size && m->count < m->size / 2)
        return 0;
    bigger.size = m->size ? m->size * 2 : 16;
    bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < m->size; i++)
        if (m->slots[i].value)
            *find(&bigger, m->slots[i].hash, m->slots[i].number, m->slots[i].string) = m->slots[i];
    free(m->slots);
    *m = bigger;
    return 0;
}

static must_check int put(struct map *m, uint64_t number, const char *string, void *value)
{
    int r = grow(m);
    if (r < 0)
        return r;
    uint64_t hash = hash_of(m, number, string);
    struct slot *s = find(m, hash, number, string);
    if (!s->value) {
        char *copy = string ? strdup(string) : NULL;
        if (string && !copy)
            return -ENOMEM;
        *s = (struct slot){.hash = hash, .number = number, .string = copy};
        m->count++;
    }
    s->value = value;
    return 0;
}

static void *get(const struct map *m, uint64_t number, const char *string)
{
    return m->size ? find(m, hash_of(m, number, string), number, string)->value : NULL;
}

static void *take(struct map *m, uint64_t number, const char *string)
{
    struct slot *s = m->size ? find(m, hash_of(m, number, string), number, string) : NULL;

    if (!s || !s->value)
        return NULL;
    void *value = s->value;
    free(s->string);
    *s = (struct slot){0};
    m->count--;
    /* Whatever stood behind it in the same run must still be found. */
    for (size_t i = (s - m->slots + 1) & (m->size - 1); m->slots[i].value;
         i = (i + 1) & (m->size - 1)) {
        struct slot moved = m->slots[i];
        m->slots[i] = (struct slot){0};
        *find(m, moved.hash, moved.number, moved.string) = moved;
    }
    return value;
}

int map_put_u64(struct map *m, uint64_t key, void *value)
{
    return put(m, key, NULL, value);
}

int map_put_str(struct map *m, const char *key, void *value)
{
    return put(m, 0, key, value);
}

void *map_get_u64(const struct map *m, uint64_t key)
{
    return get(m, key, NULL);
}

void *map_get_str(const struct map *m, const char *key)
{
    return get(m, 0, key);
}

void *map_take_u64(struct map *m, uint64_t key)
{
    return take(m, key, NULL);
}

void *map_take_str(struct map *m, const char *key)
{
    return take(m, 0, key);
}

size_t map_count(const struct map *m)
{
    return m->count;
}

void *map_next(const struct map *m, size_t *at, uint64_t *ret_key)
{
    for (; *at < m->size; (*at)++) {
        const struct slot *s = &m->slots[*at];
        if (s->value) {
            (*at)++;
            if (ret_key)
                *ret_key = s->number;
            return s->value;
        }
    }
    return NULL;
}
