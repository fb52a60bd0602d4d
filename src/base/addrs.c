// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/addrs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"

static must_check int read_address(const char *text, uint8_t dst[16], unsigned *ret_above)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    *ret_above = 0;
    if (inet_pton(AF_INET6, text, dst) == 1)
        return 0;
    memcpy(dst, mapped, sizeof mapped);
    *ret_above = 96;
    return inet_pton(AF_INET, text, dst + sizeof mapped) == 1 ? 0 : -EINVAL;
}

static bool same_net(const uint8_t a[16], const uint8_t b[16], unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a, b, whole) == 0 &&
           (!rest || ((a[whole] ^ b[whole]) & (0xff00 >> rest & 0xff)) == 0);
}

int addrs_add(struct addrs *a, const char *word)
{
    char text[64];
    uint64_t bits = 128;
    unsigned above = 0;

    if (a->n == ADDRS_MAX)
        return -ENOSPC;
    if (str_copy(text, sizeof text, word) < 0)
        return -EINVAL;
    char *slash = strchr(text, '/');
    if (slash)
        *slash++ = 0;
    if (read_address(text, a->nets[a->n].address, &above) < 0)
        return -EINVAL;
    if (slash && str_to_u64(slash, 128 - above, &bits) < 0)
        return -EINVAL;
    a->nets[a->n].bits = slash ? (unsigned)bits + above : 128;
    a->n++;
    return 0;
}

bool addrs_have(const struct addrs *a, const char *address)
{
    uint8_t bytes[16];
    unsigned above;

    if (a->n == 0 || read_address(address, bytes, &above) < 0)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (same_net(bytes, a->nets[i].address, a->nets[i].bits))
            return true;
    return false;
}
