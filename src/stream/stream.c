// SPDX-License-Identifier: GPL-3.0-or-later
/* A stream's life: connecting, events, queue, marks, end. Does not know what TLS is beyond asking
 * struct stream_ops for the next step. */
#include "stream/stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "stream/stream-internal.h"

#define HIGH_MARK (64 * 1024)
#define LOW_MARK (16 * 1024)
#define QUEUE_LIMIT (1024 * 1024)
#define LINGER_MS 2000

/* One for all streams of a thread: what a read brings is passed on or queued elsewhere at once. */
static _Thread_local uint8_t scratch[STREAM_SCRATCH];

/* Those given away by stream_free_flushed(), of all loops of the thread. */
static _Thread_local struct list orphans;

static const struct stream_handlers no_handlers;

/* --- callbacks ---------------------------------------------------------------------------- */

/* While a callback runs the memory stays, whatever the owner does. */
static void hold(struct stream *s)
{
    s->depth++;
}

static void release(struct stream *s)
{
    if (--s->depth == 0 && s->freed)
        free(s);
}

bool stream_usable(const struct stream *s)
{
    return !s->freed && s->state == STREAM_OPEN;
}

void stream_fail(struct stream *s, const struct qvd_error *why)
{
    if (s->freed || s->state == STREAM_DEAD)
        return;
    s->state = STREAM_DEAD;
    s->failure = malloc(sizeof *s->failure);
    if (s->failure)
        *s->failure = *why;
    s->timer = ev_timer_free(s->timer);
    stream_update(s);
    ev_defer(s->loop, &s->later);
}

void stream_fail_errno(struct stream *s, int r, const char *what)
{
    struct qvd_error why;
    char text[160];

    /* The TLS library knows more: "tlsv13 alert certificate required". */
    if (s->ssl && r == -EPROTO)
        qvd_error_set(&why, r, "%s: %s", what, s->ops->reason(text, sizeof text));
    else
        qvd_error_errno(&why, r, "%s", what);
    stream_fail(s, &why);
}

static void tell_closed(struct stream *s)
{
    static const struct qvd_error no_memory = {-ENOMEM, "out of memory"};
    struct qvd_error why = s->failure ? *s->failure : no_memory;

    STREAM_CALL(s, closed, &why);
}

/* --- what is watched ------------------------------------------------------------------------ */

static unsigned wanted_open(const struct stream *s)
{
    unsigned events = 0;

    if (s->reading && !s->got_eof && s->in_len == 0 && !s->cipher_in)
        events |= EV_IO_IN;
    if (stream_waiting(s) || (s->finishing && !s->finished))
        events |= EV_IO_OUT;
    if (s->wants_read)
        events |= EV_IO_IN;
    if (s->wants_write)
        events |= EV_IO_OUT;
    /* A reset comes as IN; level-triggered it would come for ever while nobody reads. */
    if (!events && !s->reading && s->watch_hangup && !s->hangup_told && !s->got_eof)
        events = EV_IO_IN | EV_IO_CLOSED | EV_IO_EDGE;
    return events;
}

void stream_update(struct stream *s)
{
    unsigned events = 0;

    if (s->freed)
        return;
    switch (s->state) {
    case STREAM_CONNECTING:
        events = EV_IO_OUT;
        break;
    case STREAM_HANDSHAKE:
        events = s->wants_write ? EV_IO_OUT : EV_IO_IN;
        break;
    case STREAM_OPEN:
        events = wanted_open(s);
        break;
    case STREAM_VERIFY:
    case STREAM_DEAD:
        break;
    }
    int r = ev_io_set(s->io, events);
    if (r < 0)
        stream_fail_errno(s, r, "watching the socket");
}

/* --- in ---------------------------------------------------------------------------------- */

static void tell_eof(struct stream *s)
{
    if (!s->got_eof || s->eof_told || s->in_len > 0 || !s->reading)
        return;
    s->eof_told = true;
    STREAM_CALL(s, eof);
}

/* One look at the socket a turn: the kernel tells of what is left. */
static void read_some(struct stream *s)
{
    size_t got = 0;
    int r = s->ops->read(s, scratch, sizeof scratch, &got);

    if (got > 0)
        STREAM_CALL(s, data, scratch, got);
    if (r == 0)
        s->got_eof = true;
    if (!stream_usable(s))
        return;
    if (r < 0)
        stream_fail_errno(s, r, "receiving");
    else
        tell_eof(s);
}

