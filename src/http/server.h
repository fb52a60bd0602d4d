// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The server's end of an HTTP/1.1 connection: one request after the other, interim answers, final
 * answers with Content-Length, Upgrade to a raw stream. It notices a peer that goes away while its
 * request waits. Knows no paths. */

#include "http/head.h"
#include "stream/stream.h"

struct http_server;

/* In any callback the connection may be freed, or answered at once. */
struct http_server_ops {
    /* A request: its body (if any) is whole, NUL-ended; head and body live until the answer. The
     * owner answers, now or later. */
    void (*request)(void *owner, const struct http_head *head, const char *body, size_t len);
    /* May be NULL. Asked when the head of a request is there: the largest body it may have, or -1:
     * it comes in pieces by body() and request() comes after the last with len 0. Answering here
     * already (401, 413...) is fine: the connection then closes unless there is no body. Without
     * it, limits.body_max holds for all. */
    int64_t (*head)(void *owner, const struct http_head *head);
    /* A piece of a streamed body. http_server_pause_body() slows it down. */
    void (*body)(void *owner, const uint8_t *data, size_t len);
    /* The peer has gone while its request waits for its answer; the owner frees the connection, now
     * or later. May be NULL: then closed(). */
    void (*hangup)(void *owner);
    /* The peer sends no more while its request waits, but may still read: true: it gets its answer
     * (and those to what it has sent behind), then the end. False or NULL: it has gone. */
    bool (*half_closed)(void *owner);
    /* The connection is over; the owner frees it, now or later. why->code 0: in good order. */
    void (*closed)(void *owner, const struct qvd_error *why);
};

struct http_server_limits {
    uint64_t head_ms;  /* from the first byte of a request to the end of its head and body */
    uint64_t first_ms; /* to the first byte of the first request; 0: none */
    uint64_t idle_ms;  /* between requests (http_server_set_idle()); 0: none */
    uint64_t send_ms;  /* for the peer to take an answer; 0: none */
    size_t body_max;   /* 0: no bodies (413) */
    size_t head_max;   /* 0: HTTP_HEAD_MAX */
};
extern const struct http_server_limits http_server_limits_default; /* 10 s, 10 s, 60 s, 30 s, 0 */

/* Takes over the stream (also on failure), which may still be in its handshake. */
must_check int http_server_new(struct ev_loop *loop, struct stream *s,
                               const struct http_server_limits *limits,
                               const struct http_server_ops *ops, void *owner,
                               struct http_server **ret_server);
/* What was answered is still sent. NULL-safe, always NULL. */
struct http_server *http_server_free(struct http_server *c);
struct stream *http_server_stream(struct http_server *c);
/* From now on idle connections live this long; 0: for ever. */
void http_server_set_idle(struct http_server *c, uint64_t ms);
/* The connection closes after the present answer. */
void http_server_close_after(struct http_server *c);
/* A request waits for its answer. */
bool http_server_pending(const struct http_server *c);
void http_server_pause_body(struct http_server *c, bool pause);

/* A 1xx head but 101, with one header if name is not NULL. Names are sent as they are; values with
 * control characters are refused (-EINVAL). 0, -EPIPE, -ENOBUFS, -ENOMEM. */
must_check int http_server_interim(struct http_server *c, int status, const char *name,
                                   const char *value);

/* The final answer: Content-Type, Content-Length, then headers (n may be 0), then the body.
 * len 0 with a status other than 204 and 304 sends the reason phrase as the body. 0, -EINVAL,
 * -EPIPE, -ENOBUFS, -ENOMEM; when it fails the connection closes by itself. */
must_check int http_server_answer(struct http_server *c, int status, const char *type,
                                  const struct http_header *headers, size_t n, const void *body,
                                  size_t len);
/* text/plain with CRLF behind it. */
must_check int http_server_answer_text(struct http_server *c, int status, const char *text);
/* A final answer in pieces of len bytes in all: head now, then http_server_write() until done;
 * writable (may be NULL) comes when the queue has drained. */
must_check int http_server_answer_begin(struct http_server *c, int status, const char *type,
                                        const struct http_header *headers, size_t n, uint64_t len,
                                        void (*writable)(void *owner));
must_check int http_server_write(struct http_server *c, const void *data, size_t len);

/* 101 with Connection: Upgrade, Upgrade: protocol and headers, alone in its TLS record. The stream
 * is the caller's, with early bytes in front; reading is off. Frees the connection. 0; on failure
 * the connection stays. */
must_check int http_server_upgrade(struct http_server *c, const char *protocol,
                                   const struct http_header *headers, size_t n,
                                   struct stream **ret_stream);
