// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

#include "ends.h"

struct ev_loop *loop;

static void note(struct end *e, char c)
{
    size_t n = strlen(e->events);

    if (n + 1 < sizeof e->events)
        e->events[n] = c;
}

static void on_open(void *o)
{
    note(o, 'o');
}
static void on_data(void *o, const uint8_t *data, size_t len)
{
    struct end *e = o;

    assert_int_equal(buf_append(&e->got, data, len), 0);
    if (e->free_on_data)
        e->s = stream_free(e->s);
}
static void on_eof(void *o)
{
    note(o, 'e');
}
static void on_drained(void *o)
{
    note(o, 'd');
}
static void on_hangup(void *o)
{
    note(o, 'h');
}
static void on_verify(void *o, const struct tls_peer *peer)
{
    struct end *e = o;

    note(e, 'v');
    e->peer = *peer;
    if (e->accept >= 0)
        stream_tls_accept(e->s, e->accept);
}
static void on_closed(void *o, const struct qvd_error *why)
{
    struct end *e = o;

    note(e, 'c');
    e->why = *why;
}

const struct stream_handlers handlers = {
    .open = on_open,
    .data = on_data,
    .eof = on_eof,
    .drained = on_drained,
    .hangup = on_hangup,
    .verify = on_verify,
    .closed = on_closed,
};

void turns(int n)
{
    for (int i = 0; i < n; i++)
        ev_loop_turn(loop, false);
}

void end_done(struct end *e)
{
    e->s = stream_free(e->s);
    buf_done(&e->got);
}

void pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

int setup(void **state)
{
    return ev_loop_new(&loop);
}

int teardown(void **state)
{
    turns(3);
    loop = ev_loop_free(loop);
    return 0;
}
