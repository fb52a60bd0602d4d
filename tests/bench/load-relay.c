// SPDX-License-Identifier: GPL-3.0-or-later
/* Bulk and round trips. What it costs the load tool must not be what is measured: the client
 * throws cipher text away unread (the bytes are counted where they come from, and each session's
 * first 60,000 were compared), the backend plain text likewise. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define PIECE (256 * 1024)
#define RECORD 16384
#define WAIT_MS 60000

struct side {
    uint64_t each, left, got; /* in all, to be sent, received */
    bool done;
};

static struct flow *open_all(const struct options *o, SSL_CTX *ctx)
{
    struct flow *flows = calloc(o->sessions, sizeof *flows);

    if (!flows)
        die("out of memory");
    for (size_t i = 0; i < o->sessions; i++) {
        flows[i] = net_session(o, ctx, i);
        fcntl(flows[i].fd, F_SETFL, O_NONBLOCK);
        fcntl(flows[i].backend, F_SETFL, O_NONBLOCK);
    }
    return flows;
}

/* Throws away what lies there; true at the end of the stream. */
static bool discard(int fd, uint64_t *got)
{
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(fd, NULL, 4 << 20, MSG_TRUNC);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            return true;
        *got += (uint64_t)n;
    }
    return false;
}

static void send_down(struct flow *f, struct side *s)
{
    static const char bytes[PIECE];

    while (s->left > 0) {
        size_t len = s->left < PIECE ? s->left : PIECE;
        ssize_t n = send(f->backend, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("the backend's connection broke: %s", strerror(errno));
        s->left -= (uint64_t)n;
    }
    shutdown(f->backend, SHUT_WR);
}

static void send_up(struct flow *f, struct side *s)
{
    static const char bytes[RECORD];

    while (s->left > 0) {
        int n = SSL_write(f->ssl, bytes, s->left < RECORD ? (int)s->left : RECORD);
        if (n <= 0 && SSL_get_error(f->ssl, n) == SSL_ERROR_WANT_WRITE)
            return;
        if (n <= 0)
            die("the client's connection broke");
        s->left -= (uint64_t)n;
    }
}

static void report(const struct options *o, const struct meter *m, uint64_t bytes)
{
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"cpu\": %.6f, \"load_cpu\": %.6f}\n",
           (double)m->wall / 1e9, (unsigned long long)bytes, (double)m->watched / 1e9,
           (double)m->own / 1e9);
}

/* One turn of a session whose bytes go from out to in. True once it is over. */
static bool turn(struct flow *f, struct side *s, bool up, const struct pollfd *out,
                 const struct pollfd *in)
{
    if (out->revents && s->left > 0)
        up ? send_up(f, s) : send_down(f, s);
    if (!in->revents)
        return false;
    bool end = discard(in->fd, &s->got);
    return up ? s->got >= s->each : end;
}

static void transfer(const struct options *o, bool up)
{
    SSL_CTX *ctx = net_context();
    struct flow *flows = open_all(o, ctx);
    struct side *sides = calloc(o->sessions, sizeof *sides);
    struct pollfd *p = calloc(o->sessions * 2, sizeof *p);
    uint64_t each = o->bytes / o->sessions;
    size_t open = o->sessions;

    if (!sides || !p)
        die("out of memory");
    for (size_t i = 0; i < o->sessions; i++) {
        sides[i].each = sides[i].left = each;
        p[2 * i].fd = up ? flows[i].fd : flows[i].backend;
        p[2 * i + 1] = (struct pollfd){.fd = up ? flows[i].backend : flows[i].fd, .events = POLLIN};
    }
    struct meter begin = meter_begin(o);
    while (open > 0) {
        for (size_t i = 0; i < o->sessions; i++)
            p[2 * i].events = sides[i].left > 0 ? POLLOUT : 0;
        if (poll(p, o->sessions * 2, WAIT_MS) <= 0)
            die("nothing moves any more");
        for (size_t i = 0; i < o->sessions; i++) {
            if (sides[i].done || !turn(&flows[i], &sides[i], up, &p[2 * i], &p[2 * i + 1]))
                continue;
            sides[i].done = true;
            p[2 * i].fd = p[2 * i + 1].fd = -1;
            open--;
        }
    }
    struct meter m = meter_end(o, begin);
    for (size_t i = 0; i < o->sessions; i++) {
        /* Cipher text is longer, by 22 bytes a record. */
        if (sides[i].got < each || (up && sides[i].got > each))
            die("session %zu: %llu of %llu bytes arrived", i, (unsigned long long)sides[i].got,
                (unsigned long long)each);
        net_close(&flows[i]);
    }
    report(o, &m, each * o->sessions);
    free(flows);
    free(sides);
    free(p);
    SSL_CTX_free(ctx);
}

void run_down(const struct options *o)
{
    transfer(o, false);
}

void run_up(const struct options *o)
{
    transfer(o, true);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void one_trip(struct flow *f)
{
    char out[100] = "ping", in[100];
    size_t got = 0;

    if (SSL_write(f->ssl, out, sizeof out) != sizeof out)
        die("the client could not send");
    if (recv(f->backend, in, sizeof in, MSG_WAITALL) != sizeof in ||
        send(f->backend, in, sizeof in, 0) != sizeof in)
        die("the backend's connection broke");
    while (got < sizeof in) {
        int n = SSL_read(f->ssl, in + got, (int)(sizeof in - got));
        if (n <= 0)
            die("the client's connection broke");
        got += (size_t)n;
    }
}

void run_rtt(const struct options *o)
{
    SSL_CTX *ctx = net_context();
    struct flow f = net_session(o, ctx, 0);
    uint64_t *ns = calloc(o->count, sizeof *ns);

    if (!ns)
        die("out of memory");
    for (size_t i = 0; i < o->count / 10; i++)
        one_trip(&f);
    struct meter begin = meter_begin(o);
    for (size_t i = 0; i < o->count; i++) {
        uint64_t t = now_ns();
        one_trip(&f);
        ns[i] = now_ns() - t;
    }
    struct meter m = meter_end(o, begin);
    qsort(ns, o->count, sizeof *ns, ascending);
    printf("{\"p50\": %.2f, \"p99\": %.2f, \"count\": %zu, \"cpu\": %.6f, \"load_cpu\": %.6f}\n",
           (double)ns[o->count / 2] / 1e3, (double)ns[o->count * 99 / 100] / 1e3, o->count,
           (double)m.watched / 1e9, (double)m.own / 1e9);
    net_close(&f);
    free(ns);
    SSL_CTX_free(ctx);
}
