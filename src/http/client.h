// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The client's end of an HTTP/1.1 connection: one request at a time; 1xx told by a callback; 101
 * turns it into a raw stream. */

#include "http/head.h"
#include "stream/stream.h"

struct http_client;

/* In any callback the client may be freed, or the next request be made. head and body live until
 * it returns. */
struct http_client_ops {
    /* A 1xx other than 101. May be NULL. */
    void (*interim)(void *owner, const struct http_head *head);
    /* The final answer, whole; body has a NUL behind it. */
    void (*answer)(void *owner, const struct http_head *head, const char *body, size_t len);
    /* 101: the stream is the owner's (early bytes in front, reading off), the client is spent and
     * may only be freed. May be NULL: then 101 is a failure. */
    void (*upgraded)(void *owner, const struct http_head *head, struct stream *s);
    /* The request's body may be written on. May be NULL. */
    void (*writable)(void *owner);
    /* The connection is over, in the midst of a request or between two (why->code 0: the peer has
     * ended it in good order between two). The owner frees it, now or later. */
    void (*closed)(void *owner, const struct qvd_error *why);
};

/* Takes over the stream (also on failure), which may still be connecting; body_max: the largest
 * answer. */
must_check int http_client_new(struct ev_loop *loop, struct stream *s, size_t body_max,
                               const struct http_client_ops *ops, void *owner,
                               struct http_client **ret_client);
struct http_client *http_client_free(struct http_client *c);
struct stream *http_client_stream(struct http_client *c);

struct http_client_request {
    const char *method, *target;
    const char *host; /* NULL: no Host header */
    const struct http_header *headers;
    size_t n_headers;
    const void *body;    /* NULL with body_len > 0: it follows by http_client_write() */
    uint64_t body_len;   /* 0: no Content-Length unless the method is POST or PUT */
    uint64_t timeout_ms; /* to the final answer; 0: none. Starts anew with each 1xx */
};
/* 0; -EBUSY: the last is not answered; -EINVAL: a control character in it; -EPIPE; -ENOMEM. */
must_check int http_client_send(struct http_client *c, const struct http_client_request *r);
must_check int http_client_write(struct http_client *c, const void *data, size_t len);
/* The server keeps the connection open for another request. */
bool http_client_reusable(const struct http_client *c);
