// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The asker's end of qvd-rpc: a client that turns each call into one callback, and a spawner that
 * keeps qvd-rpc running. hkd has both; qvd-l7r's master has the spawner and passes each new channel
 * to its broker, which has the client. */

#include "ev/ev.h"
#include "ipc/rpc-msg.h"
#include "ipc/spawner.h"

struct rpc_client;
struct rpc_request;

/* Without a channel at first: calls end as RPC_BUSY. 0 or -ENOMEM. */
must_check int rpc_client_new(struct ev_loop *loop, struct rpc_client **ret_client);
/* NULL-safe, always NULL; open requests get no callback. */
struct rpc_client *rpc_client_free(struct rpc_client *c);
/* A (new) channel to qvd-rpc; takes fd over, also on failure. Calls under way on the former one end
 * as RPC_BUSY. 0 or -errno. */
must_check int rpc_client_attach(struct rpc_client *c, int fd);
/* The log's present target, to qvd-rpc if it is there. */
void rpc_client_log(struct rpc_client *c);
bool rpc_client_attached(const struct rpc_client *c);

/* Called once for each request that was taken and not cancelled, never from within
 * rpc_client_call(); strings live until it returns. RPC_BUSY also when qvd-rpc is away or ended
 * meanwhile (the VMA may have acted), RPC_TIMEOUT also when qvd-rpc itself gives no answer. */
typedef void rpc_client_fn(void *arg, const struct rpc_result *result);

/* Asks; call->id is chosen here, its strings are copied. socket_fd (taken over, also on failure) is
 * a non-blocking socket to the VMA's port, perhaps still connecting. 0 and *ret_request (NULL when
 * nobody will cancel it); -ENOMEM; -EMSGSIZE (body or function over its limit). */
must_check int rpc_client_call(struct rpc_client *c, const struct rpc_call *call, int socket_fd,
                               rpc_client_fn *fn, void *arg, struct rpc_request **ret_request);
/* Forgets it: fn is not called any more. For a request whose fn was not yet called. NULL-safe,
 * always NULL. */
struct rpc_request *rpc_request_cancel(struct rpc_request *r);

/* Keeps one qvd-rpc running, as root: it becomes user (NULL: qvd-rpc) in an empty root by itself.
 * Free it by ipc_spawner_free(). 0 or -ENOMEM. */
must_check int rpc_spawner_new(struct ev_loop *loop, const char *user, ipc_spawned_fn *fn,
                               void *arg, struct ipc_spawner **ret_spawner);
