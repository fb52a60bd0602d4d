// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The VMs' network as numbers: of the settings, checked. Pure. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/net.h"

#define NET_UPLINKS 8

/* Addresses in host byte order. Nodes: network + 1 .. first - 1; VMs: first .. last. */
struct addr_plan {
    char bridge[16];
    uint32_t network, mask, gateway, first, last, bridge_address;
    unsigned prefix;
    char uplinks[NET_UPLINKS][16];
    unsigned n_uplinks;
    char nat_if[16]; /* "": none */
};

/* Six hex numbers: 0 and the usual form with two digits each in dst (18 bytes), -EINVAL. */
must_check int addr_mac(const char *s, char *dst);
/* A name that the kernel takes for an interface and that needs no quoting. */
bool addr_ifname_ok(const char *s);

/* The whole plan but bridge_address: 0, or -EINVAL with err naming key and mend. */
must_check int addr_plan_read(const char *bridge, const char *ip_start, const char *netmask,
                              const char *gateway, const char *uplinks, const char *nat_if,
                              struct addr_plan *ret, struct qvd_error *err);
/* Looks for the bridge and its address on this machine. 0, or -errno with the mend; sets
 * bridge_address. */
must_check int addr_bridge_check(struct addr_plan *p, struct qvd_error *err);
/* Is the address of the node's row one of this machine's, and not a VM's? 0, or -errno with the
 * mend. */
must_check int addr_node_check(const struct addr_plan *p, const char *name, const char *address,
                               struct qvd_error *err);
/* Is ip one of the VMs' range? */
bool addr_is_vm(const struct addr_plan *p, uint32_t ip);
