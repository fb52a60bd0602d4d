// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* dnsmasq: DHCP with a static lease for each VM of the cluster, and DNS. Supervised: it comes back
 * after a pause that grows. */

#include "node/net/address.h"
#include "node/node.h"

struct dhcp;

struct dhcp_settings {
    const struct addr_plan *plan;
    const char *program; /* dnsmasq */
    const char *dir;     /* /run/qvd/dhcp: its configuration, leases and hosts */
    const char *dns;     /* list, "": the gateway */
    const char *domain;  /* "": none */
};

/* The configuration file's text; pure. 0 or -ENOMEM. */
struct buf;
must_check int dhcp_config(const struct dhcp_settings *s, struct buf *out);

/* Writes configuration and folders; what stands in the hosts' folder of an earlier run is kept. */
must_check int dhcp_new(struct ev_loop *loop, const struct dhcp_settings *s, node_log_fn *log,
                        void *log_arg, struct dhcp **ret, struct qvd_error *err);
/* Starts it (and keeps it running). 0, -errno with err: it could not even be run. */
must_check int dhcp_start(struct dhcp *d, struct qvd_error *err);
must_check int dhcp_all(struct dhcp *d, const struct node_lease *leases, size_t count);
must_check int dhcp_set(struct dhcp *d, const struct node_lease *lease);
must_check int dhcp_remove(struct dhcp *d, uint64_t vm_id);
/* Ends it. */
struct dhcp *dhcp_free(struct dhcp *d);
