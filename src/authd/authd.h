// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The queue of qvd-authd: takes questions, slows guessing down, looks accounts up, and hashes one
 * password at a time, between the turns of the loop.
 *
 * Knows nothing of processes and descriptors: main.c gives it the channel. */

#include "conf/conf.h"
#include "db/db.h"
#include "ev/ev.h"

struct authd;

/* Takes over fd (also on failure); conf and db must outlive it. closed: the asker has gone.
 * 0 or -errno. */
must_check int authd_new(struct ev_loop *loop, struct conf *conf, struct db *db, int fd,
                         void (*closed)(void *arg, int reason), void *arg,
                         struct authd **ret_authd);
struct authd *authd_free(struct authd *d);
