// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "http/body-internal.h"
#include "http/server.h"

enum server_state {
    SERVER_IDLE,      /* between requests */
    SERVER_HEAD,      /* its first byte has come */
    SERVER_BODY,      /* its head has come */
    SERVER_PENDING,   /* the owner has it */
    SERVER_ANSWERING, /* the owner writes an answer in pieces */
    SERVER_DEAD,
};

struct http_server {
    struct ev_loop *loop;
    struct stream *stream;
    struct ev_timer *timer;
    const struct http_server_ops *ops;
    void *owner;
    void (*writable)(void *owner);
    struct http_server_limits limits;
    struct buf in;
    struct http_head *head;
    struct buf body;
    struct http_body decoder;
    uint64_t to_write; /* of an answer in pieces */
    struct ev_deferred later;
    struct qvd_error why;
    enum server_state state;
    unsigned depth;
    bool streamed, body_paused, close_after, half_closed, served, told, freed;
};

void http_server_die(struct http_server *c, int code, const char *text);
