// SPDX-License-Identifier: GPL-3.0-or-later
/* The speeds that clients may name for their line (l7r-protocol 5, qvd.client.link). */
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "wire/l7r.h"

const char *wire_l7r_link(const char *link)
{
    static const char *const words[] = {"modem", "isdn", "adsl", "wan", "lan", "local"};
    static const uint64_t up_to[] = {56000, 128000, 640000, 34000000, UINT64_MAX};
    char text[16], *unit;
    uint64_t rate, factor = 1;

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(link, words[i]) == 0)
            return words[i];
    if (str_copy(text, sizeof text, link) < 0)
        return NULL;
    unit = text + strspn(text, "0123456789");
    if (strcasecmp(unit, "k") == 0)
        factor = 1000;
    else if (strcasecmp(unit, "m") == 0)
        factor = 1000000;
    else if (*unit)
        return NULL;
    *unit = '\0';
    if (str_to_u64(text, UINT64_MAX / factor, &rate) < 0 || rate == 0)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(up_to); i++)
        if (rate * factor <= up_to[i])
            return words[i];
    return NULL;
}
