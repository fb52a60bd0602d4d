// SPDX-License-Identifier: GPL-3.0-or-later
/* The server's end: requests one after the other, each with its time limits. Answers are in
 * server-answer.c. */
#include "http/server.h"

#include <string.h>

#include "http/server-internal.h"

const struct http_server_limits http_server_limits_default = {
    .head_ms = 10000, .first_ms = 10000, .idle_ms = 60000, .send_ms = 30000};

static void process(struct http_server *c);

static void hold(struct http_server *c)
{
    c->depth++;
}

static void release(struct http_server *c)
{
    if (--c->depth == 0 && c->freed)
        free(c);
}

static void arm(struct http_server *c, uint64_t ms)
{
    if (ms)
        ev_timer_arm(c->timer, ms);
    else
        ev_timer_disarm(c->timer);
}

/* The connection is over; told at the end of the turn. */
void http_server_die(struct http_server *c, int code, const char *text)
{
    if (c->state == SERVER_DEAD)
        return;
    c->state = SERVER_DEAD;
    qvd_error_set(&c->why, code, "%s", text);
    ev_timer_disarm(c->timer);
    ev_defer(c->loop, &c->later);
}

/* Answers what is no proper request, and closes. */
static void reject(struct http_server *c, int status, const char *why)
{
    c->close_after = true;
    if (http_server_answer_text(c, status, why) < 0)
        http_server_die(c, -EPIPE, why);
}

/* Between requests: the next byte is awaited, or the peer has still to take the last answer. */
static void rest(struct http_server *c)
{
    if (stream_queued(c->stream) > 0)
        arm(c, c->limits.send_ms);
    else
        arm(c, c->served ? c->limits.idle_ms : c->limits.first_ms);
}

static size_t head_max(const struct http_server *c)
{
    return c->limits.head_max ? c->limits.head_max : HTTP_HEAD_MAX;
}

static void update_reading(struct http_server *c)
{
    /* As much as a head may wait behind a request that is being answered. */
    bool on = c->in.len < head_max(c) && !(c->state == SERVER_BODY && c->body_paused);

    stream_watch_hangup(c->stream, !on);
    stream_set_reading(c->stream, on);
}

static void gone(struct http_server *c, const struct qvd_error *why)
{
    bool waiting = c->state == SERVER_PENDING && c->ops->hangup;

    if (c->state == SERVER_DEAD)
        return;
    if (!waiting) {
        http_server_die(c, why->code, why->text);
        return;
    }
    c->state = SERVER_DEAD;
    c->why = *why;
    ev_timer_disarm(c->timer);
    c->told = true;
    c->ops->hangup(c->owner);
}

/* --- a request's parts ------------------------------------------------------------------------ */

static int64_t allowed_body(struct http_server *c)
{
    return c->ops->head ? c->ops->head(c->owner, c->head) : (int64_t)c->limits.body_max;
}

static void give_request(struct http_server *c)
{
    char *body = (char *)"";

    c->state = SERVER_PENDING;
    ev_timer_disarm(c->timer);
    if (c->body.len > 0) {
        body = buf_cstr(&c->body);
        if (!body) {
            http_server_die(c, -ENOMEM, "out of memory");
            return;
        }
    }
    c->ops->request(c->owner, c->head, body, c->body.len);
    /* Also of a later request he decides whether anybody waits for it. */
    if (!c->freed && c->half_closed && c->state == SERVER_PENDING && !c->ops->half_closed(c->owner))
        gone(c, &(struct qvd_error){0, "the peer closed the connection"});
}

