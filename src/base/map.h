// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Hash map from a 64-bit number or a string to a pointer. Grows; open addressing; keys of strings
 * are copied. Values belong to the caller. */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct map;

/* A map of numbers / of strings; NULL when out of memory. */
must_check struct map *map_new_u64(void);
must_check struct map *map_new_str(void);
/* NULL-safe; values are not freed. Always NULL. */
struct map *map_free(struct map *m);

/* Sets (replaces): 0 or -ENOMEM. value must not be NULL. */
must_check int map_put_u64(struct map *m, uint64_t key, void *value);
must_check int map_put_str(struct map *m, const char *key, void *value);
/* NULL when absent. */
void *map_get_u64(const struct map *m, uint64_t key);
void *map_get_str(const struct map *m, const char *key);
/* Removes and returns the value; NULL when absent. */
void *map_take_u64(struct map *m, uint64_t key);
void *map_take_str(struct map *m, const char *key);

size_t map_count(const struct map *m);
/* Walks in no order: *at begins as 0; returns the next value or NULL at the end. The map must not
 * change during the walk. ret_key (may be NULL) gets the number's key. */
void *map_next(const struct map *m, size_t *at, uint64_t *ret_key);
