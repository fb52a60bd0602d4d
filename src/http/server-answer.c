// SPDX-License-Identifier: GPL-3.0-or-later
/* What a server's end sends: interim and final answers, Upgrade. Each head goes out in one write
 * with what belongs to it. */
#include <string.h>

#include "http/server-internal.h"
#include "http/server.h"

static bool awaited(const struct http_server *c)
{
    return c->state == SERVER_HEAD || c->state == SERVER_BODY || c->state == SERVER_PENDING;
}

int http_server_interim(struct http_server *c, int status, const char *name, const char *value)
{
    _cleanup_(buf_done_p) struct buf out = {0};
    struct http_header header = {name, value};

    if (!awaited(c))
        return -EPIPE;
    buf_init(&out, HTTP_HEAD_MAX);
    int r = buf_printf(&out, "HTTP/1.1 %d %s\r\n", status, http_reason(status));
    if (r >= 0)
        r = http_put_headers(&out, &header, name ? 1 : 0);
    if (r >= 0)
        r = buf_append_str(&out, "\r\n");
    return r < 0 ? r : stream_write(c->stream, out.data, out.len);
}

static must_check int put_head(struct http_server *c, struct buf *out, int status, const char *type,
                               const struct http_header *headers, size_t n, uint64_t len)
{
    int r = buf_printf(out, "HTTP/1.1 %d %s\r\n", status, http_reason(status));

    if (r >= 0 && type && http_value_ok(type))
        r = buf_printf(out, "Content-Type: %s\r\n", type);
    if (r >= 0 && status != 204 && status != 304)
        r = buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)len);
    if (r >= 0)
        r = http_put_headers(out, headers, n);
    if (r >= 0 && c->close_after)
        r = buf_append_str(out, "Connection: close\r\n");
    return r < 0 ? r : buf_append_str(out, "\r\n");
}

static bool head_only(const struct http_server *c)
{
    return c->head && strcmp(c->head->method, "HEAD") == 0;
}

/* The answer is complete: on to the next request, or the end. */
static void answered(struct http_server *c)
{
    c->served = true;
    c->writable = NULL;
    buf_done(&c->body);
    /* An answer before the end of its request's body: the rest is nothing we could read. */
    bool unread = c->state == SERVER_BODY && c->decoder.state != BODY_DONE;
    if (c->close_after || unread) {
        http_server_die(c, 0, "closed after the answer");
        return;
    }
    c->state = SERVER_IDLE;
    ev_defer(c->loop, &c->later);
}

static int give_up(struct http_server *c, int r)
{
    http_server_die(c, r, "the answer could not be sent");
    return r;
}

int http_server_answer(struct http_server *c, int status, const char *type,
                       const struct http_header *headers, size_t n, const void *body, size_t len)
{
    _cleanup_(buf_done_p) struct buf out = {0};
    bool no_body = status == 204 || status == 304;
    char reason[64];

    if (!awaited(c))
        return -EPIPE;
    if ((c->head && c->head->close) || (c->half_closed && c->in.len == 0))
        c->close_after = true;
    if (len == 0 && !no_body) {
        snprintf(reason, sizeof reason, "%s\r\n", http_reason(status));
        body = reason;
        len = strlen(reason);
        type = type ? type : "text/plain";
    }
    buf_init(&out, 0);
    int r = put_head(c, &out, status, type, headers, n, len);
    if (r >= 0 && !no_body && !head_only(c))
        r = buf_append(&out, body, len);
    if (r >= 0)
        r = stream_write(c->stream, out.data, out.len);
    if (r < 0)
        return give_up(c, r);
    answered(c);
    return 0;
}

int http_server_answer_text(struct http_server *c, int status, const char *text)
{
    _cleanup_(buf_done_p) struct buf body = {0};

    buf_init(&body, 0);
    int r = buf_printf(&body, "%s\r\n", text);
    if (r < 0)
        return give_up(c, r);
    return http_server_answer(c, status, "text/plain", NULL, 0, body.data, body.len);
}

int http_server_answer_begin(struct http_server *c, int status, const char *type,
                             const struct http_header *headers, size_t n, uint64_t len,
                             void (*writable)(void *owner))
{
    _cleanup_(buf_done_p) struct buf out = {0};

    if (!awaited(c))
        return -EPIPE;
    if (c->head && c->head->close)
        c->close_after = true;
    if (c->state == SERVER_BODY && c->decoder.state != BODY_DONE)
        c->close_after = true;
    buf_init(&out, 0);
    int r = put_head(c, &out, status, type, headers, n, len);
    if (r >= 0)
        r = stream_write(c->stream, out.data, out.len);
    if (r < 0)
        return give_up(c, r);
    c->state = SERVER_ANSWERING;
    c->writable = writable;
    c->to_write = len;
    if (c->limits.send_ms)
        ev_timer_arm(c->timer, c->limits.send_ms);
    if (len == 0)
        answered(c);
    return 0;
}

int http_server_write(struct http_server *c, const void *data, size_t len)
{
    if (c->state != SERVER_ANSWERING || len > c->to_write)
        return -EPIPE;
    int r = head_only(c) ? 0 : stream_write(c->stream, data, len);
    if (r < 0)
        return give_up(c, r);
    c->to_write -= len;
    if (c->limits.send_ms)
        ev_timer_arm(c->timer, c->limits.send_ms);
    if (c->to_write == 0)
        answered(c);
    return 0;
}

int http_server_upgrade(struct http_server *c, const char *protocol,
                        const struct http_header *headers, size_t n, struct stream **ret_stream)
{
    const struct http_header first[] = {
        {"Connection", "Upgrade"},
        {"Upgrade",    protocol }
    };
    _cleanup_(buf_done_p) struct buf out = {0};

    if (!awaited(c))
        return -EPIPE;
    buf_init(&out, HTTP_HEAD_MAX);
    int r = buf_append_str(&out, "HTTP/1.1 101 Switching Protocols\r\n");
    if (r >= 0)
        r = http_put_headers(&out, first, 2);
    if (r >= 0)
        r = http_put_headers(&out, headers, n);
    if (r >= 0)
        r = buf_append_str(&out, "\r\n");
    if (r < 0)
        return r;
    stream_set_reading(c->stream, false);
    stream_watch_hangup(c->stream, false);
    r = stream_unread(c->stream, c->in.data, c->in.len);
    if (r >= 0)
        r = stream_write_record(c->stream, out.data, out.len);
    if (r < 0)
        return r;
    *ret_stream = TAKE_PTR(c->stream);
    stream_set_handlers(*ret_stream, NULL, NULL);
    http_server_free(c);
    return 0;
}
