// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/net.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"

int net_ip4_parse(const char *s, uint32_t *ret_ip)
{
    struct in_addr a;

    /* inet_pton() takes dotted decimal only, and no leading zeros. */
    if (inet_pton(AF_INET, s, &a) != 1)
        return -EINVAL;
    *ret_ip = ntohl(a.s_addr);
    return 0;
}

const char *net_ip4_format(uint32_t ip, char *dst)
{
    snprintf(dst, NET_IP4_STR, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
    return dst;
}

int net_mask_parse(const char *s, unsigned *ret_bits)
{
    uint64_t bits;
    uint32_t mask;

    if (str_to_u64(s, 30, &bits) == 0) {
        if (bits < 1)
            return -EINVAL;
        *ret_bits = (unsigned)bits;
        return 0;
    }
    if (net_ip4_parse(s, &mask) < 0 || mask == 0 || (~mask & (~mask + 1)))
        return -EINVAL;
    bits = (uint64_t)__builtin_popcount(mask);
    if (bits > 30)
        return -EINVAL;
    *ret_bits = (unsigned)bits;
    return 0;
}

int net_range_init(const char *ip_start, const char *netmask, struct net_range *ret,
                   struct qvd_error *err)
{
    uint32_t start, mask;
    unsigned bits;

    if (net_ip4_parse(ip_start, &start) < 0)
        return qvd_error_set(err, -EINVAL, "vm.network.ip.start = %s: not an IPv4 address",
                             ip_start);
    if (net_mask_parse(netmask, &bits) < 0)
        return qvd_error_set(
            err, -EINVAL,
            "vm.network.netmask = %s: neither a mask as 255.255.0.0 nor a number of "
            "bits from 1 to 30",
            netmask);
    mask = ~(uint32_t)0 << (32 - bits);
    if ((start & ~mask) < 2 || start == (start | ~mask))
        return qvd_error_set(err, -EINVAL,
                             "vm.network.ip.start = %s: leaves no address for a node below it, or "
                             "for a VM above it, in a network of %u bits",
                             ip_start, bits);
    *ret = (struct net_range){
        .network = start & mask,
        .broadcast = start | ~mask,
        .first = start,
        .last = (start | ~mask) - 1,
        .bits = bits,
    };
    return 0;
}

bool net_range_is_vm(const struct net_range *r, uint32_t ip)
{
    return ip >= r->first && ip <= r->last;
}

bool net_range_is_node(const struct net_range *r, uint32_t ip)
{
    return ip > r->network && ip < r->first;
}

int net_range_free(const struct net_range *r, const uint32_t *used, size_t n, uint32_t *ret_ip)
{
    uint32_t ip = r->first;

    for (size_t i = 0; i < n && ip <= r->last; i++) {
        if (used[i] > ip)
            break;
        if (used[i] == ip)
            ip++;
    }
    if (ip > r->last)
        return -ENOSPC;
    *ret_ip = ip;
    return 0;
}

int net_mac(const char *prefix, uint32_t ip, char *dst)
{
    unsigned b[3];
    int end = 0;

    if (sscanf(prefix, "%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &end) != 3 || end == 0 ||
        prefix[end] || strlen(prefix) > 8)
        return -EINVAL;
    /* A group address would be no address of a station. */
    if (b[0] & 1)
        return -EINVAL;
    return str_format(dst, NET_MAC_STR, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2],
                      ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}
