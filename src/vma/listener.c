// SPDX-License-Identifier: GPL-3.0-or-later
/* One request a connection (docs/protocol.md): head, MAC, body, order; the answer when the monitor
 * has one. A peer that hangs up meanwhile takes nothing back: the order goes on. */
#include "vma/listener.h"
#include "ipc/log-msg.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "http/server.h"
#include "ipc/channel.h"
#include "vma/msg.h"

struct connection {
    struct list node;
    struct listener *listener;
    struct http_server *http;
    uint64_t id;       /* of its order; 0: none */
    uint64_t answered; /* the order whose answer it has taken; 0: none */
    char nonce[WIRE_VMA_NONCE_LEN + 1];
    struct ev_deferred die;
};

struct listener {
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct ev_io *io;
    int fd;
    bool greeted;
    uint8_t secret[WIRE_VMA_SECRET_LEN];
    struct list connections;
    size_t n_connections;
    struct map *waiting; /* id -> struct connection */
    uint64_t last_id;
};

static void watch(struct listener *l)
{
    bool on = l->greeted && l->n_connections < LISTENER_CONNECTIONS_MAX;
    int r = ev_io_set(l->io, on ? EV_IO_IN : 0);

    if (r < 0)
        ev_loop_stop(l->loop, 1);
}

static struct connection *connection_free(struct connection *c)
{
    if (c) {
        if (c->id)
            (void)map_take_u64(c->listener->waiting, c->id);
        list_remove(&c->node);
        c->listener->n_connections--;
        ev_deferred_cancel(&c->die);
        http_server_free(c->http);
        free(c);
    }
    return NULL;
}

static void connection_end(void *arg)
{
    struct connection *c = arg;
    struct listener *l = c->listener;
    const struct vma_sent sent = {.id = c->answered};

    connection_free(c);
    if (sent.id && ipc_send(l->channel, &vma_sent_msg, &sent, -EBADF) < 0)
        log_debug("the monitor takes no word of answer %llu", (unsigned long long)sent.id);
    watch(l);
}

/* status 0: closed without a word, for those who do not know the key. */
static void answer(struct connection *c, unsigned status, const struct wire_vma_answer *a)
{
    _cleanup_(free_p) char *body = wire_vma_answer_format(a);
    char auth[WIRE_VMA_AUTH_MAX];
    const struct http_header header = {WIRE_VMA_AUTH, auth};

    if (body && wire_vma_sign_answer(c->listener->secret, status, c->nonce, body, strlen(body),
                                     auth) == 0) {
        http_server_close_after(c->http);
        if (http_server_answer(c->http, status, "application/json", &header, 1, body,
                               strlen(body)) == 0)
            return;
    }
    ev_defer(c->listener->loop, &c->die);
}

/* For requests without a valid MAC: a plain status, unsigned, as there is no nonce to answer. */
static void answer_plain(struct connection *c, int status)
{
    http_server_close_after(c->http);
    if (http_server_answer_text(c->http, status, http_reason(status)) < 0)
        ev_defer(c->listener->loop, &c->die);
}

static void refuse(struct connection *c, unsigned status, const char *text)
{
    struct wire_vma_answer a = {.state = WIRE_X_STATE_INVALID};

    (void)!snprintf(a.error, sizeof a.error, "%s", text);
    answer(c, status, &a);
}

static void send_order(struct connection *c, enum wire_vma_function f, uint64_t serial,
                       const struct wire_params *params)
{
    struct listener *l = c->listener;
    _cleanup_(buf_done_p) struct buf packed = {0};

    buf_init(&packed, IPC_MAX);
    if (vma_params_pack(params, &packed) < 0) {
        refuse(c, 400, "too many parameters");
        return;
    }
    c->id = ++l->last_id;
    const struct vma_order order = {
        .id = c->id, .function = f, .serial = serial, .params = {packed.data, packed.len}
    };
    int r = map_put_u64(l->waiting, c->id, c);
    if (r == 0)
        r = ipc_send(l->channel, &vma_order_msg, &order, -EBADF);
    if (r < 0)
        refuse(c, 503, "too busy");
}

/* The function's word in /vma/1/FUNCTION; NULL for another path. */
static const char *function_of(const char *target)
{
    return str_starts(target, WIRE_VMA_PREFIX) ? target + strlen(WIRE_VMA_PREFIX) : NULL;
}