/* Reading is off: has the peer gone? Nothing is taken. */
static void look_for_hangup(struct stream *s, unsigned events)
{
    uint8_t byte;
    int error = 0;
    socklen_t len = sizeof error;
    ssize_t n = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    /* After a reset the bytes that came before it can still be read: ask for the error itself. */
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error) {
        stream_fail_errno(s, error, "receiving");
    } else if (n == 0 || events & EV_IO_CLOSED) {
        s->hangup_told = true;
        STREAM_CALL(s, hangup);
    }
}

/* Of TLS: what has come with something else, which the kernel will not tell of. */
static void read_kept(struct stream *s)
{
    if (stream_usable(s) && s->reading && s->in_len == 0 && s->cipher_in)
        read_some(s);
}

static void deliver_unread(struct stream *s)
{
    _cleanup_(free_p) uint8_t *in = TAKE_PTR(s->in);
    size_t len = s->in_len;

    s->in_len = 0;
    STREAM_CALL(s, data, in, len);
    if (stream_usable(s))
        tell_eof(s);
}

int stream_unread(struct stream *s, const void *data, size_t len)
{
    if (len == 0)
        return 0;
    uint8_t *in = malloc(len + s->in_len);
    if (!in)
        return -ENOMEM;
    memcpy(in, data, len);
    if (s->in_len > 0)
        memcpy(in + len, s->in, s->in_len);
    free(s->in);
    s->in = in;
    s->in_len += len;
    s->eof_told = false;
    ev_defer(s->loop, &s->later);
    stream_update(s);
    return 0;
}

/* --- events -------------------------------------------------------------------------------- */

void stream_opened(struct stream *s)
{
    s->state = STREAM_OPEN;
    s->wants_read = s->wants_write = false;
    s->timer = ev_timer_free(s->timer);
    free(s->peer);
    s->peer = NULL;
    if (stream_waiting(s))
        stream_flush(s);
    else if (s->finishing)
        stream_finish_now(s);
    STREAM_CALL(s, open);
}

static void connected(struct stream *s)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error) {
        stream_fail_errno(s, error, "connecting");
        return;
    }
    if (s->ssl) {
        s->state = STREAM_HANDSHAKE;
        STREAM_CALL(s, dialled);
        if (!s->freed)
            s->ops->handshake(s);
    } else {
        stream_opened(s);
    }
}

static void on_open_io(struct stream *s, unsigned events)
{
    bool crossed = s->wants_read || s->wants_write;

    s->wants_read = s->wants_write = false;
    if (events & EV_IO_OUT || crossed)
        stream_flush(s);
    if (!stream_usable(s))
        return;
    if (!s->reading) {
        if (s->watch_hangup && !s->hangup_told && events & (EV_IO_IN | EV_IO_CLOSED))
            look_for_hangup(s, events);
    } else if ((events & EV_IO_IN || crossed) && !s->got_eof && s->in_len == 0) {
        read_some(s);
    }
}

static void on_io(void *arg, unsigned events)
{
    struct stream *s = arg;

    hold(s);
    switch (s->state) {
    case STREAM_CONNECTING:
        connected(s);
        break;
    case STREAM_HANDSHAKE:
        s->ops->handshake(s);
        read_kept(s);
        break;
    case STREAM_OPEN:
        on_open_io(s, events);
        break;
    case STREAM_VERIFY:
    case STREAM_DEAD:
        break;
    }
    stream_update(s);
    release(s);
}

static void on_timer(void *arg)
{
    struct stream *s = arg;

    if (s->lingering) {
        stream_free(s);
        return;
    }
    stream_fail_errno(s, ETIMEDOUT, s->state == STREAM_CONNECTING ? "connecting" : "TLS handshake");
}

/* At the end of the turn: what must not be told from inside the owner's own call. */
static void on_later(void *arg)
{
    struct stream *s = arg;

    hold(s);
    if (s->state == STREAM_DEAD) {
        tell_closed(s);
    } else {
        if (s->open_due) {
            s->open_due = false;
            stream_opened(s);
        }
        if (stream_usable(s) && s->reading && s->in_len > 0)
            deliver_unread(s);
        else if (s->cipher_in)
            read_kept(s);
        else if (stream_usable(s))
            tell_eof(s);
        stream_update(s);
    }
    release(s);
}

