// SPDX-License-Identifier: GPL-3.0-or-later
/* The client's end: one request, its interim answers, its answer. */
#include "http/client.h"

#include <string.h>

#include "http/body-internal.h"

enum client_state {
    CLIENT_IDLE,
    CLIENT_WAITING, /* for a head */
    CLIENT_BODY,
    CLIENT_SPENT, /* the stream has been given away */
    CLIENT_DEAD,
};

struct http_client {
    struct ev_loop *loop;
    struct stream *stream;
    struct ev_timer *timer;
    const struct http_client_ops *ops;
    void *owner;
    size_t body_max;
    uint64_t timeout_ms, to_write;
    struct buf in, body;
    struct http_head *head;
    struct http_body decoder;
    struct ev_deferred later;
    struct qvd_error why;
    enum client_state state;
    unsigned depth;
    bool head_only, until_end, told, freed;
};

static void hold(struct http_client *c)
{
    c->depth++;
}

static void release(struct http_client *c)
{
    if (--c->depth == 0 && c->freed)
        free(c);
}

static void die(struct http_client *c, int code, const char *text)
{
    if (c->state == CLIENT_DEAD || c->state == CLIENT_SPENT)
        return;
    c->state = CLIENT_DEAD;
    qvd_error_set(&c->why, code, "%s", text);
    ev_timer_disarm(c->timer);
    ev_defer(c->loop, &c->later);
}

static void arm(struct http_client *c)
{
    if (c->timeout_ms)
        ev_timer_arm(c->timer, c->timeout_ms);
    else
        ev_timer_disarm(c->timer);
}

static void upgrade(struct http_client *c)
{
    struct stream *s = c->stream;

    if (!c->ops->upgraded) {
        die(c, -EPROTO, "the server switched protocols unasked");
        return;
    }
    ev_timer_disarm(c->timer);
    stream_set_reading(s, false);
    if (stream_unread(s, c->in.data, c->in.len) < 0) {
        die(c, -ENOMEM, "out of memory");
        return;
    }
    buf_done(&c->in);
    c->stream = NULL;
    c->state = CLIENT_SPENT;
    stream_set_handlers(s, NULL, NULL);
    c->ops->upgraded(c->owner, c->head, s);
}

static void finish(struct http_client *c)
{
    char *body = (char *)"";

    if (c->body.len > 0) {
        body = buf_cstr(&c->body);
        if (!body) {
            die(c, -ENOMEM, "out of memory");
            return;
        }
    }
    /* Taken out, as the owner may make the next request from inside. */
    struct http_head *head = TAKE_PTR(c->head);
    struct buf kept = c->body;
    buf_init(&c->body, 0);
    c->state = CLIENT_IDLE;
    ev_timer_disarm(c->timer);
    if (head->close || c->until_end || c->to_write > 0)
        die(c, 0, "the server closes after its answer");
    c->ops->answer(c->owner, head, body, kept.len);
    http_head_free(head);
    buf_done(&kept);
}

static void begin_body(struct http_client *c)
{
    struct http_head *h = c->head;

    if (h->status == 101) {
        upgrade(c);
        return;
    }
    if (h->status < 200) {
        arm(c);
        if (c->ops->interim)
            c->ops->interim(c->owner, h);
        return;
    }
    c->until_end = false;
    http_body_init(&c->decoder, h);
    if (c->head_only || h->status == 204 || h->status == 304) {
        c->decoder.state = BODY_DONE;
    } else if (!h->chunked && h->content_length < 0) {
        c->until_end = true;
        c->decoder = (struct http_body){.state = BODY_LENGTH, .left = UINT64_MAX};
    }
    if (h->content_length > 0 && (uint64_t)h->content_length > c->body_max && !c->head_only) {
        die(c, -EMSGSIZE, "the answer is too large");
        return;
    }
    buf_done(&c->body);
    buf_init(&c->body, c->body_max ? c->body_max : 1);
    c->state = CLIENT_BODY;
}

static bool read_head(struct http_client *c)
{
    const char *why = "";
    ssize_t n = http_head_length(c->in.data, c->in.len, HTTP_HEAD_MAX);

    if (n < 0)
        die(c, -EPROTO,
            n == -E2BIG ? "the head of the answer is too large"
                        : "the answer is not HTTP/1.1: a CR without LF");
    if (n <= 0)
        return false;
    c->head = http_head_free(c->head);
    int r = http_head_parse(HTTP_ANSWER, c->in.data, n, &c->head, &why);
    if (r != 0) {
        char text[128];
        snprintf(text, sizeof text, "the answer is not HTTP/1.1: %s", why);
        die(c, r < 0 ? r : -EPROTO, r < 0 ? "out of memory" : text);
        return false;
    }
    buf_consume(&c->in, n);
    begin_body(c);
    return true;
}

static bool read_body(struct http_client *c)
{
    size_t len = 0;
    int r = http_body_next(&c->decoder, &c->in, &len);

    if (r < 0) {
        die(c, -EPROTO, "the body of the answer is not well formed");
    } else if (r == 2) {
        finish(c);
    } else if (r == 1) {
        r = buf_append(&c->body, c->in.data, len);
        buf_consume(&c->in, len);
        if (r < 0)
            die(c, r, r == -ENOBUFS ? "the answer is too large" : "out of memory");
        else
            r = 1;
    }
    return r > 0;
}

