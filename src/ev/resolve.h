// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Names to addresses, as getaddrinfo() finds them, while the loop goes on. */

#include <netdb.h>

#include "base/cleanup.h"

struct ev_loop;
struct ev_resolve;

/* Called once, never inside ev_resolve_new(). list is the owner's (freeaddrinfo()); NULL with the
 * reason. */
typedef void ev_resolve_fn(void *arg, struct addrinfo *list, const char *why);
/* Stream addresses of a name, or of an address in digits. port in digits or NULL. 0 or -errno. */
must_check int ev_resolve_new(struct ev_loop *loop, const char *host, const char *port,
                              ev_resolve_fn *done, void *arg, struct ev_resolve **ret);
/* Nothing comes any more. Also after the answer, and inside it. NULL-safe, always NULL. */
struct ev_resolve *ev_resolve_free(struct ev_resolve *r);
