// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Slows down guessing: each key (an account, an address) has some free tries, after which each next
 * one must wait twice as long as the last, up to a limit. A try counts when it begins, so that many
 * at once gain nothing; one that turns out good is taken back. Time forgives.
 *
 * Pure: the time is the caller's. Bounded memory: when too many keys are remembered, new ones share
 * one. */

#include <stdint.h>

#include "base/cleanup.h"

struct throttle;

struct throttle_limits {
    unsigned free;       /* tries without a wait */
    uint32_t first_ms;   /* the wait after those */
    uint32_t longest_ms; /* of one wait */
    uint32_t forgive_ms; /* after this time without a try the count halves */
    unsigned keys_max;
};

/* NULL when out of memory. limits are copied. */
must_check struct throttle *throttle_new(const struct throttle_limits *limits);
/* Holds from the next try on. */
void throttle_set_limits(struct throttle *t, const struct throttle_limits *limits);
struct throttle *throttle_free(struct throttle *t);
/* How long a try of key must wait: 0 none. Counts nothing. */
int64_t throttle_wait(struct throttle *t, const char *key, int64_t now_ms);
/* Counts a try that begins at now + its wait: 0 or -ENOMEM. Refuse, and do not count, one whose
 * wait is longer than you hold it. */
must_check int throttle_count(struct throttle *t, const char *key, int64_t now_ms);
/* It was good: takes one count back. */
void throttle_forgive(struct throttle *t, const char *key);
/* It was good and proves who he is: forgets all counts. */
void throttle_clear(struct throttle *t, const char *key);