static void process(struct http_client *c)
{
    bool more = true;

    hold(c);
    while (more && !c->freed) {
        more = false;
        if (c->state == CLIENT_WAITING)
            more = read_head(c);
        else if (c->state == CLIENT_BODY)
            more = read_body(c);
        else if (c->state == CLIENT_IDLE && c->in.len > 0)
            die(c, -EPROTO, "the server sent what was not asked for");
    }
    release(c);
}

static void on_data(void *owner, const uint8_t *data, size_t len)
{
    struct http_client *c = owner;

    if (c->state == CLIENT_DEAD)
        return;
    if (buf_append(&c->in, data, len) < 0)
        die(c, -ENOMEM, "out of memory");
    else
        process(c);
}

static void on_eof(void *owner)
{
    struct http_client *c = owner;

    hold(c);
    if (c->state == CLIENT_BODY && c->until_end)
        finish(c);
    else if (c->state == CLIENT_IDLE)
        die(c, 0, "the server closed the connection");
    else
        die(c, -ECONNRESET, "the server closed the connection before its answer");
    release(c);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    die(owner, why->code, why->text);
}

static void on_writable(void *owner)
{
    struct http_client *c = owner;

    if (c->ops->writable && c->to_write > 0)
        c->ops->writable(c->owner);
}

static const struct stream_handlers stream_handlers = {
    .data = on_data,
    .eof = on_eof,
    .drained = on_writable,
    .closed = on_closed,
};

static void on_timer(void *arg)
{
    die(arg, -ETIMEDOUT, "the server did not answer in time");
}

static void on_later(void *arg)
{
    struct http_client *c = arg;

    hold(c);
    if (c->state == CLIENT_DEAD && !c->told) {
        c->told = true;
        c->ops->closed(c->owner, &c->why);
    }
    release(c);
}

int http_client_new(struct ev_loop *loop, struct stream *s, size_t body_max,
                    const struct http_client_ops *ops, void *owner, struct http_client **ret_client)
{
    struct http_client *c = calloc(1, sizeof *c);

    if (!c || ev_timer_new(loop, on_timer, c, &c->timer) < 0) {
        free(c);
        stream_free(s);
        return -ENOMEM;
    }
    c->loop = loop;
    c->stream = s;
    c->body_max = body_max;
    c->ops = ops;
    c->owner = owner;
    buf_init(&c->in, 0);
    buf_init(&c->body, 0);
    ev_deferred_init(&c->later, on_later, c);
    stream_set_handlers(s, &stream_handlers, c);
    *ret_client = c;
    return 0;
}

struct http_client *http_client_free(struct http_client *c)
{
    if (!c || c->freed)
        return NULL;
    c->freed = true;
    ev_deferred_cancel(&c->later);
    c->timer = ev_timer_free(c->timer);
    c->stream = stream_free(c->stream);
    c->head = http_head_free(c->head);
    buf_done(&c->in);
    buf_done(&c->body);
    if (c->depth == 0)
        free(c);
    return NULL;
}

struct stream *http_client_stream(struct http_client *c)
{
    return c->stream;
}

static bool line_ok(const char *s)
{
    return *s && !strchr(s, ' ') && http_value_ok(s);
}

static must_check int put_request(struct buf *out, const struct http_client_request *r)
{
    bool has_body =
        r->body_len > 0 || strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0;

    if (!line_ok(r->method) || !line_ok(r->target) || (r->host && !line_ok(r->host)))
        return -EINVAL;
    int e = buf_printf(out, "%s %s HTTP/1.1\r\n", r->method, r->target);
    if (e >= 0 && r->host)
        e = buf_printf(out, "Host: %s\r\n", r->host);
    if (e >= 0)
        e = http_put_headers(out, r->headers, r->n_headers);
    if (e >= 0 && has_body)
        e = buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)r->body_len);
    if (e >= 0)
        e = buf_append_str(out, "\r\n");
    if (e >= 0 && r->body)
        e = buf_append(out, r->body, r->body_len);
    return e;
}

int http_client_send(struct http_client *c, const struct http_client_request *r)
{
    struct buf out;

    if (c->state != CLIENT_IDLE)
        return c->state == CLIENT_DEAD || c->state == CLIENT_SPENT ? -EPIPE : -EBUSY;
    buf_init(&out, 0);
    int e = put_request(&out, r);
    if (e >= 0)
        e = stream_write(c->stream, out.data, out.len);
    if (out.len > 0)
        explicit_bzero(out.data, out.len); /* it may hold credentials */
    buf_done(&out);
    if (e < 0)
        return e;
    c->head_only = strcmp(r->method, "HEAD") == 0;
    c->to_write = r->body ? 0 : r->body_len;
    c->timeout_ms = r->timeout_ms;
    c->state = CLIENT_WAITING;
    arm(c);
    return 0;
}

int http_client_write(struct http_client *c, const void *data, size_t len)
{
    if ((c->state != CLIENT_WAITING && c->state != CLIENT_BODY) || len > c->to_write)
        return -EPIPE;
    int r = stream_write(c->stream, data, len);
    if (r < 0)
        return r;
    c->to_write -= len;
    arm(c);
    return 0;
}

bool http_client_reusable(const struct http_client *c)
{
    return c->state == CLIENT_IDLE && stream_is_open(c->stream);
}
