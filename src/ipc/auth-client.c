// SPDX-License-Identifier: GPL-3.0-or-later
/* Questions to qvd-authd: each waits in a map by its id until its answer, its time limit or the end
 * of the channel. */
#include "ipc/auth-client.h"

#include "base/map.h"
#include "ipc/channel.h"
#include "ipc/log-msg.h"

#define ANSWER_MS 15000
#define OPEN_MAX 1000

struct question {
    struct auth_client *client;
    uint64_t id;
    auth_answer_fn *fn;
    void *arg;
    const struct ipc_message *answer; /* the kind that must come back */
    enum auth_status status;          /* of an answer given here */
    struct ev_timer *limit;
};

struct auth_client {
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct map *open; /* id -> struct question */
    uint64_t last_id;
    uint64_t limit_ms;
};

static struct question *question_free(struct question *q)
{
    if (q) {
        ev_timer_free(q->limit);
        free(q);
    }
    return NULL;
}

/* Tells the asker and forgets the question; fn may ask, cancel and attach again. */
static void finish(struct question *q, const struct auth_answer *answer)
{
    (void)map_take_u64(q->client->open, q->id);
    auth_answer_fn *fn = q->fn;
    void *arg = q->arg;

    question_free(q);
    fn(arg, answer);
}

static void on_limit(void *arg)
{
    struct question *q = arg;

    finish(q, &(struct auth_answer){.status = q->status});
}

/* From now on answered by ourselves, at the next turn. */
static void answer_soon(struct question *q, enum auth_status status)
{
    q->status = status;
    ev_timer_arm(q->limit, 0);
}

/* The question of an answer; NULL when it came too late or was cancelled. */
static struct question *take_answer(struct auth_client *c, uint64_t id,
                                    const struct ipc_message *kind, int *ret)
{
    struct question *q = map_get_u64(c->open, id);

    *ret = q && q->answer != kind ? -EBADMSG : 0;
    return q && q->answer == kind ? q : NULL;
}

static int on_user(void *owner, const void *msg, int *fd)
{
    const struct auth_user *m = msg;
    int r;
    struct question *q = take_answer(owner, m->id, &auth_user_msg, &r);

    if (q)
        finish(q, &(struct auth_answer){.status = (enum auth_status)m->status, .user = *m});
    return r;
}

static int on_token(void *owner, const void *msg, int *fd)
{
    const struct auth_token *m = msg;
    int r;
    struct question *q = take_answer(owner, m->id, &auth_token_msg, &r);

    if (q)
        finish(q, &(struct auth_answer){.status = (enum auth_status)m->status, .token = *m});
    return r;
}

static int on_admin(void *owner, const void *msg, int *fd)
{
    const struct auth_admin *m = msg;
    int r;
    struct question *q = take_answer(owner, m->id, &auth_admin_msg, &r);

    if (q)
        finish(q, &(struct auth_answer){.status = (enum auth_status)m->status, .admin = *m});
    return r;
}

static int on_hashed(void *owner, const void *msg, int *fd)
{
    const struct auth_hashed *m = msg;
    int r;
    struct question *q = take_answer(owner, m->id, &auth_hashed_msg, &r);

    if (q)
        finish(q, &(struct auth_answer){.status = (enum auth_status)m->status, .hashed = *m});
    return r;
}

static int on_asked(void *owner, const void *msg, int *fd)
{
    const struct auth_asked *m = msg;
    int r;
    struct question *q = take_answer(owner, m->id, &auth_asked_msg, &r);

    if (q)
        finish(q, &(struct auth_answer){.status = (enum auth_status)m->status, .asked = *m});
    return r;
}

static const struct ipc_handler handlers[] = {
    {&auth_asked_msg,  ~0u, on_asked },
    {&auth_user_msg,   ~0u, on_user  },
    {&auth_token_msg,  ~0u, on_token },
    {&auth_admin_msg,  ~0u, on_admin },
    {&auth_hashed_msg, ~0u, on_hashed},
};

/* Nobody will answer these any more. */
static void give_up_open(struct auth_client *c)
{
    size_t at = 0;
    struct question *q;

    while ((q = map_next(c->open, &at, NULL)))
        answer_soon(q, AUTH_UNAVAILABLE);
}

static void on_closed(void *owner, int reason)
{
    struct auth_client *c = owner;

    c->channel = ipc_channel_free(c->channel);
    give_up_open(c);
}

