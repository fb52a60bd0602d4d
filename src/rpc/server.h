// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The work of qvd-rpc: takes calls from its asker, speaks with one VMA for each, tells one bounded
 * result. Knows no files, no database, and of VMs only what a call brings. */

#include "ev/ev.h"

struct rpc_server;

/* At most that many calls at once; more are told RPC_BUSY. */
#define RPC_SERVER_CALLS_MAX 512

/* Serves the channel fd (taken over, also on failure) until the asker goes: the loop is stopped
 * then, with 0, or 1 when the asker broke the rules. 0, -ENOMEM, -errno. */
must_check int rpc_server_new(struct ev_loop *loop, int fd, struct rpc_server **ret_server);
/* NULL-safe, always NULL; calls under way are dropped. */
struct rpc_server *rpc_server_free(struct rpc_server *s);
