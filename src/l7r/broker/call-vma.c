// SPDX-License-Identifier: GPL-3.0-or-later
/* Dials into a VM: for qvd-rpc, which speaks with its agent, and for the worker, which relays. Not
 * a byte of the VM is read here. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "l7r/broker/broker-internal.h"

int session_dial_socket(const struct session *s, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int on = 1;

    if (inet_pton(AF_INET, s->address, &to.sin_addr) != 1)
        return -EINVAL;
    _cleanup_(close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        return -errno;
    return TAKE_FD(fd);
}

int session_call_vma(struct session *s, const char *function, const char *body, uint32_t timeout_ms,
                     rpc_client_fn *fn)
{
    struct rpc_call call = {
        .function = function,
        .serial = s->id,
        .timeout_ms = timeout_ms,
        .secret = {s->vm_secret, sizeof s->vm_secret},
        .body = body
    };
    int fd = session_dial_socket(s, s->vma_port);

    if (fd < 0)
        return fd;
    return rpc_client_call(s->broker->rpc, &call, fd, fn, s, &s->rpc);
}
