// SPDX-License-Identifier: GPL-3.0-or-later
/* Between OpenSSL and the socket: many records cross the kernel's border in one call, by a scratch
 * that all streams of a thread share. What is left of a turn waits in memory of the stream's own.
 * Does not know what the records are.
 *
 * OpenSSL's own way to read ahead moves all that is left in its buffer at each record: the larger
 * the buffer, the slower. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>

#include "stream/stream-internal.h"

#define OUT_MAX (STREAM_TURN_MAX + 1024) /* full records of it and their overhead */
#define RECORD_ROOM (16384 + 256)        /* RFC 8446, 5.2 */

/* Of the one turn, reading or writing, that is under way. */
static _Thread_local uint8_t scratch[OUT_MAX];

static _Thread_local struct {
    struct stream *of; /* whose turn it is; NULL: OpenSSL reads the socket itself */
    size_t at, len;
    bool asked; /* the socket, once a turn */
} in;

static _Thread_local struct {
    struct stream *of;
    size_t len;
} out;

static must_check int keep(struct stash **stash, const uint8_t *bytes, size_t len)
{
    struct stash *k = malloc(sizeof *k + len);

    if (!k)
        return -ENOMEM;
    *k = (struct stash){.len = len};
    memcpy(k->bytes, bytes, len);
    *stash = k;
    return 0;
}

/* --- OpenSSL's side --------------------------------------------------------------------------- */

static int ask_socket(BIO *bio, struct stream *s, void *data, size_t len)
{
    ssize_t n = stream_recv(s, data, len);

    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    if (n >= 0)
        return (int)n;
    if (n == -EAGAIN)
        BIO_set_retry_read(bio);
    errno = (int)-n;
    return -1;
}

static int bio_read(BIO *bio, char *data, int size)
{
    struct stream *s = BIO_get_data(bio);
    size_t n = size > 0 ? (size_t)size : 0;

    BIO_clear_retry_flags(bio);
    if (in.of != s)
        return ask_socket(bio, s, data, n);
    if (in.at == in.len && !in.asked) {
        in.asked = true;
        int got = ask_socket(bio, s, scratch, STREAM_TURN_MAX);
        if (got <= 0)
            return got;
        in.len = (size_t)got;
    }
    if (in.at == in.len) {
        BIO_set_retry_read(bio);
        errno = EAGAIN;
        return -1;
    }
    if (n > in.len - in.at)
        n = in.len - in.at;
    memcpy(data, scratch + in.at, n);
    in.at += n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct stream *s = BIO_get_data(bio);
    size_t len = size > 0 ? (size_t)size : 0;
    ssize_t n = -EAGAIN;

    BIO_clear_retry_flags(bio);
    if (out.of == s) {
        if (len > sizeof scratch - out.len)
            len = sizeof scratch - out.len;
        memcpy(scratch + out.len, data, len);
        out.len += len;
        n = (ssize_t)len;
    } else if (!s->cipher_out) {
        /* What a handshake says, or an answer to the peer's change of keys. */
        n = stream_send(s, data, len);
    }
    if (n > 0)
        return (int)n;
    if (n == -EAGAIN || n == 0)
        BIO_set_retry_write(bio);
    errno = n ? (int)-n : EAGAIN;
    return -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    switch (cmd) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (method &&
        (BIO_meth_set_read(method, bio_read) != 1 || BIO_meth_set_write(method, bio_write) != 1 ||
         BIO_meth_set_ctrl(method, bio_ctrl) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
}

int tls_io_attach(struct stream *s)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_method);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!bio)
        return -ENOMEM;
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    return 0;
}

/* --- a turn of reading ------------------------------------------------------------------------ */

void tls_io_begin_read(struct stream *s)
{
    struct stash *left = s->cipher_in;

    in.of = s;
    in.at = in.len = 0;
    in.asked = left != NULL;
    if (left) {
        memcpy(scratch, left->bytes, left->len);
        in.len = left->len;
        free(left);
        s->cipher_in = NULL;
    }
}

bool tls_io_all_read(void)
{
    return in.at == in.len;
}

int tls_io_end_read(struct stream *s)
{
    in.of = NULL;
    return in.at < in.len ? keep(&s->cipher_in, scratch + in.at, in.len - in.at) : 0;
}

/* It does so when it finds nothing. */
void tls_io_give_back(struct stream *s)
{
    char byte;

    in.of = s;
    in.at = in.len = 0;
    in.asked = true;
    ERR_clear_error();
    (void)SSL_peek(s->ssl, &byte, 1);
    in.of = NULL;
}

/* --- a turn of writing ------------------------------------------------------------------------ */

void tls_io_begin_write(struct stream *s)
{
    out.of = s;
    out.len = 0;
}

bool tls_io_room(void)
{
    return sizeof scratch - out.len >= RECORD_ROOM;
}

int tls_io_end_write(struct stream *s)
{
    out.of = NULL;
    for (size_t at = 0; at < out.len;) {
        ssize_t n = stream_send(s, scratch + at, out.len - at);
        if (n == -EAGAIN)
            return keep(&s->cipher_out, scratch + at, out.len - at);
        if (n < 0)
            return (int)n;
        at += (size_t)n;
    }
    return 0;
}

int tls_io_flush(struct stream *s)
{
    struct stash *k = s->cipher_out;

    while (k && k->at < k->len) {
        ssize_t n = stream_send(s, k->bytes + k->at, k->len - k->at);
        if (n < 0)
            return (int)n;
        k->at += (size_t)n;
    }
    free(k);
    s->cipher_out = NULL;
    return 0;
}
