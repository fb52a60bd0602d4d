// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* One end of what is tested, with what has happened to it, and a loop to turn. */

#include "base/buf.h"
#include "stream/stream.h"
#include "stream/tls.h"

/* events, in their order: o open, e eof, d drained, h hangup, v verify, c closed. */
struct end {
    struct stream *s;
    struct buf got;
    char events[64];
    struct qvd_error why;
    struct tls_peer peer;
    int accept; /* answer to verify; -1: none yet */
    bool free_on_data;
};

extern struct ev_loop *loop;
extern const struct stream_handlers handlers;

void turns(int n);
void end_done(struct end *e);
void pair(int fds[2]);

/* Of the group of tests. */
int setup(void **state);
int teardown(void **state);
