// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* When to say that something is about to be out of date: 30, 14 and 3 days before, and once it is;
 * each once. */

#include <stdint.h>

struct expiry {
    int64_t when; /* seconds since 1970; 0: never */
    int said;     /* how many of the days have been announced */
};

enum expiry_word { EXPIRY_NOTHING, EXPIRY_SOON, EXPIRY_OVER };

/* now: seconds since 1970. *ret_days: whole days left, when it is SOON. */
enum expiry_word expiry_due(struct expiry *e, int64_t now, int64_t *ret_days);
