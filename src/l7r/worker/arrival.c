// SPDX-License-Identifier: GPL-3.0-or-later
/* A connection from a balancer of l7r.trusted_proxies: its PROXY header is read before anything
 * else, and not a byte more. */
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/proxy.h"
#include "l7r/worker/worker-internal.h"

#define COMPLAIN_MS 60000

struct arrival {
    struct list node;
    struct worker *worker;
    int fd;
    struct ev_io *io;
    struct ev_timer *timer;
    char balancer[64];
    size_t len;
    uint8_t header[PROXY_HEADER_MAX];
};

static void arrival_free(struct arrival *a)
{
    struct worker *w = a->worker;

    list_remove(&a->node);
    a->io = ev_io_free(a->io);
    a->timer = ev_timer_free(a->timer);
    (void)fd_close(a->fd);
    free(a);
    w->n_conns--;
    w->n_unauth--;
    worker_resume_accept(w);
    worker_end_if_idle(w);
}

/* An administrator has to mend it; once a minute tells him. */
static void refuse(struct arrival *a, const char *why)
{
    struct worker *w = a->worker;
    int64_t now = clock_ms();

    if (!w->complained || now - w->complained > COMPLAIN_MS) {
        w->complained = now;
        log_warning("balancer %s (l7r.trusted_proxies): %s; its connection is closed", a->balancer,
                    why);
    }
    arrival_free(a);
}

/* What was looked at and belongs to the header is taken from the socket. */
static must_check int take(struct arrival *a, size_t len)
{
    ssize_t n = recv(a->fd, a->header + a->len, len, 0);

    if (n < 0 || (size_t)n != len)
        return -EIO;
    a->len += len;
    return 0;
}

/* It is a client's from now on; in between it does not count twice, and a worker that only waits
 * for it does not end. */
static void begin(struct arrival *a, const struct proxy_header *h)
{
    struct worker *w = a->worker;

    a->io = ev_io_free(a->io);
    w->n_unauth--;
    client_new(w, TAKE_FD(a->fd), h->source[0] ? h->source : a->balancer, !h->source[0]);
    w->n_unauth++;
    arrival_free(a);
}

static void readable(void *arg, unsigned events)
{
    struct arrival *a = arg;
    struct proxy_header h;
    ssize_t n = recv(a->fd, a->header + a->len, sizeof a->header - a->len, MSG_PEEK);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        arrival_free(a);
        return;
    }
    ssize_t whole = proxy_header_parse(a->header, a->len + (size_t)n, &h);
    size_t ours = whole > 0 ? (size_t)whole - a->len : (size_t)n;
    if (whole < 0)
        refuse(a, "it sends no PROXY header, or a wrong one");
    else if (take(a, ours) < 0)
        refuse(a, "its header cannot be read");
    else if (whole > 0)
        begin(a, &h);
}

static void too_late(void *arg)
{
    refuse(arg, "its PROXY header did not come in time");
}

void arrival_new(struct worker *w, int fd, const char *balancer)
{
    struct arrival *a = w->n_unauth < w->context.unauth ? calloc(1, sizeof *a) : NULL;

    if (!a) {
        log_debug("connection from balancer %s refused: too many", balancer);
        (void)fd_close(fd);
        return;
    }
    a->worker = w;
    a->fd = fd;
    (void)snprintf(a->balancer, sizeof a->balancer, "%s", balancer);
    list_append(&w->arrivals, &a->node);
    w->n_conns++;
    w->n_unauth++;
    if (ev_timer_new(w->loop, too_late, a, &a->timer) < 0 ||
        ev_io_new(w->loop, fd, EV_IO_IN, readable, a, &a->io) < 0) {
        arrival_free(a);
        return;
    }
    ev_timer_arm(a->timer, w->context.handshake_ms);
}
