// SPDX-License-Identifier: GPL-3.0-or-later
/* Calls to qvd-rpc: each waits in a map by its id until its result, its time limit or the end of
 * the channel. */
#include "ipc/rpc-client.h"
#include "ipc/log-msg.h"

#include "base/map.h"
#include "config.h"
#include "ipc/channel.h"

/* What qvd-rpc gets on top of the call's own time before it is given up. */
#define GRACE_MS 2000
#define OPEN_MAX 4096

struct rpc_request {
    struct rpc_client *client;
    uint64_t id;
    rpc_client_fn *fn;
    void *arg;
    struct ev_timer *limit;
    struct rpc_result own; /* given when qvd-rpc gives none */
};

struct rpc_client {
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct map *open; /* id -> struct rpc_request */
    uint64_t last_id;
};

static struct rpc_request *request_free(struct rpc_request *q)
{
    if (q) {
        (void)map_take_u64(q->client->open, q->id);
        ev_timer_free(q->limit);
        free(q);
    }
    return NULL;
}

/* fn may call, cancel and attach again. */
static void finish(struct rpc_request *q, const struct rpc_result *result)
{
    rpc_client_fn *fn = q->fn;
    void *arg = q->arg;
    struct rpc_result copy = *result;

    request_free(q);
    fn(arg, &copy);
}

static void on_limit(void *arg)
{
    struct rpc_request *q = arg;

    finish(q, &q->own);
}

/* From now on answered by ourselves, at the next turn. */
static void answer_soon(struct rpc_request *q, enum rpc_status status, const char *text)
{
    q->own.status = status;
    q->own.text = text;
    ev_timer_arm(q->limit, 0);
}

static int on_result(void *owner, const void *msg, int *fd)
{
    struct rpc_client *c = owner;
    const struct rpc_result *m = msg;
    struct rpc_request *q = map_get_u64(c->open, m->id);

    if (q)
        finish(q, m);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&rpc_result_msg, ~0u, on_result},
};

static void give_up_open(struct rpc_client *c)
{
    size_t at = 0;
    struct rpc_request *q;

    while ((q = map_next(c->open, &at, NULL)))
        answer_soon(q, RPC_BUSY, "qvd-rpc ended; try again");
}

static void on_closed(void *owner, int reason)
{
    struct rpc_client *c = owner;

    c->channel = ipc_channel_free(c->channel);
    give_up_open(c);
}

int rpc_client_new(struct ev_loop *loop, struct rpc_client **ret_client)
{
    struct rpc_client *c = calloc(1, sizeof *c);

    if (!c)
        return -ENOMEM;
    c->loop = loop;
    c->open = map_new_u64();
    if (!c->open) {
        rpc_client_free(c);
        return -ENOMEM;
    }
    *ret_client = c;
    return 0;
}

struct rpc_client *rpc_client_free(struct rpc_client *c)
{
    size_t at = 0;
    struct rpc_request *q;

    if (!c)
        return NULL;
    ipc_channel_free(c->channel);
    while (c->open && (q = map_next(c->open, &at, NULL))) {
        ev_timer_free(q->limit);
        free(q);
    }
    map_free(c->open);
    free(c);
    return NULL;
}

int rpc_client_attach(struct rpc_client *c, int fd)
{
    c->channel = ipc_channel_free(c->channel);
    give_up_open(c);
    return ipc_channel_new(c->loop, fd, handlers, ARRAY_SIZE(handlers), on_closed, c, &c->channel);
}

bool rpc_client_attached(const struct rpc_client *c)
{
    return c->channel;
}

static must_check struct rpc_request *request_new(struct rpc_client *c, rpc_client_fn *fn,
                                                  void *arg)
{
    struct rpc_request *q = calloc(1, sizeof *q);

    if (!q)
        return NULL;
    *q = (struct rpc_request){.client = c, .id = ++c->last_id, .fn = fn, .arg = arg};
    q->own = (struct rpc_result){
        .id = q->id, .status = RPC_TIMEOUT, .state = "", .text = "qvd-rpc gave no answer"};
    if (ev_timer_new(c->loop, on_limit, q, &q->limit) < 0 || map_put_u64(c->open, q->id, q) < 0)
        return request_free(q);
    return q;
}

int rpc_client_call(struct rpc_client *c, const struct rpc_call *call, int socket_fd,
                    rpc_client_fn *fn, void *arg, struct rpc_request **ret_request)
{
    _cleanup_(close_p) int fd = socket_fd;
    bool full = map_count(c->open) >= OPEN_MAX;
    struct rpc_call own = *call;
    struct rpc_request *q = request_new(c, fn, arg);

    if (!q)
        return -ENOMEM;
    own.id = q->id;
    ev_timer_arm(q->limit, call->timeout_ms + GRACE_MS);
    int r = full ? -ENOBUFS : c->channel ? ipc_send(c->channel, &rpc_call_msg, &own, fd) : -EPIPE;
    if (r == -EMSGSIZE || r == -ENOMEM || r == -EINVAL) {
        request_free(q);
        return r;
    }
    if (r < 0)
        answer_soon(q, RPC_BUSY, r == -ENOBUFS ? "too many calls at once" : "qvd-rpc is away");
    if (ret_request)
        *ret_request = q;
    return 0;
}

struct rpc_request *rpc_request_cancel(struct rpc_request *q)
{
    return request_free(q);
}

int rpc_spawner_new(struct ev_loop *loop, const char *user, ipc_spawned_fn *fn, void *arg,
                    struct ipc_spawner **ret_spawner)
{
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-rpc", user ? "--user" : NULL, user, NULL};
    const struct ipc_spawner_spec spec = {.argv = argv};

    return ipc_spawner_new(loop, &spec, fn, arg, ret_spawner);
}

void rpc_client_log(struct rpc_client *c)
{
    ipc_log_send(c->channel);
}
