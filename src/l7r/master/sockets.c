// SPDX-License-Identifier: GPL-3.0-or-later
/* The listening sockets: one a slot, SO_REUSEPORT, bound once and never closed, so that no
 * connection is lost while workers come and go. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/port.h"
#include "base/str.h"
#include "ev/service.h"
#include "l7r/master/master-internal.h"

#define BACKLOG 1024

static must_check int add(struct master *m, int fd, struct qvd_error *err)
{
    if (m->n_slots == SLOTS_MAX) {
        (void)fd_close(fd);
        return qvd_error_set(err, -E2BIG, "l7r.workers and l7r.address: more than %d sockets",
                             SLOTS_MAX);
    }
    m->slots[m->n_slots++] = (struct slot){.master = m, .fd = fd};
    return 0;
}

static must_check int take_inherited(struct master *m, struct qvd_error *err)
{
    int fds[SLOTS_MAX];
    int n = service_listen_fds("l7r", fds, ARRAY_SIZE(fds)), r = 0;

    for (int i = 0; i < n && r == 0; i++) {
        r = fs_set_nonblock(fds[i]);
        if (r < 0)
            return qvd_error_errno(err, r, "inherited socket %d", fds[i]);
        r = add(m, fds[i], err);
    }
    return r < 0 ? r : n;
}

/* Fills *ret_addr: the length, or 0 when it is no address. */
static socklen_t address_of(const char *word, uint16_t port, bool v4, struct sockaddr_storage *addr)
{
    struct sockaddr_in *in = (struct sockaddr_in *)addr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;
    bool any = strcmp(word, "*") == 0;

    memset(addr, 0, sizeof *addr);
    if (inet_pton(AF_INET, any ? "0.0.0.0" : word, &in->sin_addr) == 1 && (v4 || !any)) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        return sizeof *in;
    }
    memset(addr, 0, sizeof *addr);
    if (!v4 && inet_pton(AF_INET6, any ? "::" : word, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        return sizeof *in6;
    }
    return 0;
}

/* A listening socket or -errno; * is both families where there is IPv6. shared: others of ours may
 * listen there too. */
static must_check int listen_at(const char *word, uint16_t port, bool v4, bool shared)
{
    struct sockaddr_storage addr;
    socklen_t len = address_of(word, port, v4, &addr);
    const int on = 1, off = 0;

    if (!len)
        return -EINVAL;
    _cleanup_(close_p) int fd =
        socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && strcmp(word, "*") == 0 && !v4)
        return listen_at(word, port, true, shared);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0))
        return -errno;
    if (addr.ss_family == AF_INET6 && strcmp(word, "*") == 0)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Nobody else is there, nor an L7R that we would share its connections with. */
static must_check int is_free(const char *word, uint16_t port, struct qvd_error *err)
{
    char who[200];
    int fd = listen_at(word, port, false, false);

    if (fd >= 0) {
        (void)fd_close(fd);
        return 0;
    }
    if (fd == -EADDRINUSE)
        return qvd_error_set(err, fd, "l7r.port = %u is taken: %s", port,
                             port_holder(port, who, sizeof who));
    return qvd_error_errno(err, fd, "l7r.address = %s, l7r.port = %u: cannot listen", word, port);
}

int sockets_open(struct master *m, struct qvd_error *err)
{
    const char *list = conf_str(m->conf, "l7r.address"), *at = NULL;
    uint16_t port = (uint16_t)conf_int(m->conf, "l7r.port");
    int64_t workers = conf_int(m->conf, "l7r.workers");
    char word[64];
    int r = take_inherited(m, err);

    if (r != 0)
        return r < 0 ? r : 0;
    while (conf_list_next(list, &at, word, sizeof word)) {
        r = is_free(word, port, err);
        if (r < 0)
            return r;
        for (int64_t i = 0; i < workers; i++) {
            r = listen_at(word, port, false, true);
            if (r < 0)
                return qvd_error_errno(err, r, "l7r.address = %s, l7r.port = %u: cannot listen",
                                       word, port);
            r = add(m, r, err);
            if (r < 0)
                return r;
        }
    }
    return m->n_slots ? 0 : qvd_error_set(err, -EINVAL, "l7r.address: no address");
}
