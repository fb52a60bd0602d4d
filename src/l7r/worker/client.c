// SPDX-License-Identifier: GPL-3.0-or-later
/* A client's connection: handshake, requests, 102s and answers, until it ends or becomes a relay.
 */
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/worker/worker-internal.h"
#include "wire/l7r.h"

#define BODY_MAX (4 << 20)
#define RETRY_AFTER 5
#define PARTING_MS 500
#define FULL_MS 60000

void client_free(struct client *c)
{
    struct worker *w = c->worker;
    struct l7r_gone gone = {.conn = c->id};

    if (c->known && w->broker && ipc_send(w->broker, &l7r_gone_msg, &gone, -EBADF) < 0)
        log_warning("the broker does not hear that connection %llu has ended",
                    (unsigned long long)c->id);
    (void)map_take_u64(w->by_id, c->id);
    list_remove(&c->node);
    if (!c->authenticated)
        w->n_unauth--;
    if (c->source) {
        source_leave(w, c->source);
        w->n_conns--;
    }
    c->stream = stream_free(c->stream);
    c->http = http_server_free(c->http);
    c->unauth = ev_timer_free(c->unauth);
    c->progress = ev_timer_free(c->progress);
    c->waiting = ev_timer_free(c->waiting);
    buf_done(&c->body);
    free(c);
    worker_resume_accept(w);
    worker_end_if_idle(w);
}

/* Answers ---------------------------------------------------------------------------------------
 */

/* The headers that a status brings with it; fills h, returns their number. */
static size_t headers_of(int status, uint32_t retry_after, char retry[16], struct http_header h[2])
{
    size_t n = 0;

    if (status == 401)
        h[n++] = (struct http_header){"WWW-Authenticate", WIRE_L7R_REALM};
    if (status == 405)
        h[n++] = (struct http_header){"Allow", "GET"};
    if (status == 426)
        h[n++] = (struct http_header){"Upgrade", WIRE_L7R_UPGRADE};
    if (retry_after) {
        (void)snprintf(retry, 16, "%u", retry_after);
        h[n++] = (struct http_header){"Retry-After", retry};
    }
    return n;
}

/* An error on connect closes: of the existing clients one hangs otherwise, one takes any answer for
 * a session. */
static void answer(struct client *c, int status, const char *type, uint32_t retry_after,
                   const void *body, size_t len)
{
    struct http_header h[2];
    char retry[16];
    size_t n = headers_of(status, retry_after, retry, h);

    c->state = CLIENT_IDLE;
    ev_timer_disarm(c->progress);
    ev_timer_disarm(c->waiting);
    c->text[0] = c->sent[0] = 0;
    if (c->kind == L7R_CONNECT || (c->expired && !c->authenticated))
        http_server_close_after(c->http);
    /* On failure it closes by itself and says so. */
    if (http_server_answer(c->http, status, type, h, n, body, len) < 0)
        log_debug("connection %llu took no answer", (unsigned long long)c->id);
}

static void answer_text(struct client *c, int status, uint32_t retry_after, const char *text)
{
    char line[256];

    (void)snprintf(line, sizeof line, "%s\r\n", text);
    answer(c, status, "text/plain", retry_after, line, strlen(line));
}

static void set_authenticated(struct client *c)
{
    if (c->authenticated)
        return;
    c->authenticated = true;
    c->worker->n_unauth--;
    ev_timer_disarm(c->unauth);
    http_server_set_idle(c->http, c->worker->context.idle_ms);
    worker_resume_accept(c->worker);
}

void client_answer(struct client *c, const struct l7r_answer *a)
{
    if (c->state != CLIENT_WAITING)
        return;
    if (buf_append(&c->body, a->body.data, a->body.len) < 0) {
        buf_done(&c->body);
        answer_text(c, 500, 0, "The answer is too long");
        return;
    }
    if (!a->last)
        return;
    if (a->authenticated)
        set_authenticated(c);
    struct buf body = c->body;
    buf_init(&c->body, BODY_MAX);
    answer(c, (int)a->status, a->type, a->retry_after, body.data, body.len);
    buf_done(&body);
}

void client_broker_lost(struct client *c)
{
    c->known = false;
    if (c->state != CLIENT_WAITING)
        return;
    buf_done(&c->body);
    answer_text(c, 503, RETRY_AFTER, "Server is restarting. Retry later");
}

/* 102s ------------------------------------------------------------------------------------------
 */

static void send_progress(struct client *c)
{
    if (strcmp(c->text, c->sent) == 0)
        return;
    c->sent_ms = clock_ms();
    memcpy(c->sent, c->text, sizeof c->sent);
    if (http_server_interim(c->http, 102, WIRE_L7R_INFO, c->text) < 0)
        log_debug("connection %llu took no progress", (unsigned long long)c->id);
}

static void progress_due(void *arg)
{
    struct client *c = arg;

    if (c->state == CLIENT_WAITING)
        send_progress(c);
}

/* At most one in a while, and only what is new: a client exists that reads one a second. */
void client_progress(struct client *c, const char *text)
{
    uint64_t pause = c->worker->context.progress_ms;
    int64_t due = c->sent_ms + (int64_t)pause - clock_ms();

    if (c->state != CLIENT_WAITING)
        return;
    /* Only who is known gets this far. */
    set_authenticated(c);
    (void)snprintf(c->text, sizeof c->text, "%.190s", text);
    if (!c->sent[0] || due <= 0)
        send_progress(c);
    else if (!ev_timer_armed(c->progress))
        ev_timer_arm(c->progress, (uint64_t)due);
}