/* --- making and ending ---------------------------------------------------------------------- */

static must_check int arm(struct stream *s, uint64_t ms)
{
    int r = s->timer ? 0 : ev_timer_new(s->loop, on_timer, s, &s->timer);

    if (r >= 0)
        ev_timer_arm(s->timer, ms);
    return r;
}

#define KEEP_COUNT 6

/* Sends small writes at once; gives up a peer that has vanished, or whose kernel takes nothing of
 * what waits for it, after two minutes. */
void stream_tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY,      1         },
        {SOL_SOCKET,  SO_KEEPALIVE,     1         },
        {IPPROTO_TCP, TCP_KEEPIDLE,     60        },
        {IPPROTO_TCP, TCP_KEEPINTVL,    10        },
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 120000    },
        {IPPROTO_TCP, TCP_KEEPCNT,      KEEP_COUNT},
    };
    int count = 0;
    socklen_t len = sizeof count;

    /* No TCP, or it has all that from the socket that accepted it. */
    if (getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &len) < 0 || count == KEEP_COUNT)
        return;
    /* A socket that cannot is still a socket. */
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static must_check int make(struct ev_loop *loop, int fd, enum stream_state state,
                           const struct stream_handlers *handlers, void *owner,
                           struct stream **ret_stream)
{
    int flags = fcntl(fd, F_GETFL);
    struct stream *s = NULL;
    int r = flags < 0 ? -errno : 0;

