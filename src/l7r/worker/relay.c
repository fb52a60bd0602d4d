// SPDX-License-Identifier: GPL-3.0-or-later
/* Sessions: the 101, the relay, its counters, and the report of its end, kept until the broker has
 * written it. */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "l7r/worker/worker-internal.h"
#include "wire/l7r.h"

#define DIALLED_MS 5000
#define AGAIN_MS 1000

static void send_report(struct relay *r)
{
    struct worker *w = r->worker;

    if (r->reported || !w->broker)
        return;
    if (ipc_send(w->broker, &l7r_closed_msg, &r->report, -EBADF) == 0)
        r->reported = true;
    else
        ev_timer_arm(w->again, AGAIN_MS);
}

static void relay_free(void *arg)
{
    struct relay *r = arg;

    ev_deferred_cancel(&r->reap);
    r->stream = stream_relay_free(r->stream);
    list_remove(&r->node);
    free(r->reason);
    free(r);
}

static void set_reason(struct relay *r, const char *fmt, ...) printf_like(2, 3);
static void set_reason(struct relay *r, const char *fmt, ...)
{
    char text[257];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    free(r->reason);
    r->reason = strdup(text);
    r->report.reason = r->reason ? r->reason : "out of memory";
}

static void ended(struct relay *r, const struct stream_relay_stats *stats)
{
    struct worker *w = r->worker;

    (void)map_take_u64(w->by_session, r->report.session);
    if (stats) {
        r->report.bytes_in = stats->bytes[STREAM_A];
        r->report.bytes_out = stats->bytes[STREAM_B];
        if (stats->first_us[STREAM_B])
            r->report.first_byte_ms = (stats->first_us[STREAM_B] - r->began_us) / 1000;
    }
    source_leave(w, r->source);
    r->source = NULL;
    w->n_conns--;
    list_remove(&r->node);
    list_append(&w->reports, &r->node);
    send_report(r);
    worker_resume_accept(w);
}

static void reap_stream(void *arg)
{
    struct relay *r = arg;

    r->stream = stream_relay_free(r->stream);
    worker_end_if_idle(r->worker);
}

static void done(void *owner, const struct stream_relay_stats *stats, const struct qvd_error *why)
{
    struct relay *r = owner;

    /* -ETIMEDOUT: the other side did not follow. */
    if (why->code && why->code != -ETIMEDOUT)
        set_reason(r, "%s", why->text);
    else
        set_reason(r, "closed by the %s", stats->ended == STREAM_A ? "client" : "desktop");
    ended(r, stats);
    ev_defer(r->worker->loop, &r->reap);
}

static must_check struct relay *relay_new(struct worker *w, const struct l7r_relay *m)
{
    struct relay *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->worker = w;
    r->report = (struct l7r_closed){
        .conn = m->conn, .session = m->session, .first_byte_ms = -1, .reason = ""};
    r->began_us = clock_us();
    ev_deferred_init(&r->reap, reap_stream, r);
    list_append(&w->relays, &r->node);
    return r;
}

void relay_report_unused(struct worker *w, const struct l7r_relay *m)
{
    struct relay *r = relay_new(w, m);

    if (!r)
        return;
    set_reason(r, "the client had gone");
    list_remove(&r->node);
    list_append(&w->reports, &r->node);
    send_report(r);
}

static must_check int start(struct relay *r, struct client *c, const struct l7r_relay *m, int fd)
{
    struct worker *w = r->worker;
    char number[24];
    const struct http_header headers[] = {
        {WIRE_L7R_SLAVE_KEY, m->slave_key},
        {WIRE_L7R_SESSION,   number      },
    };
    const struct stream_handlers none = {0};
    struct stream *desktop = NULL, *client = NULL;

    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)m->session);
    int code = stream_adopt(w->loop, fd, DIALLED_MS, &none, NULL, &desktop);

    if (code < 0)
        return code;
    code = http_server_upgrade(c->http, WIRE_L7R_UPGRADE, headers, ARRAY_SIZE(headers), &client);
    if (code < 0) {
        (void)stream_free(desktop);
        return code;
    }
    c->http = NULL;
    return stream_relay_start(w->loop, client, desktop, w->context.half_close_ms, done, r,
                              &r->stream);
}

void relay_start(struct client *c, const struct l7r_relay *m, int fd)
{
    struct worker *w = c->worker;
    struct relay *r = relay_new(w, m);

    if (!r) {
        (void)fd_close(fd);
        client_free(c);
        return;
    }
    int code = map_put_u64(w->by_session, m->session, r);
    if (code == 0)
        code = start(r, c, m, fd);
    else
        (void)fd_close(fd);
    /* The connection is the relay's now: the broker hears of its end by the report. */
    c->known = false;
    r->source = c->source;
    c->source = NULL;
    if (code < 0) {
        set_reason(r, "the relay could not start: %s", strerror(-code));
        ended(r, NULL);
    }
    client_free(c);
}

void relay_cut(struct worker *w, const struct l7r_cut *m)
{
    struct relay *r = map_get_u64(w->by_session, m->session);

    if (r && r->stream)
        stream_relay_end(r->stream, -ECANCELED, m->reason);
}

void relay_acknowledged(struct worker *w, uint64_t session)
{
    QVD_LIST_FOREACH (r, &w->reports, struct relay, node)
        if (r->report.session == session) {
            relay_free(r);
            break;
        }
    worker_end_if_idle(w);
}

void relay_report_again(struct worker *w)
{
    QVD_LIST_FOREACH (r, &w->reports, struct relay, node)
        send_report(r);
}

int relay_resync(struct worker *w)
{
    uint64_t ids[L7R_RESYNC_MAX];
    size_t n = 0;
    int code = 0;

    QVD_LIST_FOREACH (r, &w->relays, struct relay, node) {
        ids[n++] = r->report.session;
        if (n < L7R_RESYNC_MAX)
            continue;
        struct l7r_resync m = {
            .sessions = {ids, n * sizeof *ids}
        };
        code = code < 0 ? code : ipc_send(w->broker, &l7r_resync_msg, &m, -EBADF);
        n = 0;
    }
    /* Reports first: what has ended is not taken for what is lost. */
    QVD_LIST_FOREACH (r, &w->reports, struct relay, node) {
        r->reported = false;
        send_report(r);
    }
    struct l7r_resync m = {
        .sessions = {ids, n * sizeof *ids},
          .last = true
    };
    return code < 0 ? code : ipc_send(w->broker, &l7r_resync_msg, &m, -EBADF);
}