/* The head is there: is its body wanted? */
static void begin_body(struct http_server *c)
{
    bool has_body = c->head->chunked || c->head->content_length > 0;

    c->state = SERVER_BODY; /* so that the owner may answer at once */
    http_body_init(&c->decoder, c->head);
    int64_t max = allowed_body(c);
    if (c->freed || c->state == SERVER_DEAD)
        return;
    if (c->state != SERVER_BODY) {
        /* Answered from the head alone: a body that follows cannot be told from a request. */
        if (has_body)
            http_server_die(c, 0, "answered before its body");
        return;
    }
    c->streamed = max < 0;
    if (max >= 0 && c->head->content_length > max) {
        reject(c, 413, "The body is too large.");
        return;
    }
    buf_done(&c->body);
    buf_init(&c->body, max > 0 ? max : 1);
    if (c->head->chunked && max == 0)
        reject(c, 413, "No body is expected here.");
    else if (has_body && c->head->expect_continue && c->in.len == 0 &&
             http_server_interim(c, 100, NULL, NULL) < 0)
        http_server_die(c, -EPIPE, "sending");
}

static void read_head(struct http_server *c)
{
    const char *why = "";
    ssize_t n = http_head_length(c->in.data, c->in.len, head_max(c));

    if (n == -EBADMSG) {
        reject(c, 400, "Bad Request: a CR without LF");
        return;
    }
    if (n < 0) {
        reject(c, 431, "The head of the request is too large.");
        return;
    }
    if (n == 0) {
        if (c->half_closed)
            http_server_die(c, -ECONNRESET, "the peer closed the connection");
        return;
    }
    c->head = http_head_free(c->head);
    int status = http_head_parse(HTTP_REQUEST, c->in.data, n, &c->head, &why);
    buf_consume(&c->in, n);
    if (status < 0) {
        http_server_die(c, status, "out of memory");
    } else if (status > 0) {
        char text[128];
        snprintf(text, sizeof text, "%s: %s", http_reason(status), why);
        reject(c, status, text);
    } else {
        begin_body(c);
    }
}

/* One piece; false when it must wait for more. */
static bool read_body(struct http_server *c)
{
    size_t len = 0;

    if (c->body_paused)
        return false;
    int r = http_body_next(&c->decoder, &c->in, &len);
    if (r < 0) {
        reject(c, 400, "The body is not well formed.");
    } else if (r == 2) {
        give_request(c);
    } else if (r == 1 && c->streamed) {
        /* A large upload may take long, but not stand still. */
        arm(c, c->limits.head_ms);
        c->ops->body(c->owner, c->in.data, len);
        if (!c->freed)
            buf_consume(&c->in, len);
    } else if (r == 1) {
        r = buf_append(&c->body, c->in.data, len);
        buf_consume(&c->in, len);
        if (r == -ENOBUFS)
            reject(c, 413, "The body is too large.");
        else if (r < 0)
            http_server_die(c, r, "out of memory");
        else
            r = 1;
    }
    return r != 0;
}

static void process(struct http_server *c)
{
    bool more = true;

    hold(c);
    while (more && !c->freed) {
        more = false;
        switch (c->state) {
        case SERVER_IDLE:
            /* The next one waits until the peer has taken most of the last answer. */
            if (c->in.len > 0 && !stream_congested(c->stream)) {
                c->state = SERVER_HEAD;
                arm(c, c->limits.head_ms);
                more = true;
            } else {
                c->head = http_head_free(c->head);
                rest(c);
            }
            break;
        case SERVER_HEAD:
            read_head(c);
            more = !c->freed && c->state != SERVER_HEAD;
            break;
        case SERVER_BODY:
            more = read_body(c);
            break;
        case SERVER_PENDING:
        case SERVER_ANSWERING:
        case SERVER_DEAD:
            break;
        }
    }
    if (!c->freed && c->stream)
        update_reading(c);
    release(c);
}

/* --- the stream's events ------------------------------------------------------------------------
 */

static void on_data(void *owner, const uint8_t *data, size_t len)
{
    struct http_server *c = owner;

    if (c->state == SERVER_DEAD)
        return;
    if (buf_append(&c->in, data, len) < 0) {
        http_server_die(c, -ENOMEM, "out of memory");
        return;
    }
    process(c);
}

static void on_eof(void *owner)
{
    struct http_server *c = owner;
    struct qvd_error why = {0, "the peer closed the connection"};

    if (c->state == SERVER_ANSWERING) {
        c->close_after = true; /* it may still be reading; if not, sending tells */
        return;
    }
    if (c->state == SERVER_PENDING && c->ops->half_closed && c->ops->half_closed(c->owner)) {
        c->half_closed = true;
        return;
    }
    if (c->state == SERVER_HEAD || c->state == SERVER_BODY)
        why.code = -ECONNRESET;
    gone(c, &why);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    gone(owner, why);
}

