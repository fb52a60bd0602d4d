// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The asker's end of qvd-rpc: starts it (or is handed its channel), keeps it alive, and turns each
 * call into one callback. Used by hkd and by qvd-l7r's broker.
 *
 * hkd is root and starts a qvd-rpc of its own. The broker has no right to: the master starts
 * qvd-rpc with the other end of a pair (its fd 3) and hands the broker this end. */

#include "base/error.h"
#include "ev/ev.h"
#include "ipc/rpc-msg.h"

struct rpc_client;
struct rpc_request;

/* How qvd-rpc is started. It becomes user (a system user) in an empty root by itself. */
struct rpc_client_spec {
    const char *path; /* NULL: QVD_LIBEXECDIR/qvd-rpc */
    const char *user; /* NULL: qvd-l7r */
};

/* 0 or -ENOMEM. spec (not kept) NULL: never starts one, waits for rpc_client_attach(). Else it is
 * started now, and again with a back-off when it ends; that it cannot be started is logged. */
must_check int rpc_client_new(struct ev_loop *loop, const struct rpc_client_spec *spec,
                              struct rpc_client **ret_client);
/* NULL-safe, always NULL. Requests under way are cancelled; their channel is closed, which ends
 * qvd-rpc. */
struct rpc_client *rpc_client_free(struct rpc_client *c);

/* Takes over fd (also on failure), the end of a pair whose other end is a qvd-rpc's fd 3. Calls
 * under way on a former channel end as RPC_BUSY. 0 or -errno. */
must_check int rpc_client_attach(struct rpc_client *c, int fd);
/* Whether a channel is there. */
bool rpc_client_ready(const struct rpc_client *c);

/* Called once for each request, never from within rpc_client_call(); strings live until it
 * returns. RPC_BUSY also when qvd-rpc is away or ended meanwhile (the VMA may have acted). */
typedef void rpc_client_fn(void *arg, const struct rpc_result *result);

/* Asks; call->id is chosen here. socket_fd (taken over, also on failure) is a non-blocking socket
 * to the VMA's port, perhaps still connecting. 0 and *ret_request (may be NULL when nobody will
 * cancel it), or -ENOMEM, -EMSGSIZE (body or function over its limit). */
must_check int rpc_client_call(struct rpc_client *c, const struct rpc_call *call, int socket_fd,
                               rpc_client_fn *fn, void *arg, struct rpc_request **ret_request);
/* Forgets it: fn is not called any more. For a request whose fn was not yet called. NULL-safe,
 * always NULL. */
struct rpc_request *rpc_request_cancel(struct rpc_request *r);
