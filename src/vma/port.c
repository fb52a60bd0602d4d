// SPDX-License-Identifier: GPL-3.0-or-later
/* nxagent's port as the kernel sees it: who is there, and how to end a stream. */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fs.h"
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

/* sock_diag(7), SOCK_DESTROY. The kernel answers within the call. */
static must_check int destroy(int fd, const struct agent_stream *stream)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
    } request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = SOCK_DESTROY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK                                       },
        .body = {.sdiag_family = AF_INET,     .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0U},
    };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr body;
        char more[256];
    } answer;

    request.body.id.idiag_sport = htons(stream->local_port);
    request.body.id.idiag_dport = htons(stream->remote_port);
    request.body.id.idiag_src[0] = stream->local;
    request.body.id.idiag_dst[0] = stream->remote;
    request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (send(fd, &request, sizeof request, 0) < 0)
        return -errno;
    ssize_t n = recv(fd, &answer, sizeof answer, 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < sizeof answer.head + sizeof answer.body ||
        answer.head.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.body.error;
}

int agent_cut(unsigned port)
{
    _cleanup_(close_p) int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    struct agent_stream stream;

    if (fd < 0)
        return -errno;
    for (int i = 0; i < STREAMS_MAX && look(port, &stream) == AGENT_PORT_BUSY; i++) {
        int r = destroy(fd, &stream);
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
