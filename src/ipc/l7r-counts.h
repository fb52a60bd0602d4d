// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* How many connections an address has at all workers together: memory that they share. Each process
 * counts in a region of its own, which the master clears when the process has ended, however that
 * came. Two cells an address, found by a keyed hash; the lower sum counts, so that a stranger with
 * the same cell does not (never fewer than there are; more only where two addresses share both). */

#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

#define L7R_COUNTS_REGIONS 256

struct l7r_counts;

/* Made by the master: the descriptor stays its own. 0 or -errno. */
must_check int l7r_counts_new(struct l7r_counts **ret_counts, int *ret_fd);
/* In a worker; the descriptor is not needed afterwards. 0, -EBADMSG (not such memory), -errno. */
must_check int l7r_counts_open(int fd, struct l7r_counts **ret_counts);
/* NULL-safe, always NULL. */
struct l7r_counts *l7r_counts_free(struct l7r_counts *c);

/* One more of that address in one's own region: how many there are now, in all regions. */
unsigned l7r_counts_enter(struct l7r_counts *c, unsigned region, const char *address);
void l7r_counts_leave(struct l7r_counts *c, unsigned region, const char *address);

/* Master: a free region, or -ENOSPC; given back and cleared. */
must_check int l7r_counts_take_region(struct l7r_counts *c);
void l7r_counts_give_region(struct l7r_counts *c, unsigned region);
