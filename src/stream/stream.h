// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A connected socket, plain or TLS, with buffered output and back-pressure. What is read lies in
 * one scratch shared by all streams of a thread; memory of a stream's own exists only while bytes
 * wait.
 *
 * Callbacks come from the loop, never from inside a function below. In any callback the stream may
 * be freed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "ev/ev.h"

struct stream;
struct tls_context;
struct tls_peer;

/* Any may be NULL. */
struct stream_handlers {
    /* TLS: connected, the handshake begins. */
    void (*dialled)(void *owner);
    /* Connected, and with TLS: handshake done and certificate accepted. */
    void (*open)(void *owner);
    /* Bytes have come; all of them are the owner's now, data lives until it returns. */
    void (*data)(void *owner, const uint8_t *data, size_t len);
    /* The peer sends no more; we still may. Once, after the last data. */
    void (*eof)(void *owner);
    /* The queue has fallen below the low mark after stream_congested() had become true. */
    void (*drained)(void *owner);
    /* Everything written has been handed to the kernel (comes once after each queueing). */
    void (*flushed)(void *owner);
    /* Only while reading is off and stream_watch_hangup() is on: the peer has closed its side. */
    void (*hangup)(void *owner);
    /* TLS client: the certificate has faults. To be answered by stream_tls_accept(), now or later.
     * NULL: refused. Not called for one without faults. */
    void (*verify)(void *owner, const struct tls_peer *peer);
    /* Of no more use: failed, timed out or refused. Once; the owner frees the stream. */
    void (*closed)(void *owner, const struct qvd_error *why);
};

/* A connected socket (accepted, or one of socketpair()) becomes a stream. Takes over fd, also on
 * failure. tls: NULL for plain; a reference is kept. handshake_ms: limit of the handshake, 0 none.
 * handlers must outlive the stream. 0, -ENOMEM, -errno. */
must_check int stream_new(struct ev_loop *loop, int fd, struct tls_context *tls,
                          uint64_t handshake_ms, const struct stream_handlers *handlers,
                          void *owner, struct stream **ret_stream);

/* Sets the options of a stream's socket. What a listening socket accepts inherits them: done once
 * there it need not be done for each connection. */
void stream_tune(int fd);

/* Dials without blocking; open or closed follows. host (NULL: none) is the name or the address in
 * digits that the certificate must be for. limit_ms: of connect and handshake together. */
struct stream_target {
    const struct sockaddr *addr;
    socklen_t addr_len;
    struct tls_context *tls;
    const char *host;
    uint64_t limit_ms;
};
must_check int stream_connect(struct ev_loop *loop, const struct stream_target *target,
                              const struct stream_handlers *handlers, void *owner,
                              struct stream **ret_stream);

/* A socket that may still be connecting (passed by another process), plain: open follows. */
must_check int stream_adopt(struct ev_loop *loop, int fd, uint64_t limit_ms,
                            const struct stream_handlers *handlers, void *owner,
                            struct stream **ret_stream);

/* Closes at once; what is queued is lost. NULL-safe, always NULL. */
struct stream *stream_free(struct stream *s);
/* Gives the stream away: what is queued is sent, then the end, then input is thrown away until the
 * peer's end or limit_ms, so that an answer (or the alert of a server's failed handshake) is not
 * lost to a reset. Always NULL. */
struct stream *stream_free_flushed(struct stream *s, uint64_t limit_ms);
/* Closes at once all that stream_free_flushed() has left in the loop: before the loop is freed. */
void stream_end_lingering(struct ev_loop *loop);

/* Another owner. Bytes given back by stream_unread() come to it. */
void stream_set_handlers(struct stream *s, const struct stream_handlers *handlers, void *owner);

/* Sends, or queues what the kernel does not take. 0; -EPIPE: closed or finished; -ENOBUFS: over the
 * limit, nothing taken; -ENOMEM. */
must_check int stream_write(struct stream *s, const void *data, size_t len);
/* The same, and the bytes share a TLS record with no others (at most 16 KiB). */
must_check int stream_write_record(struct stream *s, const void *data, size_t len);
/* No more from us: the end (close_notify, FIN) follows what is queued. */
void stream_finish(struct stream *s);

/* Congested from more than high queued bytes until below low; limit: refused beyond (0: none).
 * Begins as 64 KiB, 16 KiB, 1 MiB. */
void stream_set_marks(struct stream *s, size_t high, size_t low, size_t limit);
bool stream_congested(const struct stream *s);
size_t stream_queued(const struct stream *s);

/* Reading begins on; off: no data and no eof, and the kernel slows the peer down. */
void stream_set_reading(struct stream *s, bool on);
/* With reading off: still tells hangup, without reading; costs a wake-up a packet. Begins off. */
void stream_watch_hangup(struct stream *s, bool on);
/* Puts bytes back in front: they come again as data, at the next turn. 0, -ENOMEM. */
must_check int stream_unread(struct stream *s, const void *data, size_t len);

/* TLS: an end that the peer has not told (close_notify) is a failure, closed() tells it; begins as
 * an ordinary end. */
void stream_end_told(struct stream *s);

/* The answer to verify. */
void stream_tls_accept(struct stream *s, bool accept);

bool stream_is_open(const struct stream *s);
int stream_fd(const struct stream *s);
/* "192.0.2.1:4711" or "[2001:db8::1]:4711" or "local": dst of STREAM_NAME_MAX. Returns dst. */
#define STREAM_NAME_MAX 64
const char *stream_peer_name(const struct stream *s, char *dst);
/* "TLSv1.3", "plain". */
const char *stream_protocol(const struct stream *s);
/* TLS: the peer's certificate as subject text; "" without. dst of size bytes. Returns dst. */
const char *stream_peer_subject(const struct stream *s, char *dst, size_t size);
