// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A list of addresses and networks, IPv4 and IPv6: is an address among them? */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define ADDRS_MAX 256

struct addrs {
    size_t n;
    struct {
        uint8_t address[16]; /* IPv4 as mapped IPv6 */
        unsigned bits;
    } nets[ADDRS_MAX];
};

/* Adds one: "192.0.2.1", "192.0.2.0/24", "2001:db8::/32". 0; -EINVAL: none; -ENOSPC: too many. */
must_check int addrs_add(struct addrs *a, const char *word);
/* An address in digits (mapped IPv4 is IPv4); what is none is not among them. */
bool addrs_have(const struct addrs *a, const char *address);