    if (r >= 0 && !(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        r = -errno;
    if (r >= 0) {
        s = calloc(1, sizeof *s);
        r = s ? 0 : -ENOMEM;
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    *s = (struct stream){.loop = loop,
                         .fd = fd,
                         .state = state,
                         .ops = &stream_plain_ops,
                         .handlers = handlers ? handlers : &no_handlers,
                         .owner = owner,
                         .high = HIGH_MARK,
                         .low = LOW_MARK,
                         .limit = QUEUE_LIMIT,
                         .reading = true};
    buf_init(&s->out, 0);
    ev_deferred_init(&s->later, on_later, s);
    list_init(&s->orphan);
    stream_tune(fd);
    r = ev_io_new(loop, fd, 0, on_io, s, &s->io);
    if (r < 0) {
        stream_free(s);
        return r;
    }
    *ret_stream = s;
    return 0;
}

static must_check int begin_tls(struct stream *s, struct tls_context *tls, bool server,
                                const char *host)
{
    s->ops = ((const struct tls_context_head *)tls)->ops;
    return s->ops->begin(s, tls, server, host);
}

/* What is said and heard from now on is plain. */
static void drop_tls(struct stream *s)
{
    if (s->ops->drop)
        s->ops->drop(s);
    s->ops = &stream_plain_ops;
    free(s->cipher_in);
    free(s->cipher_out);
    s->cipher_in = s->cipher_out = NULL;
}

int stream_new(struct ev_loop *loop, int fd, struct tls_context *tls, uint64_t handshake_ms,
               const struct stream_handlers *handlers, void *owner, struct stream **ret_stream)
{
    struct stream *s;
    int r = make(loop, fd, tls ? STREAM_HANDSHAKE : STREAM_OPEN, handlers, owner, &s);

    if (r < 0)
        return r;
    if (tls) {
        r = begin_tls(s, tls, true, NULL);
        if (r >= 0 && handshake_ms)
            r = arm(s, handshake_ms);
    } else {
        s->open_due = true;
        ev_defer(loop, &s->later);
    }
    if (r < 0) {
        stream_free(s);
        return r;
    }
    stream_update(s);
    *ret_stream = s;
    return 0;
}

int stream_connect(struct ev_loop *loop, const struct stream_target *target,
                   const struct stream_handlers *handlers, void *owner, struct stream **ret_stream)
{
    struct stream *s;
    int fd = socket(target->addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    int r = make(loop, fd, STREAM_CONNECTING, handlers, owner, &s);
    if (r < 0)
        return r;
    if (target->tls)
        r = begin_tls(s, target->tls, false, target->host);
    if (r >= 0 && target->limit_ms)
        r = arm(s, target->limit_ms);
    if (r < 0) {
        stream_free(s);
        return r;
    }
    /* A refusal that comes at once is told as any other. */
    if (connect(fd, target->addr, target->addr_len) < 0 && errno != EINPROGRESS)
        stream_fail_errno(s, errno, "connecting");
    stream_update(s);
    *ret_stream = s;
    return 0;
}

int stream_adopt(struct ev_loop *loop, int fd, uint64_t limit_ms,
                 const struct stream_handlers *handlers, void *owner, struct stream **ret_stream)
{
    struct stream *s;
    int r = make(loop, fd, STREAM_CONNECTING, handlers, owner, &s);

    if (r < 0)
        return r;
    r = limit_ms ? arm(s, limit_ms) : 0;
    if (r < 0) {
        stream_free(s);
        return r;
    }
    stream_update(s);
    *ret_stream = s;
    return 0;
}

struct stream *stream_free(struct stream *s)
{
    if (!s || s->freed)
        return NULL;
    s->freed = true;
    list_remove(&s->orphan);
    ev_deferred_cancel(&s->later);
    s->io = ev_io_free(s->io);
    s->timer = ev_timer_free(s->timer);
    drop_tls(s);
    s->fd = fd_close(s->fd);
    buf_done(&s->out);
    free(s->in);
    free(s->peer);
    free(s->failure);
    if (s->depth == 0)
        free(s);
    return NULL;
}

static void linger_eof(void *owner)
{
    struct stream *s = owner;

    if (!stream_waiting(s) && s->finished && s->got_eof)
        stream_free(s);
}

static void linger_closed(void *owner, const struct qvd_error *why)
{
    stream_free(owner);
}

static const struct stream_handlers linger_handlers = {
    .eof = linger_eof, .flushed = linger_eof, .closed = linger_closed};

/* The alert that tells the peer why must not be lost to a reset for what he has sent since. */
static void part_after_handshake(struct stream *s)
{
    drop_tls(s);
    s->state = STREAM_OPEN;
    ev_deferred_cancel(&s->later);
    buf_done(&s->out);
}

struct stream *stream_free_flushed(struct stream *s, uint64_t limit_ms)
{
    if (!s || s->freed)
        return NULL;
    if (s->state == STREAM_DEAD && s->refused)
        part_after_handshake(s);
    if (s->state != STREAM_OPEN || arm(s, limit_ms ? limit_ms : LINGER_MS) < 0)
        return stream_free(s);
    s->lingering = true;
    if (!orphans.next)
        list_init(&orphans);
    list_append(&orphans, &s->orphan);
    s->handlers = &linger_handlers;
    s->owner = s;
    free(s->in);
    s->in = NULL;
    s->in_len = 0;
    stream_finish(s);
    if (s->state != STREAM_OPEN)
        return NULL; /* linger_closed() follows */
    if (s->got_eof && s->finished)
        return stream_free(s);
    s->reading = true;
    if (s->cipher_in)
        ev_defer(s->loop, &s->later);
    stream_update(s);
    return NULL;
}

void stream_end_lingering(struct ev_loop *loop)
{
    if (!orphans.next)
        return;
    QVD_LIST_FOREACH (s, &orphans, struct stream, orphan) {
        if (s->loop == loop)
            stream_free(s);
    }
}

/* --- settings and questions ------------------------------------------------------------------- */

void stream_set_handlers(struct stream *s, const struct stream_handlers *handlers, void *owner)
{
    s->handlers = handlers ? handlers : &no_handlers;
    s->owner = owner;
    /* A failure that the former owner has not heard of, or has not acted on, is told again. */
    if (s->state == STREAM_DEAD)
        ev_defer(s->loop, &s->later);
}

void stream_set_marks(struct stream *s, size_t high, size_t low, size_t limit)
{
    s->high = high;
    s->low = low;
    s->limit = limit;
}

bool stream_congested(const struct stream *s)
{
    return s->congested;
}

size_t stream_queued(const struct stream *s)
{
    const struct stash *k = s->cipher_out;

    return s->out.len + (k ? k->len - k->at : 0);
}

void stream_set_reading(struct stream *s, bool on)
{
    if (s->reading == on)
        return;
    s->reading = on;
    if (on && (s->in_len > 0 || s->cipher_in || (s->got_eof && !s->eof_told)))
        ev_defer(s->loop, &s->later);
    stream_update(s);
}

void stream_watch_hangup(struct stream *s, bool on)
{
    s->watch_hangup = on;
    stream_update(s);
}

bool stream_is_open(const struct stream *s)
{
    return s->state == STREAM_OPEN;
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}
