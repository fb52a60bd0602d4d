// SPDX-License-Identifier: GPL-3.0-or-later
/* One HTTP request to a VMA for each call; everything that comes back is hostile until its MAC has
 * been checked, and bounded and printable after that. */
#include "rpc/server.h"
#include "ipc/log-msg.h"

#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "http/client.h"
#include "ipc/channel.h"
#include "ipc/rpc-msg.h"
#include "wire/vma.h"

struct call {
    struct list node;
    struct rpc_server *server;
    uint64_t id;
    uint8_t secret[WIRE_VMA_SECRET_LEN];
    char nonce[WIRE_VMA_NONCE_LEN + 1];
    struct http_client *http;
    struct ev_timer *limit;
};

struct rpc_server {
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct list calls;
    size_t n_calls;
};

static struct call *call_free(struct call *c)
{
    if (c) {
        list_remove(&c->node);
        c->server->n_calls--;
        http_client_free(c->http);
        ev_timer_free(c->limit);
        explicit_bzero(c->secret, sizeof c->secret);
        free(c);
    }
    return NULL;
}

static void send_result(struct rpc_server *s, const struct rpc_result *result)
{
    int r = ipc_send(s->channel, &rpc_result_msg, result, -EBADF);

    /* The asker's own limit ends a call whose result it cannot take. */
    if (r < 0)
        log_warning("call %llu: its result cannot be sent: %s", (unsigned long long)result->id,
                    strerror(-r));
}

static void finish(struct call *c, enum rpc_status status, const char *text)
{
    const struct rpc_result result = {.id = c->id, .status = status, .text = text};

    send_result(c->server, &result);
    call_free(c);
}

static void on_limit(void *arg)
{
    finish(arg, RPC_TIMEOUT, "no answer in time");
}

static void on_answer(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct call *c = owner;
    const char *auth = http_head_get(head, WIRE_VMA_AUTH);
    struct wire_vma_answer answer;

    if (!auth) {
        finish(c, RPC_BAD_ANSWER, "its answer is not signed");
        return;
    }
    if (wire_vma_check_answer(c->secret, head->status, c->nonce, auth, strlen(auth), body, len) <
        0) {
        finish(c, RPC_BAD_ANSWER, "its answer has a wrong signature");
        return;
    }
    if (wire_vma_answer_parse(body, len, &answer) < 0) {
        finish(c, RPC_BAD_ANSWER, "its answer is not of the agreed form");
        return;
    }
    const struct rpc_result result = {
        .id = c->id,
        .status = head->status == 200 ? RPC_OK : RPC_REFUSED,
        .http_status = head->status,
        .state = wire_x_state_to_string(answer.state),
        .text = answer.error,
    };
    send_result(c->server, &result);
    call_free(c);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct call *c = owner;

    switch (why->code) {
    case -ETIMEDOUT:
        finish(c, RPC_TIMEOUT, "no answer in time");
        return;
    case 0:
        finish(c, RPC_UNREACHABLE, "it closed the connection without an answer");
        return;
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EPIPE:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -ECONNABORTED:
        finish(c, RPC_UNREACHABLE, strerror(-why->code));
        return;
    default:
        finish(c, RPC_BAD_ANSWER, "its answer is not HTTP as we know it");
    }
}

static const struct http_client_ops http_ops = {.answer = on_answer, .closed = on_closed};

/* 0; else the call is over and *ret_text tells why. */
static must_check int start(struct call *c, const struct rpc_call *m, int *fd,
                            const char **ret_text)
{
    const struct stream_handlers none = {0};
    char auth[WIRE_VMA_AUTH_MAX], target[64];
    const struct http_header headers[] = {
        {"Content-Type", "application/json"},
        {WIRE_VMA_AUTH,  auth              },
        {"Connection",   "close"           },
    };
    struct stream *stream = NULL;

    *ret_text = "out of memory";
    int r = wire_vma_nonce(c->nonce);
    if (r == 0)
        r = wire_vma_sign_request(c->secret, m->function, m->serial, c->nonce, m->body,
                                  strlen(m->body), auth);
    if (r == 0)
        r = str_format(target, sizeof target, WIRE_VMA_PREFIX "%s", m->function);
    if (r == 0)
        r = ev_timer_new(c->server->loop, on_limit, c, &c->limit);
    if (r < 0)
        return r;
    ev_timer_arm(c->limit, m->timeout_ms);
    r = stream_adopt(c->server->loop, TAKE_FD(*fd), 0, &none, NULL, &stream);
    if (r == 0)
        r = http_client_new(c->server->loop, stream, WIRE_VMA_BODY_MAX, &http_ops, c, &c->http);
    if (r < 0) {
        *ret_text = "its socket cannot be used";
        return r;
    }
    const struct http_client_request request = {.method = "POST",
                                                .target = target,
                                                .host = "vma",
                                                .headers = headers,
                                                .n_headers = ARRAY_SIZE(headers),
                                                .body = m->body,
                                                .body_len = strlen(m->body)};
    r = http_client_send(c->http, &request);
    *ret_text = "the request cannot be sent";
    return r;
}

static int on_call(void *owner, const void *msg, int *fd)
{
    struct rpc_server *s = owner;
    const struct rpc_call *m = msg;
    const char *text;

    /* The asker is trusted, but a wrong word here is a bug of ours that must not travel. */
    if (m->secret.len != WIRE_VMA_SECRET_LEN ||
        wire_vma_function_from_string(m->function) == WIRE_VMA_FUNCTION_INVALID)
        return -EBADMSG;
    struct call *c = s->n_calls < RPC_SERVER_CALLS_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        const struct rpc_result busy = {
            .id = m->id, .status = RPC_BUSY, .text = "too many calls at once"};
        send_result(s, &busy);
        return 0;
    }
    c->server = s;
    c->id = m->id;
    memcpy(c->secret, m->secret.data, sizeof c->secret);
    list_init(&c->node);
    list_append(&s->calls, &c->node);
    s->n_calls++;
    if (start(c, m, fd, &text) < 0)
        finish(c, RPC_UNREACHABLE, text);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&rpc_call_msg, ~0u, on_call   },
    {&ipc_log_msg,  ~0u, ipc_on_log},
};

static void on_asker_gone(void *owner, int reason)
{
    struct rpc_server *s = owner;

    if (reason < 0)
        log_error("the asker's channel broke: %s", strerror(-reason));
    ev_loop_stop(s->loop, reason < 0);
}

int rpc_server_new(struct ev_loop *loop, int fd, struct rpc_server **ret_server)
{
    struct rpc_server *s = calloc(1, sizeof *s);

    if (!s) {
        fd_close(fd);
        return -ENOMEM;
    }
    s->loop = loop;
    list_init(&s->calls);
    int r =
        ipc_channel_new(loop, fd, handlers, ARRAY_SIZE(handlers), on_asker_gone, s, &s->channel);
    if (r < 0) {
        free(s);
        return r;
    }
    *ret_server = s;
    return 0;
}

struct rpc_server *rpc_server_free(struct rpc_server *s)
{
    if (s) {
        QVD_LIST_FOREACH (c, &s->calls, struct call, node)
            call_free(c);
        ipc_channel_free(s->channel);
        free(s);
    }
    return NULL;
}
