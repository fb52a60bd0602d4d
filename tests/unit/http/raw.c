// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

#include "raw.h"

struct ev_loop *loop;

void turns(int n)
{
    for (int i = 0; i < n; i++)
        ev_loop_turn(loop, false);
}

static void on_raw_data(void *owner, const uint8_t *data, size_t len)
{
    struct raw *r = owner;

    assert_int_equal(buf_append(&r->raw_bytes, data, len), 0);
}

static const struct stream_handlers raw_handlers = {.data = on_raw_data};

static void on_request(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct raw *r = owner;
    const struct http_header key = {"X-QVD-Slave-Key", "k"};

    assert_int_equal(strlen(body), len);
    assert_int_equal(buf_printf(&r->seen, "%s %s %s;", head->method, head->target, body), 0);
    if (r->mode == ANSWER_NOW)
        assert_int_equal(http_server_answer_text(r->server, 200, head->target), 0);
    if (r->mode == ANSWER_UPGRADE) {
        assert_int_equal(http_server_upgrade(r->server, "QVD/1.0", &key, 1, &r->upgraded), 0);
        r->server = NULL;
        stream_set_handlers(r->upgraded, &raw_handlers, r);
        stream_set_reading(r->upgraded, true);
    }
}

static int64_t on_head(void *owner, const struct http_head *head)
{
    struct raw *r = owner;

    if (r->mode == ANSWER_HEAD)
        assert_int_equal(http_server_answer_text(r->server, 401, "no"), 0);
    return r->body_max;
}

static void on_body(void *owner, const uint8_t *data, size_t len)
{
    struct raw *r = owner;

    assert_int_equal(buf_append(&r->streamed, data, len), 0);
}

static void on_hangup(void *owner)
{
    ((struct raw *)owner)->hangups++;
}

static bool on_half_closed(void *owner)
{
    return ((struct raw *)owner)->reads_on;
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct raw *r = owner;

    r->closes++;
    r->close_code = why->code;
    r->server = http_server_free(r->server);
}

const struct http_server_ops raw_ops = {.request = on_request,
                                        .head = on_head,
                                        .body = on_body,
                                        .hangup = on_hangup,
                                        .half_closed = on_half_closed,
                                        .closed = on_closed};

void raw_start(struct raw *r, const struct http_server_limits *limits)
{
    struct stream *s;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    r->fd = fds[1];
    assert_int_equal(stream_new(loop, fds[0], NULL, 0, NULL, NULL, &s), 0);
    assert_int_equal(http_server_new(loop, s, limits, &raw_ops, r, &r->server), 0);
    turns(1);
}

void raw_send(struct raw *r, const char *text, size_t piece)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i += piece) {
        size_t n = len - i < piece ? len - i : piece;
        assert_int_equal(send(r->fd, text + i, n, MSG_NOSIGNAL), n);
        turns(2);
    }
    turns(3);
}

/* What has come so far; "EOF" is appended when the server has ended. */
const char *raw_got(struct raw *r)
{
    char bytes[65536];
    ssize_t n;

    turns(3);
    while ((n = recv(r->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        assert_int_equal(buf_append(&r->got, bytes, n), 0);
        turns(2);
    }
    if (n == 0)
        assert_int_equal(buf_append_str(&r->got, "EOF"), 0);
    char *s = buf_cstr(&r->got);
    return s;
}

void raw_done(struct raw *r)
{
    r->server = http_server_free(r->server);
    stream_free(r->upgraded);
    close(r->fd);
    turns(4);
    buf_done(&r->got);
    buf_done(&r->seen);
    buf_done(&r->streamed);
    buf_done(&r->raw_bytes);
}

const char *seen(struct raw *r)
{
    return buf_cstr(&r->seen);
}
