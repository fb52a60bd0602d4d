// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Carries bytes between two streams, both ways, until both have ended: back-pressure, half-close,
 * counters. Keeps no buffer. */

#include "stream/stream.h"

struct stream_relay;

enum stream_side { STREAM_A, STREAM_B };

struct stream_relay_stats {
    uint64_t bytes[2];      /* read from A, from B */
    int64_t first_us[2];    /* clock_us() of the first byte from A, from B; 0: none yet */
    enum stream_side ended; /* who ended first (meaning only in done) */
};

/* Called once, when both sides have ended or one has failed (why->code is then not 0) or the time
 * after a half-close is over. Both streams are given up (what was queued is still sent); the owner
 * frees the relay, then or later. */
typedef void stream_relay_fn(void *owner, const struct stream_relay_stats *stats,
                             const struct qvd_error *why);

/* Takes over both streams, also on failure. half_close_ms: how long one direction may stay open
 * and silent after the other has ended (0: for ever). 0, -ENOMEM. */
must_check int stream_relay_start(struct ev_loop *loop, struct stream *a, struct stream *b,
                                  uint64_t half_close_ms, stream_relay_fn *done, void *owner,
                                  struct stream_relay **ret_relay);
/* Cuts both at once. NULL-safe, always NULL. */
struct stream_relay *stream_relay_free(struct stream_relay *r);
const struct stream_relay_stats *stream_relay_stats(const struct stream_relay *r);
/* Gives up both sides in good order: done follows with why->code = reason. */
void stream_relay_end(struct stream_relay *r, int reason, const char *text);
