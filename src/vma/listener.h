// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The agent's ear: takes connections, parses HTTP and JSON, checks the MAC and hands typed orders
 * to the monitor. Has no rights, and a key that is good for this VM only. */

#include "ev/ev.h"

struct listener;

/* Connections at once; more wait in the kernel's queue. */
#define LISTENER_CONNECTIONS_MAX 64
/* Of a connection: to the end of its request. */
#define LISTENER_HEAD_MS 10000

/* Serves the listening socket for the monitor at the other end of channel_fd (both taken over, also
 * on failure). Nothing is accepted before the monitor's hello. Ends the loop when the monitor goes.
 * 0, -ENOMEM, -errno. */
must_check int listener_new(struct ev_loop *loop, int channel_fd, int socket_fd,
                            struct listener **ret_listener);
struct listener *listener_free(struct listener *l);