static void on_flushed(void *owner)
{
    struct http_server *c = owner;

    if (c->state == SERVER_IDLE)
        process(c);
}

static void on_drained(void *owner)
{
    struct http_server *c = owner;

    if (c->state == SERVER_IDLE)
        process(c);
    else if (c->state == SERVER_ANSWERING && c->writable)
        c->writable(c->owner);
}

static void on_open(void *owner)
{
    struct http_server *c = owner;

    if (c->state == SERVER_IDLE)
        rest(c);
}

static const struct stream_handlers stream_handlers = {
    .open = on_open,
    .data = on_data,
    .eof = on_eof,
    .hangup = on_eof,
    .drained = on_drained,
    .flushed = on_flushed,
    .closed = on_closed,
};

static void on_timer(void *arg)
{
    struct http_server *c = arg;

    hold(c);
    /* Who does not take what he was answered is not told anything more. */
    if (c->state == SERVER_ANSWERING || stream_queued(c->stream) > 0)
        http_server_die(c, -ETIMEDOUT, "the peer did not take its answer");
    else if (c->state == SERVER_HEAD || c->state == SERVER_BODY)
        reject(c, 408, "The request took too long.");
    else
        http_server_die(c, 0, "idle");
    release(c);
}

static void on_later(void *arg)
{
    struct http_server *c = arg;

    hold(c);
    if (c->state != SERVER_DEAD) {
        process(c);
    } else if (!c->told) {
        c->told = true;
        c->ops->closed(c->owner, &c->why);
    }
    release(c);
}

int http_server_new(struct ev_loop *loop, struct stream *s, const struct http_server_limits *limits,
                    const struct http_server_ops *ops, void *owner, struct http_server **ret_server)
{
    struct http_server *c = calloc(1, sizeof *c);

    if (!c || ev_timer_new(loop, on_timer, c, &c->timer) < 0) {
        free(c);
        stream_free(s);
        return -ENOMEM;
    }
    c->loop = loop;
    c->stream = s;
    c->limits = limits ? *limits : http_server_limits_default;
    c->ops = ops;
    c->owner = owner;
    buf_init(&c->in, 0);
    buf_init(&c->body, 0);
    ev_deferred_init(&c->later, on_later, c);
    /* The answer's size is the owner's affair; the peer must take it in send_ms. */
    stream_set_marks(s, 64 * 1024, 16 * 1024, 0);
    stream_set_handlers(s, &stream_handlers, c);
    if (stream_is_open(s))
        rest(c);
    *ret_server = c;
    return 0;
}

struct http_server *http_server_free(struct http_server *c)
{
    if (!c || c->freed)
        return NULL;
    c->freed = true;
    ev_deferred_cancel(&c->later);
    c->timer = ev_timer_free(c->timer);
    c->stream = stream_free_flushed(c->stream, 0);
    c->head = http_head_free(c->head);
    buf_done(&c->in);
    buf_done(&c->body);
    if (c->depth == 0)
        free(c);
    return NULL;
}

struct stream *http_server_stream(struct http_server *c)
{
    return c->stream;
}

void http_server_set_idle(struct http_server *c, uint64_t ms)
{
    c->limits.idle_ms = ms;
    if (c->state == SERVER_IDLE && c->served && c->in.len == 0)
        rest(c);
}

void http_server_close_after(struct http_server *c)
{
    c->close_after = true;
}

bool http_server_pending(const struct http_server *c)
{
    return c->state == SERVER_PENDING;
}

void http_server_pause_body(struct http_server *c, bool pause)
{
    if (c->body_paused == pause)
        return;
    c->body_paused = pause;
    if (pause)
        ev_timer_disarm(c->timer);
    else if (c->state == SERVER_BODY)
        arm(c, c->limits.head_ms);
    ev_defer(c->loop, &c->later);
}
