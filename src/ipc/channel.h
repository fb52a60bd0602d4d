// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A channel to another process of ours: typed messages over SOCK_SEQPACKET, with a bounded queue,
 * and a table of what may come in which state. Whatever does not fit closes the channel. */

#include "ev/ev.h"
#include "ipc/codec.h"

struct ipc_channel;

/* A row of what the owner takes. states: bits of its own states in which the message may come
 * (ipc_channel_set_state()); ~0u: always. fn gets the decoded struct, whose strings live until it
 * returns, and the descriptor (-EBADF: none): it takes it by TAKE_FD(*fd), else it is closed. fn
 * returns 0, or negative to close the channel with that code. */
struct ipc_handler {
    const struct ipc_message *message;
    unsigned states;
    int (*fn)(void *owner, const void *msg, int *fd);
};

/* Called once, at the end of a turn, when the channel is of no more use: the peer has gone (0), or
 * -EBADMSG (it sent what it may not), -ENOBUFS, another -errno. The owner frees it, then or later.
 */
typedef void ipc_closed_fn(void *owner, int reason);

/* Takes over fd (also on failure). handlers must outlive it. 0, -ENOMEM. */
must_check int ipc_channel_new(struct ev_loop *loop, int fd, const struct ipc_handler *handlers,
                               size_t n_handlers, ipc_closed_fn *closed, void *owner,
                               struct ipc_channel **ret_channel);
struct ipc_channel *ipc_channel_free(struct ipc_channel *c);

/* state: a number below 32; its bit is what handlers' states are compared with. Begins as 0. */
void ipc_channel_set_state(struct ipc_channel *c, unsigned state);

/* Sends or queues (at most 256 messages). The fd is duplicated, so it stays the caller's; -EBADF:
 * none. 0; -ENOBUFS: full, nothing sent, answer "busy"; -EPIPE: closed; -EMSGSIZE; -ENOMEM. Never
 * calls back. */
must_check int ipc_send(struct ipc_channel *c, const struct ipc_message *m, const void *msg,
                        int fd);
/* Messages that wait to be sent. */
size_t ipc_channel_queued(const struct ipc_channel *c);

/* A connected pair, close-on-exec and non-blocking: 0 or -errno. */
must_check int ipc_pair(int ret_fds[2]);
