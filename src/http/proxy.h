// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The PROXY protocol's header, versions 1 and 2: what a balancer sends before a client's first byte
 * to tell whose connection it is. Only TCP; what is behind the addresses of version 2 is passed
 * over. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* The longest that is read, and more than balancers send. */
#define PROXY_HEADER_MAX 2048

struct proxy_header {
    char source[64]; /* the client's address in digits; "": the balancer's own connection, or one
                      * whose source it does not know */
    uint16_t port;
};

/* Looks at the first bytes of a connection: the header's length, *ret filled; 0: all of them belong
 * to a header that is not yet whole; -EBADMSG: none, or one that is wrong. */
must_check ssize_t proxy_header_parse(const uint8_t *data, size_t len, struct proxy_header *ret);
