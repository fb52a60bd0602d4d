// SPDX-License-Identifier: GPL-3.0-or-later
/* A worker: its channel, what is known of its clients' connections, and its messages turned into
 * sessions' events. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

/* A limit that is passed is told at most so often. */
#define FULL_MS 60000

enum link_state { LINK_NEW, LINK_OPEN };

struct conn *link_conn(struct link *l, uint64_t conn)
{
    return map_get_u64(l->conns, conn);
}

static void conn_free(struct conn *c)
{
    free(c->params);
    free(c->login);
    explicit_bzero(c, sizeof *c);
    free(c);
}

void link_tell_full(struct link *l, const char *what)
{
    int64_t now = clock_ms();

    if (l->told_full && now - l->told_full < FULL_MS)
        return;
    l->told_full = now;
    log_error("worker %u tells of more %s: refused", l->slot, what);
}

void link_forget(struct link *l, uint64_t conn)
{
    struct conn *c = map_take_u64(l->conns, conn);

    if (c)
        conn_free(c);
}

static must_check struct conn *conn_get(struct link *l, uint64_t id)
{
    struct conn *c = link_conn(l, id);

    if (c)
        return c;
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->id = id;
    if (map_put_u64(l->conns, id, c) < 0) {
        free(c);
        return NULL;
    }
    return c;
}

/* Messages --------------------------------------------------------------------------------------
 */

static int on_hello(void *owner, const void *msg, int *fd)
{
    struct link *l = owner;
    const struct l7r_hello *m = msg;
    struct l7r_welcome w = {.instance = l->broker->instance};

    if (m->version != L7R_VERSION) {
        log_error("worker %u speaks version %u of our messages, not %d: it is left alone", m->slot,
                  m->version, L7R_VERSION);
        return -EPROTO;
    }
    l->slot = m->slot;
    l->generation = m->generation;
    l->welcome = true;
    ipc_channel_set_state(l->channel, LINK_OPEN);
    return ipc_send(l->channel, &l7r_welcome_msg, &w, -EBADF);
}

static int on_resync(void *owner, const void *msg, int *fd)
{
    struct link *l = owner;
    const struct l7r_resync *m = msg;
    size_t n = m->sessions.len / sizeof(uint64_t);

    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        memcpy(&id, (const char *)m->sessions.data + i * sizeof id, sizeof id);
        reconcile_adopt(l, id);
    }
    if (m->last) {
        l->resynced = true;
        reconcile_now(l->broker);
    }
    return 0;
}

/* 0; -EBADMSG: not "key NUL value NUL"; -ENOMEM. */
static must_check int take_request(struct session *s, const struct l7r_request *m)
{
    const char *p = m->params.data;
    size_t nuls = 0;

    for (size_t i = 0; i < m->params.len; i++)
        nuls += p[i] == 0;
    if (nuls % 2 != 0 || (m->params.len && p[m->params.len - 1] != 0))
        return -EBADMSG;
    if (str_copy(s->source, sizeof s->source, m->source) < 0)
        return -EBADMSG;
    s->client = strdup(m->client);
    s->flaw_text = str_printf("%.190s", m->flaw_text);
    s->credentials = (enum l7r_credentials)m->credentials;
    s->vm_id = m->vm_id;
    s->flaw = m->flaw;
    s->store_auth = m->store_auth;
    s->phases.tls = m->tls_ms;
    s->login = strdup(m->login);
    s->secret = strdup(m->secret);
    s->params = malloc(m->params.len + 1);
    if (!s->client || !s->flaw_text || !s->login || !s->secret || !s->params)
        return -ENOMEM;
    if (m->params.len)
        memcpy(s->params, p, m->params.len);
    s->params_len = m->params.len;
    if (!auth_env_valid(m->env))
        return -EBADMSG;
    s->file_name = strdup(m->file_name);
    s->env = malloc(m->env.len + 1);
    if (!s->file_name || !s->env)
        return -ENOMEM;
    if (m->env.len)
        memcpy(s->env, m->env.data, m->env.len);
    s->env_len = m->env.len;
    return 0;
}

/* A worker counts its connections itself; one that does not shall not fill our memory. The node's
 * limit, as one that was lowered a moment ago has more than its part. */
static bool is_full(const struct link *l)
{
    return map_count(l->conns) >= (size_t)conf_int(l->broker->conf, "l7r.limit.connections");
}

static int refuse(struct link *l, uint64_t conn)
{
    static const char text[] = "Too many connections. Retry later\r\n";
    const struct l7r_answer a = {
        .conn = conn,
        .status = 503,
        .type = "text/plain",
        .retry_after = 5,
        .last = true,
        .body = {text, sizeof text - 1}
    };

    link_tell_full(l, "connections than l7r.limit.connections");
    return ipc_send(l->channel, &l7r_answer_msg, &a, -EBADF);
}

