// SPDX-License-Identifier: GPL-3.0-or-later
/* The plain side of the table of operations, and names of sockets. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/str.h"
#include "stream/stream-internal.h"

ssize_t stream_recv(struct stream *s, void *data, size_t len)
{
    ssize_t n;

    do
        n = recv(s->fd, data, len, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int plain_read(struct stream *s, void *data, size_t len, size_t *ret_got)
{
    ssize_t n = stream_recv(s, data, len < STREAM_TURN_MAX ? len : STREAM_TURN_MAX);

    *ret_got = n > 0 ? (size_t)n : 0;
    return n > 0 || n == -EAGAIN ? 1 : (int)n;
}

ssize_t stream_send(struct stream *s, const void *data, size_t len)
{
    ssize_t n;

    do
        n = send(s->fd, data, len, MSG_NOSIGNAL | (s->parting ? MSG_MORE : 0));
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int plain_flush(struct stream *s)
{
    return 0;
}

static int plain_finish(struct stream *s)
{
    return shutdown(s->fd, SHUT_WR) < 0 ? -errno : 0;
}

const struct stream_ops stream_plain_ops = {
    .read = plain_read, .write = stream_send, .flush = plain_flush, .finish = plain_finish};

const char *stream_peer_name(const struct stream *s, char *dst)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage storage;
    } addr = {0};
    socklen_t len = sizeof addr;
    char digits[INET6_ADDRSTRLEN];
    int r = -EINVAL;

    if (getpeername(s->fd, &addr.sa, &len) == 0 && addr.sa.sa_family == AF_INET &&
        inet_ntop(AF_INET, &addr.in.sin_addr, digits, sizeof digits))
        r = str_format(dst, STREAM_NAME_MAX, "%s:%u", digits, ntohs(addr.in.sin_port));
    else if (addr.sa.sa_family == AF_INET6 &&
             inet_ntop(AF_INET6, &addr.in6.sin6_addr, digits, sizeof digits))
        r = str_format(dst, STREAM_NAME_MAX, "[%s]:%u", digits, ntohs(addr.in6.sin6_port));
    if (r < 0)
        r = str_copy(dst, STREAM_NAME_MAX, "local");
    return r < 0 ? "local" : dst;
}
