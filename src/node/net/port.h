// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A VM's port in the kernel, by netlink: its elements in the sets of the firewall (nft.h), and its
 * permanent neighbour on the bridge. Blocks no longer than the kernel's locks. */

#include "base/error.h"
#include "node/net/nft.h"

/* All or, if it fails, the elements without the neighbour. 0, or -errno with the mend. */
must_check int port_open(const struct nft_port *p, const char *bridge, struct qvd_error *err);
/* What is not there is no error. 0 or -errno. */
must_check int port_close(const struct nft_port *p, const char *bridge, struct qvd_error *err);
