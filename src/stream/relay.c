// SPDX-License-Identifier: GPL-3.0-or-later
/* The relay: what one side brings is written to the other at once; what the other cannot take waits
 * in its queue, and the first is read no further until that has drained. */
#include "stream/relay.h"

#include "base/clock.h"

#define LINGER_MS 5000

struct side {
    struct stream_relay *relay;
    struct stream *stream;
    bool ended; /* sends no more */
};

struct stream_relay {
    struct ev_loop *loop;
    struct side sides[2];
    struct ev_timer *timer; /* only after a half-close */
    uint64_t half_close_ms, progress;
    stream_relay_fn *done;
    void *owner;
    struct stream_relay_stats stats;
    struct ev_deferred later;
    struct qvd_error *why; /* of an end that is about to be told */
    bool over;
};

static enum stream_side which(const struct side *side)
{
    return side == &side->relay->sides[STREAM_A] ? STREAM_A : STREAM_B;
}

static struct side *other(struct side *side)
{
    return &side->relay->sides[!which(side)];
}

/* Tells the owner, who may free the relay: nothing may be touched after it. */
static void end(struct stream_relay *r, const struct qvd_error *why)
{
    if (r->over)
        return;
    r->over = true;
    r->timer = ev_timer_free(r->timer);
    ev_deferred_cancel(&r->later);
    for (int i = 0; i < 2; i++)
        r->sides[i].stream = stream_free_flushed(r->sides[i].stream, LINGER_MS);
    /* Copies: what the owner looks at outlives the relay that he frees. */
    struct stream_relay_stats stats = r->stats;
    struct qvd_error reason = *why;
    r->done(r->owner, &stats, &reason);
}

/* What changes as long as bytes move: read so far and waiting. */
static uint64_t progress(const struct stream_relay *r)
{
    return r->stats.bytes[0] + r->stats.bytes[1] - stream_queued(r->sides[0].stream) -
           stream_queued(r->sides[1].stream);
}

static void end_of_half_close(void *arg)
{
    static const struct qvd_error why = {-ETIMEDOUT, "the other direction stayed open too long"};
    struct stream_relay *r = arg;
    uint64_t now = progress(r);

    if (now == r->progress) {
        end(r, &why);
        return;
    }
    r->progress = now;
    ev_timer_arm(r->timer, r->half_close_ms);
}

static void on_data(void *owner, const uint8_t *data, size_t len)
{
    struct side *from = owner, *to = other(from);
    struct stream_relay *r = from->relay;
    enum stream_side n = which(from);

    if (!r->stats.first_us[n])
        r->stats.first_us[n] = clock_us();
    r->stats.bytes[n] += len;
    /* A failed write is told by the other stream's closed(). */
    if (stream_write(to->stream, data, len) < 0 || stream_congested(to->stream))
        stream_set_reading(from->stream, false);
}

static void on_drained(void *owner)
{
    struct side *to = owner;

    stream_set_reading(other(to)->stream, true);
}

static void on_eof(void *owner)
{
    static const struct qvd_error good = {0, ""};
    struct side *from = owner;
    struct stream_relay *r = from->relay;

    from->ended = true;
    if (other(from)->ended) {
        end(r, &good);
        return;
    }
    r->stats.ended = which(from);
    stream_finish(other(from)->stream);
    if (r->half_close_ms && !r->timer &&
        ev_timer_new(r->loop, end_of_half_close, r, &r->timer) >= 0) {
        r->progress = progress(r);
        ev_timer_arm(r->timer, r->half_close_ms);
    }
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct side *side = owner;
    struct stream_relay *r = side->relay;

    if (!other(side)->ended)
        r->stats.ended = which(side);
    end(r, why);
}

static const struct stream_handlers handlers = {
    .data = on_data, .drained = on_drained, .eof = on_eof, .closed = on_closed};

static void on_later(void *arg)
{
    static const struct qvd_error no_memory = {-ENOMEM, "out of memory"};
    struct stream_relay *r = arg;
    struct qvd_error why = r->why ? *r->why : no_memory;

    end(r, &why);
}

int stream_relay_start(struct ev_loop *loop, struct stream *a, struct stream *b,
                       uint64_t half_close_ms, stream_relay_fn *done, void *owner,
                       struct stream_relay **ret_relay)
{
    struct stream_relay *r = calloc(1, sizeof *r);

    if (!r) {
        stream_free(a);
        stream_free(b);
        return -ENOMEM;
    }
    r->loop = loop;
    r->half_close_ms = half_close_ms;
    r->done = done;
    r->owner = owner;
    ev_deferred_init(&r->later, on_later, r);
    r->sides[STREAM_A] = (struct side){.relay = r, .stream = a};
    r->sides[STREAM_B] = (struct side){.relay = r, .stream = b};
    for (int i = 0; i < 2; i++) {
        struct side *side = &r->sides[i];
        stream_set_handlers(side->stream, &handlers, side);
        stream_set_reading(side->stream, !stream_congested(other(side)->stream));
    }
    *ret_relay = r;
    return 0;
}

void stream_relay_end(struct stream_relay *r, int reason, const char *text)
{
    if (r->over)
        return;
    free(r->why);
    r->why = malloc(sizeof *r->why);
    if (r->why)
        qvd_error_set(r->why, reason, "%s", text);
    ev_defer(r->loop, &r->later);
}

struct stream_relay *stream_relay_free(struct stream_relay *r)
{
    if (r) {
        ev_deferred_cancel(&r->later);
        ev_timer_free(r->timer);
        for (int i = 0; i < 2; i++)
            stream_free(r->sides[i].stream);
        free(r->why);
        free(r);
    }
    return NULL;
}

const struct stream_relay_stats *stream_relay_stats(const struct stream_relay *r)
{
    return &r->stats;
}
