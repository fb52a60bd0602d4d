// SPDX-License-Identifier: GPL-3.0-or-later
#include "l7r/master/expiry.h"

#include <stdbool.h>

#include "base/cleanup.h"

#define DAY 86400

static const int64_t days_ahead[] = {30, 14, 3};

enum expiry_word expiry_due(struct expiry *e, int64_t now, int64_t *ret_days)
{
    const int all = (int)ARRAY_SIZE(days_ahead);
    int due = 0;

    if (!e->when)
        return EXPIRY_NOTHING;
    if (now >= e->when) {
        bool told = e->said > all;
        e->said = all + 1;
        return told ? EXPIRY_NOTHING : EXPIRY_OVER;
    }
    while (due < all && e->when - now <= days_ahead[due] * DAY)
        due++;
    if (due <= e->said)
        return EXPIRY_NOTHING;
    e->said = due;
    *ret_days = (e->when - now) / DAY;
    return EXPIRY_SOON;
}
