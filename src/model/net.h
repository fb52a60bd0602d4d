// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Addresses of VMs: IPv4 as numbers in host byte order, the ranges of a farm, MACs. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define NET_IP4_STR 16
#define NET_MAC_STR 18

/* Four decimal numbers, nothing else: 0 or -EINVAL. */
must_check int net_ip4_parse(const char *s, uint32_t *ret_ip);
/* dst of NET_IP4_STR bytes, returned. */
const char *net_ip4_format(uint32_t ip, char *dst);
/* "255.255.0.0" or "16": 0 with 1 to 30 bits, or -EINVAL (holes in the mask, too small a net). */
must_check int net_mask_parse(const char *s, unsigned *ret_bits);

/* vm.network.ip.start and vm.network.netmask say it all: nodes have network + 1 to start - 1, VMs
 * start to broadcast - 1. */
struct net_range {
    uint32_t network, broadcast, first, last; /* first and last: of the VMs */
    unsigned bits;
};
/* 0; -EINVAL with err naming the key and what is allowed. */
must_check int net_range_init(const char *ip_start, const char *netmask, struct net_range *ret,
                              struct qvd_error *err);
bool net_range_is_vm(const struct net_range *r, uint32_t ip);
bool net_range_is_node(const struct net_range *r, uint32_t ip);
/* The lowest VM address that is not among the n used ones (sorted upwards): 0, -ENOSPC. */
must_check int net_range_free(const struct net_range *r, const uint32_t *used, size_t n,
                              uint32_t *ret_ip);

/* The MAC of the VM with address A.B.C.D: prefix:BB:CC:DD. prefix: three bytes as "54:52:00".
 * dst of NET_MAC_STR bytes. 0 or -EINVAL (prefix). */
must_check int net_mac(const char *prefix, uint32_t ip, char *dst);
