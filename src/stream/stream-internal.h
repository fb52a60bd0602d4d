// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "base/buf.h"
#include "stream/stream.h"
#include "stream/tls.h"

enum stream_state {
    STREAM_CONNECTING,
    STREAM_HANDSHAKE,
    STREAM_VERIFY, /* the owner is asked about the certificate */
    STREAM_OPEN,
    STREAM_DEAD, /* failed: closed() was called or is about to be */
};

/* What differs between plain and TLS. read: all that one look at the socket brings (ret_got); 1, or
 * what comes after it: 0 the peer's end, -errno. write: bytes taken, -EAGAIN, other -errno. flush:
 * what write has taken goes to the kernel: 0 done, -EAGAIN, -errno. finish: the same.
 * Of TLS alone: begin makes s->ssl (host may be NULL), handshake goes one step on, reason is what
 * lies behind the last -EPROTO, drop frees s->ssl. */
struct stream_ops {
    int (*read)(struct stream *s, void *data, size_t len, size_t *ret_got);
    ssize_t (*write)(struct stream *s, const void *data, size_t len);
    int (*flush)(struct stream *s);
    int (*finish)(struct stream *s);
    int (*begin)(struct stream *s, struct tls_context *tls, bool server, const char *host);
    void (*handshake)(struct stream *s);
    const char *(*reason)(char *dst, size_t size);
    void (*drop)(struct stream *s);
};
extern const struct stream_ops stream_plain_ops, stream_tls_ops;

/* How struct tls_context begins. stream.c reaches TLS by it alone: a program that makes no context
 * is linked without OpenSSL. */
struct tls_context_head {
    const struct stream_ops *ops;
};

#define STREAM_CUTS_MAX 4

/* What a turn takes from a socket: of plain text as much as becomes records of one call. The
 * scratch holds the plain text of TLS whatever of an earlier record OpenSSL has kept. */
#define STREAM_TURN_MAX (128 * 1024)
#define STREAM_SCRATCH (STREAM_TURN_MAX + 16384)

/* Bytes that did not cross in their turn. */
struct stash {
    size_t at, len;
    uint8_t bytes[];
};

struct stream {
    struct ev_loop *loop;
    struct ev_io *io;
    struct ev_timer *timer; /* only while connecting, in the handshake, or lingering */
    const struct stream_ops *ops;
    const struct stream_handlers *handlers;
    void *owner;
    SSL *ssl;
    struct tls_context *tls;
    struct tls_peer *peer;     /* TLS client, until it is open; a refused one of a server */
    struct qvd_error *failure; /* once it is dead */
    struct buf out;
    uint8_t *in; /* what was given back by stream_unread() */
    size_t in_len;
    struct stash *cipher_in, *cipher_out; /* tls-io.c */
    struct ev_deferred later;
    struct list orphan;             /* in the list of those that linger */
    uint32_t cuts[STREAM_CUTS_MAX]; /* offsets in out that no record may cross */
    uint32_t high, low, limit;
    int fd;
    unsigned depth; /* callbacks under way */
    uint8_t n_cuts;
    enum stream_state state : 4;
    bool server : 1, reading : 1, watch_hangup : 1, hangup_told : 1, got_eof : 1, eof_told : 1,
        congested : 1, finishing : 1, finished : 1, open_due : 1, freed : 1, lingering : 1,
        refused : 1,    /* a server's handshake failed: its peer may still have to read why */
        ticket_due : 1, /* TLS 1.3, server: goes out with the first bytes */
        parting : 1,    /* what is written now is the last: FIN follows at once */
        wants_read : 1, wants_write : 1; /* what the TLS handshake, or a crossed call, waits for */
};
/* Two of them, their events and the relay are an idle session's memory beside TLS: below 1 KiB. */
_Static_assert(sizeof(struct stream) <= 248, "a stream's size");

/* plain.c: bytes, 0 at the peer's end, -errno */
ssize_t stream_recv(struct stream *s, void *data, size_t len);
ssize_t stream_send(struct stream *s, const void *data, size_t len);

/* stream.c */
/* A callback of the owner, if he wants it; he may free the stream inside. */
#define STREAM_CALL(s, name, ...)                                                                  \
    do {                                                                                           \
        if (!(s)->freed && (s)->handlers->name)                                                    \
            (s)->handlers->name((s)->owner, ##__VA_ARGS__);                                        \
    } while (0)

/* Open, and not freed by its owner in a callback. */
bool stream_usable(const struct stream *s);
/* Dead from now on; the owner hears of it at the end of the turn. */
void stream_fail(struct stream *s, const struct qvd_error *why);
void stream_fail_errno(struct stream *s, int r, const char *what);
/* After the handshake. */
void stream_opened(struct stream *s);
/* Watches what has to be watched now. */
void stream_update(struct stream *s);

/* stream-write.c: does anything wait for the kernel? */
bool stream_waiting(const struct stream *s);
/* Hands the queue to the kernel, and the end after it if that is due. */
void stream_flush(struct stream *s);
void stream_finish_now(struct stream *s);

/* stream-tls.c: SSL_CTX_set_verify(3) of a server. */
int stream_tls_verify_client(int ok, X509_STORE_CTX *ctx);

/* RFC 2253, cut to size. */
void tls_name_text(const X509_NAME *name, char *dst, size_t size);

/* tls-clients.c: from now on clients must have certificates; *ret_crl_next as in struct
 * tls_server_facts. 0 or -EINVAL with err. */
must_check int tls_demand_clients(SSL_CTX *ctx, const struct tls_server_spec *spec,
                                  int64_t *ret_crl_next, struct qvd_error *err);

/* tls-io.c: OpenSSL reads and writes by it. Between begin_read and end_read the socket is asked
 * once, and all that came is OpenSSL's, but for what it could not take (kept: 0 or -ENOMEM). */
must_check int tls_io_attach(struct stream *s);
void tls_io_begin_read(struct stream *s);
/* In between: does OpenSSL have all of it? */
bool tls_io_all_read(void);
must_check int tls_io_end_read(struct stream *s);
/* OpenSSL gives its buffer for reading back, which it takes for a ticket too (16 KiB). */
void tls_io_give_back(struct stream *s);
/* Between begin_write and end_write records are gathered as long as there is room for one more;
 * what the kernel does not take then is kept: 0, -ENOMEM, other -errno. */
void tls_io_begin_write(struct stream *s);
bool tls_io_room(void);
must_check int tls_io_end_write(struct stream *s);
/* Sends what was kept: 0, -EAGAIN, -errno. */
must_check int tls_io_flush(struct stream *s);

/* tls.c */
SSL_CTX *tls_context_ssl(struct tls_context *tls);
int64_t tls_context_crl_next(const struct tls_context *tls);
/* -EINVAL, with what and the first of OpenSSL's errors as the text. */
int tls_fail(struct qvd_error *err, const char *what);
void tls_peer_add_fault(struct tls_peer *peer, int fault);
/* The first of OpenSSL's errors as text; "end of connection" without one. Empties its queue. */
const char *tls_error_text(char *dst, size_t size);
