// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/channel.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define QUEUE_MAX 256
/* Messages taken in one turn, so that one busy peer does not starve the others. */
#define TURN_MAX 64

struct queued {
    struct list node;
    int fd;
    size_t len;
    char data[];
};

struct ipc_channel {
    struct ev_loop *loop;
    struct ev_io *io;
    int fd;
    const struct ipc_handler *handlers;
    size_t n_handlers;
    unsigned state;
    ipc_closed_fn *closed;
    void *owner;
    bool dead;
    int reason;
    struct ev_deferred tell;
    struct list queue;
    size_t n_queued;
};

union fd_space {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int) * 4)];
};

int ipc_pair(int ret_fds[2])
{
    int r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds);

    return r < 0 ? -errno : 0;
}

static void tell_closed(void *arg)
{
    struct ipc_channel *c = arg;

    c->closed(c->owner, c->reason);
}

static void die(struct ipc_channel *c, int reason)
{
    if (c->dead)
        return;
    c->dead = true;
    c->reason = reason;
    c->io = ev_io_free(c->io);
    ev_defer(c->loop, &c->tell);
}

/* 0, -EAGAIN, or another -errno. */
static must_check int send_now(struct ipc_channel *c, const void *data, size_t len, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    union fd_space space = {0};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        mh.msg_control = &space;
        mh.msg_controllen = CMSG_SPACE(sizeof fd);
        struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(cm), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static void unqueue(struct ipc_channel *c, struct queued *q)
{
    list_remove(&q->node);
    c->n_queued--;
    fd_close(q->fd);
    free(q);
}

static void flush(struct ipc_channel *c)
{
    QVD_LIST_FOREACH (q, &c->queue, struct queued, node) {
        int r = send_now(c, q->data, q->len, q->fd);
        if (r == -EAGAIN)
            return;
        unqueue(c, q);
        if (r < 0) {
            die(c, r);
            return;
        }
    }
    int r = ev_io_set(c->io, EV_IO_IN);
    if (r < 0)
        die(c, r);
}

static must_check int enqueue(struct ipc_channel *c, const struct buf *b, int fd)
{
    if (c->n_queued >= QUEUE_MAX)
        return -ENOBUFS;
    struct queued *q = malloc(sizeof *q + b->len);
    if (!q)
        return -ENOMEM;
    q->fd = fd < 0 ? -EBADF : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0 && q->fd < 0) {
        free(q);
        return -errno;
    }
    q->len = b->len;
    memcpy(q->data, b->data, b->len);
    list_init(&q->node);
    list_append(&c->queue, &q->node);
    c->n_queued++;
    return ev_io_set(c->io, EV_IO_IN | EV_IO_OUT);
}

int ipc_send(struct ipc_channel *c, const struct ipc_message *m, const void *msg, int fd)
{
    _cleanup_(buf_done_p) struct buf b = {.limit = 2 * IPC_MAX};

    if (c->dead)
        return -EPIPE;
    if (m->fd != (fd >= 0))
        return -EINVAL;
    int r = ipc_encode(m, msg, &b);
    if (r < 0)
        return r;
    r = list_empty(&c->queue) ? send_now(c, b.data, b.len, fd) : -EAGAIN;
    if (r == -EAGAIN)
        return enqueue(c, &b, fd);
    if (r < 0)
        die(c, r);
    return r < 0 ? -EPIPE : 0;
}

static const struct ipc_handler *find_handler(const struct ipc_channel *c, uint16_t type)
{
    for (size_t i = 0; i < c->n_handlers; i++)
        if (c->handlers[i].message->type == type)
            return c->handlers[i].states & 1u << c->state ? &c->handlers[i] : NULL;
    return NULL;
}

static must_check int dispatch(struct ipc_channel *c, const void *data, size_t len, int *fd)
{
    uint64_t msg[IPC_MAX / 64]; /* aligned room for any message struct */
    uint16_t type;

    if (ipc_peek(data, len, &type) < 0)
        return -EBADMSG;
    const struct ipc_handler *h = find_handler(c, type);
    if (!h || h->message->size > sizeof msg || h->message->fd != (*fd >= 0))
        return -EBADMSG;
    int r = ipc_decode(h->message, data, len, msg);
    return r < 0 ? r : h->fn(c->owner, msg, fd);
}

/* One descriptor at most; with more, all are closed. */
static must_check int take_fd(struct msghdr *mh, int *ret_fd)
{
    size_t count = 0;

    for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cm) + i * sizeof fd, sizeof fd);
            if (count++ == 0)
                *ret_fd = fd;
            else
                close(fd);
        }
    }
    return count > 1 ? -EBADMSG : 0;
}

/* 1: took one; 0: nothing to take; negative: the channel is finished (-EPIPE: the peer has gone).
 */
static must_check int receive_one(struct ipc_channel *c)
{
    static _Alignas(8) char data[IPC_MAX];
    struct iovec iov = {data, sizeof data};
    union fd_space space;
    struct msghdr mh = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof space};
    _cleanup_(close_p) int fd = -EBADF;

    ssize_t n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    int r = take_fd(&mh, &fd);
    if (n == 0)
        return -EPIPE;
    /* Truncated: a too long message, or a descriptor lost for want of a free number. */
    if (r < 0 || mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return -EBADMSG;
    r = dispatch(c, data, n, &fd);
    return r < 0 ? r : 1;
}

static void on_io(void *arg, unsigned events)
{
    struct ipc_channel *c = arg;

    if (events & EV_IO_OUT)
        flush(c);
    if (!(events & EV_IO_IN))
        return;
    for (int i = 0; i < TURN_MAX && !c->dead; i++) {
        int r = receive_one(c);
        if (r == 0)
            return;
        if (r < 0)
            die(c, r == -EPIPE || r == -ECONNRESET ? 0 : r);
    }
}

int ipc_channel_new(struct ev_loop *loop, int fd, const struct ipc_handler *handlers,
                    size_t n_handlers, ipc_closed_fn *closed, void *owner,
                    struct ipc_channel **ret_channel)
{
    struct ipc_channel *c = calloc(1, sizeof *c);

    if (!c) {
        fd_close(fd);
        return -ENOMEM;
    }
    *c = (struct ipc_channel){.loop = loop,
                              .fd = fd,
                              .handlers = handlers,
                              .n_handlers = n_handlers,
                              .closed = closed,
                              .owner = owner};
    list_init(&c->queue);
    ev_deferred_init(&c->tell, tell_closed, c);
    int r = ev_io_new(loop, fd, EV_IO_IN, on_io, c, &c->io);
    if (r < 0) {
        ipc_channel_free(c);
        return r;
    }
    *ret_channel = c;
    return 0;
}

struct ipc_channel *ipc_channel_free(struct ipc_channel *c)
{
    if (c) {
        QVD_LIST_FOREACH (q, &c->queue, struct queued, node)
            unqueue(c, q);
        ev_deferred_cancel(&c->tell);
        ev_io_free(c->io);
        fd_close(c->fd);
        free(c);
    }
    return NULL;
}

void ipc_channel_set_state(struct ipc_channel *c, unsigned state)
{
    c->state = state;
}

size_t ipc_channel_queued(const struct ipc_channel *c)
{
    return c->n_queued;
}
