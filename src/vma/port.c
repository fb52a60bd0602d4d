// SPDX-License-Identifier: GPL-3.0-or-later
/* nxagent's port as the kernel sees it: who is there, and how to end a stream. */
#include <arpa/inet.h>
#include <limits.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "vma/agent.h"

#define TCP_TABLE_MAX (4 << 20)
/* More streams at one port than nxagent ever has. */
#define STREAMS_MAX 16

/* A row: "sl local_address rem_address st ...", addresses as hex IP:PORT. */
static bool parse_row(const char *row, struct agent_stream *ret, unsigned *ret_state)
{
    return sscanf(row, " %*d: %8x:%4x %8x:%4x %2x", &ret->local, &ret->local_port, &ret->remote,
                  &ret->remote_port, ret_state) == 5;
}

enum agent_port agent_port_parse(const char *text, unsigned port, struct agent_stream *ret_stream)
{
    enum { ESTABLISHED = 1, CLOSE_WAIT = 8, LISTEN = 10 };
    enum agent_port found = AGENT_PORT_CLOSED;

    for (const char *row = text, *end; row; row = end ? end + 1 : NULL) {
        struct agent_stream stream;
        unsigned state;
        end = strchr(row, '\n');
        if (!parse_row(row, &stream, &state) || stream.local_port != port)
            continue;
        if (state == ESTABLISHED) {
            *ret_stream = stream;
            return AGENT_PORT_BUSY;
        }
        if (state == CLOSE_WAIT)
            found = AGENT_PORT_LOST;
        else if (state == LISTEN && found == AGENT_PORT_CLOSED)
            found = AGENT_PORT_FREE;
    }
    return found;
}

static enum agent_port look(unsigned port, struct agent_stream *ret_stream)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len;

    /* What cannot be read is taken for busy: nothing is decided by it alone. */
    if (fs_read("/proc/net/tcp", TCP_TABLE_MAX, &text, &len) < 0) {
        *ret_stream = (struct agent_stream){0};
        return AGENT_PORT_BUSY;
    }
    return agent_port_parse(text, port, ret_stream);
}

enum agent_port agent_port(unsigned port)
{
    struct agent_stream stream;

    return look(port, &stream);
}

static int open_diag(void)
{
    return socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
}

struct diag_answer {
    struct nlmsghdr head;
    union {
        struct nlmsgerr error;
        struct inet_diag_msg found;
        char room[1024];
    };
};

/* sock_diag(7) about one socket, which the kernel finds by its hash; it answers within the call.
 * A stream with no remote end is the listening socket. The answer's bytes, or -errno. */
static must_check int ask(int fd, uint16_t type, uint16_t flags, const struct agent_stream *stream,
                          struct diag_answer *ret)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
    } request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = type,
                 .nlmsg_flags = NLM_F_REQUEST | flags                                           },
        .body = {.sdiag_family = AF_INET,     .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0U},
    };

    request.body.id.idiag_sport = htons(stream->local_port);
    request.body.id.idiag_dport = htons(stream->remote_port);
    request.body.id.idiag_src[0] = stream->local;
    request.body.id.idiag_dst[0] = stream->remote;
    request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (send(fd, &request, sizeof request, 0) < 0)
        return -errno;
    ssize_t n = recv(fd, ret, sizeof *ret, 0);
    if (n < 0)
        return -errno;
    return (size_t)n < sizeof ret->head ? -EPROTO : (int)n;
}

static must_check int destroy(int fd, const struct agent_stream *stream)
{
    struct diag_answer answer;
    int n = ask(fd, SOCK_DESTROY, NLM_F_ACK, stream, &answer);

    if (n < 0)
        return n;
    if ((size_t)n < sizeof answer.head + sizeof answer.error ||
        answer.head.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.error.error;
}

/* Streams in the queue of the socket that listens there; -ENOENT: none listens; -errno. */
static must_check int queue_length(unsigned port)
{
    enum { LISTEN = 10 };
    const struct agent_stream socket = {.local_port = port};
    struct diag_answer answer;
    _cleanup_(close_p) int fd = open_diag();
    int n = fd < 0 ? -errno : ask(fd, SOCK_DIAG_BY_FAMILY, 0, &socket, &answer);

    if (n < 0)
        return n;
    if ((size_t)n >= sizeof answer.head + sizeof answer.error &&
        answer.head.nlmsg_type == NLMSG_ERROR)
        return answer.error.error < 0 ? answer.error.error : -EPROTO;
    if ((size_t)n < sizeof answer.head + sizeof answer.found ||
        answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.found.idiag_state != LISTEN)
        return -EPROTO;
    return answer.found.idiag_rqueue < INT_MAX ? (int)answer.found.idiag_rqueue : INT_MAX;
}

bool agent_port_waits(unsigned port)
{
    int queued = queue_length(port);

    if (queued < 0 && queued != -ENOENT) {
        log_debug("the kernel tells of no single socket (%s)", strerror(-queued));
        return agent_port(port) == AGENT_PORT_FREE;
    }
    return queued == 0;
}

int agent_cut(unsigned port)
{
    _cleanup_(close_p) int fd = -EBADF;
    struct agent_stream stream;

    for (int i = 0; i < STREAMS_MAX && look(port, &stream) == AGENT_PORT_BUSY; i++) {
        if (fd < 0)
            fd = open_diag();
        int r = fd < 0 ? -errno : destroy(fd, &stream);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

void agent_nudge(unsigned display)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    _cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && str_format(at.sun_path, sizeof at.sun_path, "/tmp/.X11-unix/X%u", display) == 0)
        (void)!connect(fd, (struct sockaddr *)&at, sizeof at);
}
