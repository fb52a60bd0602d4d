// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What a daemon and its service manager tell each other (sd_notify(3), sd_listen_fds(3)), without
 * libsystemd. */

#include <stddef.h>

#include "base/cleanup.h"

/* Sends a datagram as READY=1, STATUS=..., STOPPING=1; nothing without NOTIFY_SOCKET. */
void service_notify(const char *state);
/* The inherited sockets of that name (LISTEN_FDS, LISTEN_FDNAMES), made close-on-exec: their
 * number, at most max. */
int service_listen_fds(const char *name, int *ret_fds, size_t max);
