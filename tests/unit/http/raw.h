// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A server's end whose other side is a raw socket: what goes over the wire is told byte by byte. */

#include "base/buf.h"
#include "http/server.h"

struct raw {
    struct http_server *server;
    int fd;
    struct buf got;  /* what the server sent */
    struct buf seen; /* "GET /path body;" a request */
    struct buf streamed;
    int hangups, closes, close_code;
    enum { ANSWER_NOW, ANSWER_LATER, ANSWER_UPGRADE, ANSWER_HEAD } mode;
    int64_t body_max;
    bool reads_on; /* a half-closed peer gets its answer */
    struct stream *upgraded;
    struct buf raw_bytes;
};

extern struct ev_loop *loop;
extern const struct http_server_ops raw_ops;

void turns(int n);
void raw_start(struct raw *r, const struct http_server_limits *limits);
/* In pieces of so many bytes. */
void raw_send(struct raw *r, const char *text, size_t piece);
/* What has come so far; "EOF" is appended when the server has ended. */
const char *raw_got(struct raw *r);
void raw_done(struct raw *r);
/* The requests that came. */
const char *seen(struct raw *r);
