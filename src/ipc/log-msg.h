// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A new target of log lines for a process of ours that is running and may open nothing: sent after
 * a reload by who started it, passed on by who has its channel. Type 1. A row of the receiver's
 * table: {&ipc_log_msg, ~0u, ipc_on_log}; never in that of a channel to somebody who is trusted
 * less. */

#include "ipc/channel.h"

/* With the target as descriptor. */
struct ipc_log {
    uint32_t level, facility;
};

extern const struct ipc_message ipc_log_msg;

/* Sends our own present target, level and facility; tells a failure to the log. A channel that is
 * NULL is passed over: who comes later has them from its start. */
void ipc_log_send(struct ipc_channel *c);
/* The handler: they become ours. */
must_check int ipc_on_log(void *owner, const void *msg, int *fd);
