// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The firewall as nft's text: tables "bridge qvd" (anti-spoof, isolation, DHCP) and "inet qvd" (VM
 * and node, VM and VM routed, NAT). Pure. */

#include "base/buf.h"
#include "node/net/address.h"

struct nft_port {
    const char *port; /* qvd42 */
    const char *mac;
    const char *ip;
};

struct nft_rules {
    const struct addr_plan *plan;
    bool by_bridge; /* the kernel knows meta ibrname: other bridges are left alone */
    uint16_t vma_port, x_port;
    int broker_uid;               /* -1: none */
    const struct nft_port *ports; /* of VMs that run */
    size_t n_ports;
};

/* One transaction that replaces both tables. 0 or -ENOMEM. */
must_check int nft_rules(const struct nft_rules *r, struct buf *out);
/* One transaction that removes both. */
must_check int nft_remove(struct buf *out);