static int on_request(void *owner, const void *msg, int *fd)
{
    struct link *l = owner;
    const struct l7r_request *m = msg;

    if (!link_conn(l, m->conn) && is_full(l))
        return refuse(l, m->conn);
    struct conn *c = conn_get(l, m->conn);

    if (!c)
        return -ENOMEM;
    if (c->session)
        return -EPROTO; /* one request at a time */
    struct session *s = session_new(l->broker, l, m->conn, (enum l7r_kind)m->kind);
    if (!s)
        return -ENOMEM;
    c->session = s;
    l->broker->counters.http_requests++;
    int r = take_request(s, m);
    if (r < 0) {
        session_abort(s, "malformed request");
        return r;
    }
    session_event(s, s->kind == L7R_PING ? SESSION_EV_OPEN : SESSION_EV_DONE);
    return 0;
}

static int on_here(void *owner, const void *msg, int *fd)
{
    const struct l7r_here *m = msg;
    struct conn *c = link_conn(owner, m->conn);

    if (c && c->session && c->session->step == SESSION_ASK)
        session_event(c->session, SESSION_EV_DONE);
    return 0;
}

static int on_gone(void *owner, const void *msg, int *fd)
{
    struct link *l = owner;
    const struct l7r_gone *m = msg;
    struct conn *c = link_conn(l, m->conn);
    struct session *s = c ? c->session : NULL;

    link_forget(l, m->conn);
    if (s) {
        s->conn = 0;
        session_abort(s, "the client has gone");
    }
    return 0;
}

static struct session *find_closed(struct link *l, uint64_t id)
{
    struct session *s = map_get_u64(l->broker->by_id, id);

    if (!s) {
        /* Told before, or by a worker that outlived a broker: written (again), then acknowledged.
         */
        reconcile_adopt(l, id);
        s = map_get_u64(l->broker->by_id, id);
    }
    return s;
}

static int on_closed(void *owner, const void *msg, int *fd)
{
    struct link *l = owner;
    const struct l7r_closed *m = msg;
    struct session *s = find_closed(l, m->session);

    link_forget(l, m->conn);
    if (!s)
        return -ENOMEM;
    if (s->link && s->link != l)
        return -EPROTO; /* another worker's */
    s->conn = 0;
    s->bytes_in = m->bytes_in;
    s->bytes_out = m->bytes_out;
    s->phases.first_byte = m->first_byte_ms;
    session_set_reason(s, m->reason);
    if (s->step == SESSION_CONNECTED || s->step == SESSION_CUT)
        session_event(s, m->bytes_in || m->bytes_out ? SESSION_EV_ENDED : SESSION_EV_UNUSED);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&l7r_hello_msg,   1u << LINK_NEW,  on_hello  },
    {&l7r_resync_msg,  1u << LINK_OPEN, on_resync },
    {&l7r_request_msg, 1u << LINK_OPEN, on_request},
    {&l7r_here_msg,    1u << LINK_OPEN, on_here   },
    {&l7r_gone_msg,    1u << LINK_OPEN, on_gone   },
    {&l7r_closed_msg,  1u << LINK_OPEN, on_closed },
};

/* Life ------------------------------------------------------------------------------------------
 */

/* Nobody relays any more what it had. */
static void orphan_sessions(struct link *l)
{
    QVD_LIST_FOREACH (s, &l->broker->sessions, struct session, node) {
        if (s->link != l)
            continue;
        s->link = NULL;
        s->conn = 0;
        session_set_reason(s, "its worker has ended");
        if (s->step == SESSION_CONNECTED || s->step == SESSION_CUT)
            session_event(s, SESSION_EV_ENDED);
        else
            session_abort(s, "its worker has ended");
    }
}

static void reap(void *arg)
{
    (void)link_free(arg);
}

static void closed(void *owner, int reason)
{
    struct link *l = owner;

    if (reason < 0)
        log_error("worker %u sent what it may not (%s); its channel is closed", l->slot,
                  strerror(-reason));
    l->dead = true;
    orphan_sessions(l);
    ev_defer(l->broker->loop, &l->reap);
}

struct link *link_free(struct link *l)
{
    size_t at = 0;
    struct conn *c;

    if (!l)
        return NULL;
    ev_deferred_cancel(&l->reap);
    if (!l->dead)
        orphan_sessions(l);
    list_remove(&l->node);
    l->channel = ipc_channel_free(l->channel);
    while (l->conns && (c = map_next(l->conns, &at, NULL)))
        conn_free(c);
    l->conns = map_free(l->conns);
    free(l);
    return NULL;
}

int link_new(struct broker *b, int fd, const struct l7r_link *m)
{
    struct link *l = calloc(1, sizeof *l);
    int r;

    if (!l) {
        (void)fd_close(fd);
        return -ENOMEM;
    }
    l->broker = b;
    l->slot = m->slot;
    l->generation = m->generation;
    l->conns = map_new_u64();
    list_append(&b->links, &l->node);
    ev_deferred_init(&l->reap, reap, l);
    r = ipc_channel_new(b->loop, fd, handlers, ARRAY_SIZE(handlers), closed, l, &l->channel);
    if (r == 0 && !l->conns)
        r = -ENOMEM;
    if (r < 0)
        (void)link_free(l);
    return r;
}