int auth_client_new(struct ev_loop *loop, struct auth_client **ret_client)
{
    struct auth_client *c = calloc(1, sizeof *c);

    if (!c)
        return -ENOMEM;
    c->loop = loop;
    c->limit_ms = ANSWER_MS;
    c->open = map_new_u64();
    if (!c->open) {
        auth_client_free(c);
        return -ENOMEM;
    }
    *ret_client = c;
    return 0;
}

void auth_client_set_limit(struct auth_client *c, int64_t ms)
{
    c->limit_ms = (uint64_t)ms;
}

struct auth_client *auth_client_free(struct auth_client *c)
{
    size_t at = 0;
    struct question *q;

    if (!c)
        return NULL;
    ipc_channel_free(c->channel);
    while (c->open && (q = map_next(c->open, &at, NULL)))
        question_free(q);
    map_free(c->open);
    free(c);
    return NULL;
}

int auth_client_attach(struct auth_client *c, int fd)
{
    c->channel = ipc_channel_free(c->channel);
    give_up_open(c);
    return ipc_channel_new(c->loop, fd, handlers, ARRAY_SIZE(handlers), on_closed, c, &c->channel);
}

bool auth_client_attached(const struct auth_client *c)
{
    return c->channel;
}

static must_check struct question *question_new(struct auth_client *c, auth_answer_fn *fn,
                                                void *arg)
{
    struct question *q = calloc(1, sizeof *q);

    if (!q)
        return NULL;
    *q = (struct question){.client = c, .id = ++c->last_id, .fn = fn, .arg = arg};
    if (ev_timer_new(c->loop, on_limit, q, &q->limit) < 0 || map_put_u64(c->open, q->id, q) < 0)
        return question_free(q);
    return q;
}

/* request: the message's struct, whose first member is its id. */
static uint64_t ask(struct auth_client *c, const struct ipc_message *m, void *request,
                    const struct ipc_message *answer, auth_answer_fn *fn, void *arg)
{
    bool full = map_count(c->open) >= OPEN_MAX;
    struct question *q = question_new(c, fn, arg);

    if (!q)
        return 0;
    q->answer = answer;
    q->status = AUTH_UNAVAILABLE;
    ev_timer_arm(q->limit, c->limit_ms);
    *(uint64_t *)request = q->id;
    int r = full ? -ENOBUFS : c->channel ? ipc_send(c->channel, m, request, -EBADF) : -EPIPE;
    if (r == -EMSGSIZE || r == -ENOMEM) {
        (void)map_take_u64(c->open, q->id);
        question_free(q);
        return 0;
    }
    if (r < 0)
        answer_soon(q, r == -ENOBUFS ? AUTH_BUSY : AUTH_UNAVAILABLE);
    return q->id;
}

uint64_t auth_client_verify_user(struct auth_client *c, struct auth_verify_user q,
                                 auth_answer_fn *fn, void *arg)
{
    return ask(c, &auth_verify_user_msg, &q, &auth_user_msg, fn, arg);
}

uint64_t auth_client_verify_token(struct auth_client *c, struct auth_verify_token q,
                                  auth_answer_fn *fn, void *arg)
{
    return ask(c, &auth_verify_token_msg, &q, &auth_user_msg, fn, arg);
}

uint64_t auth_client_make_token(struct auth_client *c, struct auth_make_token q, auth_answer_fn *fn,
                                void *arg)
{
    return ask(c, &auth_make_token_msg, &q, &auth_token_msg, fn, arg);
}

uint64_t auth_client_verify_admin(struct auth_client *c, struct auth_verify_admin q,
                                  auth_answer_fn *fn, void *arg)
{
    return ask(c, &auth_verify_admin_msg, &q, &auth_admin_msg, fn, arg);
}

uint64_t auth_client_hash(struct auth_client *c, struct auth_hash q, auth_answer_fn *fn, void *arg)
{
    return ask(c, &auth_hash_msg, &q, &auth_hashed_msg, fn, arg);
}

uint64_t auth_client_ask(struct auth_client *c, struct auth_ask q, auth_answer_fn *fn, void *arg)
{
    return ask(c, &auth_ask_msg, &q, &auth_asked_msg, fn, arg);
}

void auth_client_cancel(struct auth_client *c, uint64_t id)
{
    question_free(map_take_u64(c->open, id));
}

void auth_client_log(struct auth_client *c)
{
    ipc_log_send(c->channel);
}
