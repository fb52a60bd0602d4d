// SPDX-License-Identifier: GPL-3.0-or-later
/* What a stream sends: straight to the kernel while it takes it, else by a queue with marks; cuts
 * where a TLS record must end. */
#include "stream/stream-internal.h"

#define RECORD_MAX 16384

static size_t next_chunk(const struct stream *s, size_t len)
{
    if (s->n_cuts > 0 && s->cuts[0] < len)
        len = s->cuts[0];
    return len;
}

static void consumed(struct stream *s, size_t n)
{
    uint8_t kept = 0;

    buf_consume(&s->out, n);
    for (uint8_t i = 0; i < s->n_cuts; i++)
        if (s->cuts[i] > n)
            s->cuts[kept++] = s->cuts[i] - n;
    s->n_cuts = kept;
}

void stream_finish_now(struct stream *s)
{
    int r = s->ops->finish(s);

    if (r == -EAGAIN)
        return;
    s->finished = true;
    /* ENOTCONN: the peer has gone; reading will tell. */
    if (r < 0 && r != -ENOTCONN && r != -EPIPE)
        stream_fail_errno(s, r, "closing");
}

bool stream_waiting(const struct stream *s)
{
    return s->out.len > 0 || s->cipher_out;
}

static void after_flush(struct stream *s)
{
    bool drained = s->congested && stream_queued(s) <= s->low;

    if (drained)
        s->congested = false;
    if (!stream_waiting(s) && s->finishing && !s->finished)
        stream_finish_now(s);
    if (drained)
        STREAM_CALL(s, drained);
    if (stream_usable(s) && !stream_waiting(s))
        STREAM_CALL(s, flushed);
}

void stream_flush(struct stream *s)
{
    ssize_t n = 0;

    if (!stream_waiting(s) && !s->finishing)
        return;
    while (s->out.len > 0) {
        n = s->ops->write(s, s->out.data, next_chunk(s, s->out.len));
        if (n < 0)
            break;
        consumed(s, n);
    }
    if (n >= 0)
        n = s->ops->flush(s);
    if (n < 0 && n != -EAGAIN) {
        stream_fail_errno(s, n, "sending");
        return;
    }
    after_flush(s);
}

/* What the kernel takes at once: bytes, or -errno. */
static ssize_t write_direct(struct stream *s, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = s->ops->write(s, data + done, len - done);
        if (n == -EAGAIN)
            break;
        if (n < 0)
            return n;
        done += n;
    }
    return done;
}

int stream_write(struct stream *s, const void *data, size_t len)
{
    ssize_t done = 0;

    if (s->state == STREAM_DEAD || s->finishing)
        return -EPIPE;
    if (s->limit && (len > s->limit || stream_queued(s) > s->limit - len))
        return -ENOBUFS;
    if (s->state == STREAM_OPEN && !stream_waiting(s))
        done = write_direct(s, data, len);
    if (done < 0) {
        stream_fail_errno(s, done, "sending");
        return -EPIPE;
    }
    if ((size_t)done == len && !s->cipher_out)
        return 0;
    int r = buf_append(&s->out, (const uint8_t *)data + done, len - done);
    if (r < 0) {
        /* A part may have gone out: the rest cannot be left out. */
        stream_fail_errno(s, r, "sending");
        return r;
    }
    if (stream_queued(s) > s->high)
        s->congested = true;
    stream_update(s);
    return 0;
}

static must_check int cut(struct stream *s)
{
    if (s->out.len == 0 || (s->n_cuts > 0 && s->cuts[s->n_cuts - 1] == s->out.len))
        return 0;
    if (s->n_cuts == STREAM_CUTS_MAX)
        return -ENOBUFS;
    s->cuts[s->n_cuts++] = s->out.len;
    return 0;
}

int stream_write_record(struct stream *s, const void *data, size_t len)
{
    if (len > RECORD_MAX || s->n_cuts + 2 > STREAM_CUTS_MAX)
        return -ENOBUFS;
    int r = cut(s);
    if (r >= 0)
        r = stream_write(s, data, len);
    if (r >= 0)
        r = cut(s);
    return r;
}

void stream_finish(struct stream *s)
{
    if (s->finishing || s->state == STREAM_DEAD)
        return;
    s->finishing = true;
    if (s->state == STREAM_OPEN && !stream_waiting(s))
        stream_finish_now(s);
    stream_update(s);
}