/* Its end may lie in the socket without our having read it. */
void client_still_there(struct client *c)
{
    struct pollfd p = {.fd = stream_fd(http_server_stream(c->http)), .events = POLLRDHUP};
    struct l7r_here here = {.conn = c->id};

    if (c->state != CLIENT_WAITING)
        return;
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        client_free(c);
    else if (c->worker->broker && ipc_send(c->worker->broker, &l7r_here_msg, &here, -EBADF) < 0)
        log_debug("the broker does not take an answer; its limit ends the session");
}

/* Requests --------------------------------------------------------------------------------------
 */

static void request(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct client *c = owner;
    struct worker *w = c->worker;
    struct request_memory memory;
    struct l7r_request q;
    const char *why = NULL;
    int status = request_read(head, &memory, &q, &why);

    c->kind = (enum l7r_kind)q.kind; /* also of a refused one, as far as it was read */
    c->state = CLIENT_WAITING;
    c->text[0] = c->sent[0] = 0;
    if (status) {
        answer_text(c, status, 0, why);
        request_done(&memory);
        return;
    }
    q.conn = c->id;
    q.source = c->source->balancer ? "" : c->source->address;
    q.tls_ms = c->tls_ms;
    int r = w->broker ? ipc_send(w->broker, &l7r_request_msg, &q, -EBADF) : -EPIPE;
    request_done(&memory);
    if (r == 0) {
        c->known = true;
        ev_timer_arm(c->waiting, w->context.request_ms);
    }
    if (r == -EMSGSIZE)
        answer_text(c, 400, 0, "The request is too long");
    else if (r < 0)
        answer_text(c, 503, RETRY_AFTER,
                    r == -ENOBUFS ? "Server is busy. Retry later"
                                  : "Server is starting. Retry later");
}

static void hangup(void *owner)
{
    client_free(owner);
}

/* Nothing is begun for somebody who may have gone; but an answer is kept from nobody. */
static bool half_closed(void *owner)
{
    const struct client *c = owner;

    return c->kind != L7R_CONNECT && c->kind != L7R_STOP_VM;
}

static void http_closed(void *owner, const struct qvd_error *why)
{
    struct client *c = owner;

    log_debug("connection %llu from %s: %s", (unsigned long long)c->id, c->source->address,
              why->code ? why->text : "closed");
    client_free(c);
}

static const struct http_server_ops http_ops = {
    .request = request, .hangup = hangup, .half_closed = half_closed, .closed = http_closed};

/* Birth -----------------------------------------------------------------------------------------
 */

/* An answer that was lost on its way: the broker's own limits are shorter. */
static void waiting_over(void *arg)
{
    struct client *c = arg;

    if (c->state == CLIENT_WAITING) {
        http_server_close_after(c->http);
        answer_text(c, 503, RETRY_AFTER, "Server is busy. Retry later");
    }
}

static void unauth_over(void *arg)
{
    struct client *c = arg;

    c->expired = true;
    if (c->state != CLIENT_WAITING)
        client_free(c);
}

static void opened(void *owner)
{
    struct client *c = owner;
    const struct l7r_context *x = &c->worker->context;
    const struct http_server_limits limits = {.head_ms = x->head_ms,
                                              .first_ms = x->unauth_ms,
                                              .idle_ms = x->unauth_ms,
                                              .send_ms = x->send_ms,
                                              .body_max = 0,
                                              .head_max = x->head_max};

    c->tls_ms = (uint32_t)((clock_us() - c->accepted_us) / 1000);
    c->state = CLIENT_IDLE;
    if (http_server_new(c->worker->loop, TAKE_PTR(c->stream), &limits, &http_ops, c, &c->http) < 0)
        client_free(c);
}

static void stream_closed(void *owner, const struct qvd_error *why)
{
    struct client *c = owner;

    /* Somebody is kept out by what the administrator has ordered: he wants to know. */
    log_line(why->code == -EACCES ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "handshake with %s: %s",
             c->source->address, why->text);
    c->stream = stream_free_flushed(c->stream, PARTING_MS);
    client_free(c);
}

static const struct stream_handlers handshake = {.open = opened, .closed = stream_closed};

/* Each for the log of one who looks for it; once a minute for everybody. */
static void tell_full(struct worker *w, const char *address, bool source)
{
    int64_t now = clock_ms();
    bool again = w->told_full && now - w->told_full < FULL_MS;

    if (!again)
        w->told_full = now;
    log_line(again ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "connection from %s refused: too many %s",
             address,
             source ? "of that address (l7r.limit.connections.per_source)"
                    : "without a login (l7r.limit.connections.unauthenticated)");
}

void client_new(struct worker *w, int fd, const char *address, bool balancer)
{
    struct client *c = calloc(1, sizeof *c);
    struct source *source = c ? source_enter(w, address, balancer) : NULL;

    if (!source || w->n_unauth >= w->context.unauth) {
        tell_full(w, address, !source);
        source_leave(w, source);
        (void)fd_close(fd);
        free(c);
        return;
    }
    c->worker = w;
    c->id = ++w->next_conn;
    c->source = source;
    c->accepted_us = clock_us();
    buf_init(&c->body, BODY_MAX);
    list_append(&w->conns, &c->node);
    w->n_conns++;
    w->n_unauth++;
    int r = stream_new(w->loop, fd, w->tls, w->context.handshake_ms, &handshake, c, &c->stream);
    if (r == 0)
        r = map_put_u64(w->by_id, c->id, c);
    if (r == 0)
        r = ev_timer_new(w->loop, unauth_over, c, &c->unauth);
    if (r == 0)
        r = ev_timer_new(w->loop, progress_due, c, &c->progress);
    if (r == 0)
        r = ev_timer_new(w->loop, waiting_over, c, &c->waiting);
    if (r < 0) {
        client_free(c);
        return;
    }
    ev_timer_arm(c->unauth, w->context.unauth_ms);
}