static void on_request(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct connection *c = owner;
    struct listener *l = c->listener;
    const char *word = function_of(head->target), *auth = http_head_get(head, WIRE_VMA_AUTH);
    uint64_t serial;

    if (strcmp(head->method, "POST") != 0 || !word || strlen(word) > 32) {
        answer_plain(c, word ? 405 : 404);
        return;
    }
    int r = auth ? wire_vma_check_request(l->secret, word, auth, strlen(auth), body ? body : "",
                                          len, &serial, c->nonce)
                 : -EBADMSG;
    if (r < 0) {
        log_warning("request %s refused: %s", word,
                    r == -EACCES ? "wrong MAC" : "no QVD-Auth of version 1");
        answer_plain(c, r == -EACCES ? 401 : 400);
        return;
    }
    /* From here on the peer knows the key: hkd or the broker. */
    enum wire_vma_function f = wire_vma_function_from_string(word);
    _cleanup_(wire_params_free_p) struct wire_params *params = wire_params_new();
    if (f == WIRE_VMA_FUNCTION_INVALID)
        refuse(c, 404, "no such function");
    else if ((serial == 0) == wire_vma_is_order(f))
        refuse(c, 400, "an order needs a serial, a question has none");
    else if (!params || (len > 0 && wire_params_set_json(params, body, len) < 0))
        refuse(c, 400, "the body is no flat object of texts, or over a limit");
    else
        send_order(c, f, serial, params);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct connection *c = owner;

    if (why->code < 0 && why->code != -ECONNRESET)
        log_debug("connection: %s", why->text);
    ev_defer(c->listener->loop, &c->die);
}

static const struct http_server_ops http_ops = {.request = on_request, .closed = on_closed};

static must_check int connection_new(struct listener *l, int fd)
{
    const struct stream_handlers none = {0};
    struct http_server_limits limits = http_server_limits_default;
    struct stream *s = NULL;
    struct connection *c = calloc(1, sizeof *c);

    if (!c) {
        fd_close(fd);
        return -ENOMEM;
    }
    limits.head_ms = limits.first_ms = limits.send_ms = LISTENER_HEAD_MS;
    limits.body_max = WIRE_VMA_BODY_MAX;
    c->listener = l;
    ev_deferred_init(&c->die, connection_end, c);
    list_init(&c->node);
    list_append(&l->connections, &c->node);
    l->n_connections++;
    int r = stream_new(l->loop, fd, NULL, 0, &none, NULL, &s);
    if (r == 0)
        r = http_server_new(l->loop, s, &limits, &http_ops, c, &c->http);
    if (r < 0)
        connection_free(c);
    return r;
}

/* Only the node asks. A user of this desktop who dials his own VM is hung up on before a byte of
 * his is read, so that he cannot take the connections that the node needs. */
static bool is_local(int fd)
{
    struct sockaddr_in own = {0}, peer = {0};
    socklen_t own_len = sizeof own, peer_len = sizeof peer;

    if (getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
        return true;
    return own.sin_addr.s_addr == peer.sin_addr.s_addr ||
           (ntohl(peer.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
}

static void on_accept(void *arg, unsigned events)
{
    struct listener *l = arg;

    while (l->n_connections < LISTENER_CONNECTIONS_MAX) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            break;
        if (is_local(fd)) {
            fd_close(fd);
            continue;
        }
        int r = connection_new(l, fd);
        if (r < 0)
            log_warning("a connection was dropped: %s", strerror(-r));
    }
    watch(l);
}

static int on_hello(void *owner, const void *msg, int *fd)
{
    struct listener *l = owner;
    const struct vma_hello *m = msg;

    if (l->greeted || m->secret.len != sizeof l->secret)
        return -EBADMSG;
    memcpy(l->secret, m->secret.data, sizeof l->secret);
    l->greeted = true;
    watch(l);
    return 0;
}

static int on_result(void *owner, const void *msg, int *fd)
{
    struct listener *l = owner;
    const struct vma_result *m = msg;
    struct connection *c = map_take_u64(l->waiting, m->id);
    struct wire_vma_answer a = {.state = (enum wire_x_state)m->state};

    if (!c) /* hung up meanwhile */
        return 0;
    c->id = 0;
    c->answered = m->id;
    (void)!snprintf(a.error, sizeof a.error, "%s", m->text);
    answer(c, m->status, &a);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&vma_hello_msg,  ~0u, on_hello  },
    {&vma_result_msg, ~0u, on_result },
    {&ipc_log_msg,    ~0u, ipc_on_log},
};

static void on_monitor_gone(void *owner, int reason)
{
    struct listener *l = owner;

    ev_loop_stop(l->loop, reason < 0);
}

int listener_new(struct ev_loop *loop, int channel_fd, int socket_fd,
                 struct listener **ret_listener)
{
    struct listener *l = calloc(1, sizeof *l);

    if (!l) {
        fd_close(channel_fd);
        fd_close(socket_fd);
        return -ENOMEM;
    }
    l->loop = loop;
    l->fd = socket_fd;
    list_init(&l->connections);
    l->waiting = map_new_u64();
    int r = ipc_channel_new(loop, channel_fd, handlers, ARRAY_SIZE(handlers), on_monitor_gone, l,
                            &l->channel);
    if (r == 0)
        r = l->waiting ? ev_io_new(loop, socket_fd, 0, on_accept, l, &l->io) : -ENOMEM;
    if (r < 0) {
        listener_free(l);
        return r;
    }
    *ret_listener = l;
    return 0;
}

struct listener *listener_free(struct listener *l)
{
    if (l) {
        QVD_LIST_FOREACH (c, &l->connections, struct connection, node)
            connection_free(c);
        map_free(l->waiting);
        ev_io_free(l->io);
        ipc_channel_free(l->channel);
        fd_close(l->fd);
        explicit_bzero(l->secret, sizeof l->secret);
        free(l);
    }
    return NULL;
}
