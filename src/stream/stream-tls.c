// SPDX-License-Identifier: GPL-3.0-or-later
/* The TLS side of the table of operations, the handshake, and what a client makes of the peer's
 * certificate. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/str.h"
#include "stream/stream-internal.h"

#define RECORD_MAX 16384

/* -EAGAIN with wants_* set, 0 at the peer's end, or -errno. waits_for: what WANT_READ means for
 * this call beyond the ordinary. */
static ssize_t failed(struct stream *s, int n)
{
    int saved = errno;

    switch (SSL_get_error(s->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        s->wants_read = true;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        s->wants_write = true;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return saved ? -saved : -ECONNRESET;
    default:
        return -EPROTO;
    }
}

/* What was read of the socket is read of OpenSSL too: nothing stays there that the kernel will not
 * tell of. */
static int tls_read(struct stream *s, void *data, size_t len, size_t *ret_got)
{
    size_t got = 0;
    ssize_t r = 1;

    tls_io_begin_read(s);
    while (got < len) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(s->ssl, (uint8_t *)data + got, len - got);
        if (n <= 0) {
            r = failed(s, n);
            break;
        }
        got += (size_t)n;
        if (tls_io_all_read() && !SSL_has_pending(s->ssl))
            break;
    }
    int kept = tls_io_end_read(s);
    s->wants_read = false; /* watched anyway as long as the owner reads */
    *ret_got = got;
    if (kept < 0)
        return kept;
    return r == -EAGAIN ? 1 : (int)r;
}

/* Has a peer that has gone told why? */
static bool has_alert(struct stream *s)
{
    char byte;

    if (s->cipher_in)
        return false;
    ERR_clear_error();
    int n = SSL_peek(s->ssl, &byte, 1);
    return n <= 0 && SSL_get_error(s->ssl, n) == SSL_ERROR_SSL;
}

static ssize_t broken(struct stream *s, ssize_t r)
{
    return (r == -EPIPE || r == -ECONNRESET) && has_alert(s) ? -EPROTO : r;
}

/* As many records as fit in one call of the kernel. */
static ssize_t tls_write(struct stream *s, const void *data, size_t len)
{
    size_t done = 0;
    ssize_t r = tls_io_flush(s);
    bool ticket = s->ticket_due;

    if (r < 0)
        return broken(s, r);
    tls_io_begin_write(s);
    if (ticket)
        (void)SSL_new_session_ticket(s->ssl); /* comes along; without it he cannot resume */
    s->ticket_due = false;
    while (done < len && tls_io_room()) {
        size_t record = len - done < RECORD_MAX ? len - done : RECORD_MAX;
        ERR_clear_error();
        errno = 0;
        int n = SSL_write(s->ssl, (const uint8_t *)data + done, record);
        if (n <= 0) {
            r = failed(s, n);
            break;
        }
        done += (size_t)n;
    }
    int sent = tls_io_end_write(s);
    s->wants_write = false; /* watched anyway as long as bytes are queued */
    if (ticket)
        tls_io_give_back(s);
    if (sent < 0)
        return broken(s, sent);
    return done > 0 ? (ssize_t)done : broken(s, r ? r : -EPIPE);
}

static int tls_flush(struct stream *s)
{
    return (int)broken(s, tls_io_flush(s));
}

/* Our end: close_notify and FIN in one segment, so that a peer that looks at the socket only sees
 * it too. */
static int tls_finish(struct stream *s)
{
    ERR_clear_error();
    errno = 0;
    s->parting = true;
    int n = SSL_shutdown(s->ssl);
    s->parting = false;
    if (n < 0) {
        ssize_t r = failed(s, n);
        s->wants_read = s->wants_write = false;
        if (r == -EAGAIN)
            return -EAGAIN;
    }
    return shutdown(s->fd, SHUT_WR) < 0 ? -errno : 0;
}

void stream_end_told(struct stream *s)
{
    if (s->ssl)
        SSL_clear_options(s->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

/* --- handshake ------------------------------------------------------------------------------ */

static int add_fault(int ok, X509_STORE_CTX *ctx)
{
    if (ok || X509_STORE_CTX_get_error(ctx) == X509_V_ERR_UNABLE_TO_GET_CRL)
        return 1;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct stream *s = SSL_get_app_data(ssl);
    tls_peer_add_fault(s->peer, X509_STORE_CTX_get_error(ctx));
    return 1; /* the owner decides when all faults are known, before anything is sent */
}

static bool is_address(const char *host)
{
    uint8_t addr[16];

    return inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1;
}

static must_check int expect_host(struct stream *s, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);

    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ? 0 : -ENOMEM;
    if (SSL_set_tlsext_host_name(s->ssl, host) != 1 || SSL_set1_host(s->ssl, host) != 1)
        return -EINVAL;
    return 0;
}

static must_check int begin_client(struct stream *s, const char *host)
{
    size_t len = host ? strlen(host) : 0;

    /* The name lies behind the struct. */
    s->peer = calloc(1, sizeof *s->peer + len + 1);
    if (!s->peer)
        return -ENOMEM;
    SSL_set_connect_state(s->ssl);
    SSL_set_verify(s->ssl, SSL_VERIFY_PEER, add_fault);
    if (!host)
        return 0;
    memcpy(s->peer + 1, host, len + 1);
    s->peer->host = (const char *)(s->peer + 1);
    return expect_host(s, host);
}

static int tls_begin(struct stream *s, struct tls_context *tls, bool server, const char *host)
{
    s->tls = tls_context_ref(tls);
    s->ssl = SSL_new(tls_context_ssl(tls));
    if (!s->ssl || tls_io_attach(s) < 0)
        return -ENOMEM;
    s->server = server;
    SSL_set_app_data(s->ssl, s);
    SSL_set_mode(s->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                             SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!server)
        return begin_client(s, host);
    SSL_set_accept_state(s->ssl);
    return 0;
}

/* Of a server: whose certificate it was, for the log. */
int stream_tls_verify_client(int ok, X509_STORE_CTX *ctx)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct stream *s = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get0_cert(ctx);

    if (!ok && cert && !s->peer)
        s->peer = calloc(1, sizeof *s->peer);
    if (!ok && cert && s->peer)
        tls_name_text(X509_get_subject_name(cert), s->peer->subject, sizeof s->peer->subject);
    return ok;
}

/* -EACCES: his certificate is not good; 0: that is not why the handshake failed. */
static int refused_client(struct stream *s, struct qvd_error *err)
{
    long why = SSL_get_verify_result(s->ssl);

    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return qvd_error_set(err, -EACCES, "client certificate: none was sent");
    if (why == X509_V_OK)
        return 0;
    return qvd_error_set(err, -EACCES, "client certificate %.120s: %s",
                         s->peer ? s->peer->subject : "", X509_verify_cert_error_string(why));
}

/* One look at the socket brings a flight; what has come behind the handshake is kept. */
static ssize_t handshake_step(struct stream *s)
{
    s->wants_read = s->wants_write = false;
    tls_io_begin_read(s);
    ERR_clear_error();
    errno = 0;
    int n = SSL_do_handshake(s->ssl);
    ssize_t r = n == 1 ? 1 : failed(s, n);
    int kept = tls_io_end_read(s);
    return kept < 0 ? kept : r;
}

/* 0 done, -EAGAIN (wants_* tell what for), other: err is told. */
static int go_on(struct stream *s, struct qvd_error *err)
{
    char text[160];
    ssize_t r = handshake_step(s);

    if (r > 0) {
        s->ticket_due = s->server && SSL_version(s->ssl) == TLS1_3_VERSION &&
                        !(SSL_get_options(s->ssl) & SSL_OP_NO_TICKET);
        return 0;
    }
    if (r == -EAGAIN)
        return -EAGAIN;
    if (r == -EPROTO && s->server && refused_client(s, err) < 0)
        return -EACCES;
    if (r == -EPROTO)
        return qvd_error_set(err, -EPROTO, "TLS handshake: %s", tls_error_text(text, sizeof text));
    if (r == 0 || r == -ECONNRESET)
        return qvd_error_set(err, -ECONNRESET, "TLS handshake: the peer closed the connection");
    return qvd_error_errno(err, r, "TLS handshake");
}

/* --- the peer's certificate ---------------------------------------------------------------------
 */

static void examine_strength(struct stream *s, X509 *cert)
{
    int hash = NID_undef;
    EVP_PKEY *key = X509_get0_pubkey(cert);

    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) <= 1024)
        tls_peer_add_fault(s->peer, TLS_FAULT_WEAK_KEY);
    if (X509_get_signature_info(cert, &hash, NULL, NULL, NULL) == 1 &&
        (hash == NID_md5 || hash == NID_md4 || hash == NID_sha1) &&
        !(X509_get_extension_flags(cert) & EXFLAG_SS))
        tls_peer_add_fault(s->peer, TLS_FAULT_WEAK_HASH);
}

void tls_name_text(const X509_NAME *name, char *dst, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    dst[0] = '\0';
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        size_t len = BIO_get_mem_data(bio, &text);
        if (len >= size)
            len = size - 1;
        memcpy(dst, text, len);
        dst[len] = '\0';
    }
    BIO_free(bio);
}

static void time_text(const ASN1_TIME *time, char *dst, size_t size)
{
    struct tm tm;

    dst[0] = '\0';
    if (ASN1_TIME_to_tm(time, &tm) == 1)
        strftime(dst, size, "%Y-%m-%d %H:%M:%S UTC", &tm);
}

/* After a client's handshake: completes s->peer. */
static void examine(struct stream *s)
{
    struct tls_peer *peer = s->peer;
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(s->ssl);
    X509 *cert = SSL_get0_peer_certificate(s->ssl);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (!cert) {
        tls_peer_add_fault(peer, X509_V_ERR_UNSPECIFIED);
        return;
    }
    for (int i = 0; i < sk_X509_num(chain); i++)
        examine_strength(s, sk_X509_value(chain, i));
    if (X509_digest(cert, EVP_sha256(), digest, &len) == 1)
        hex_encode(digest, 32, peer->fingerprint);
    tls_name_text(X509_get_subject_name(cert), peer->subject, sizeof peer->subject);
    tls_name_text(X509_get_issuer_name(cert), peer->issuer, sizeof peer->issuer);
    time_text(X509_get0_notBefore(cert), peer->not_before, sizeof peer->not_before);
    time_text(X509_get0_notAfter(cert), peer->not_after, sizeof peer->not_after);
}

void stream_tls_accept(struct stream *s, bool accept)
{
    struct qvd_error why;

    if (s->freed || s->state != STREAM_VERIFY)
        return;
    if (accept) {
        s->open_due = true;
        ev_defer(s->loop, &s->later);
        return;
    }
    qvd_error_set(&why, -EKEYREJECTED, "certificate of %s: %s", s->peer->host ? s->peer->host : "?",
                  tls_fault_text(s->peer->faults[0]));
    stream_fail(s, &why);
}

static void tls_handshake(struct stream *s)
{
    struct qvd_error why;
    int r = go_on(s, &why);

    if (r == -EAGAIN)
        return;
    if (r < 0) {
        s->refused = s->server && r != -ECONNRESET;
        stream_fail(s, &why);
        return;
    }
    if (!s->server)
        examine(s);
    if (s->server || s->peer->n_faults == 0) {
        stream_opened(s);
        return;
    }
    s->state = STREAM_VERIFY;
    s->timer = ev_timer_free(s->timer);
    if (s->handlers->verify)
        STREAM_CALL(s, verify, s->peer);
    else
        stream_tls_accept(s, false);
}

static void tls_drop(struct stream *s)
{
    SSL_free(s->ssl);
    s->ssl = NULL;
    s->tls = tls_context_unref(s->tls);
}

const struct stream_ops stream_tls_ops = {.read = tls_read,
                                          .write = tls_write,
                                          .flush = tls_flush,
                                          .finish = tls_finish,
                                          .begin = tls_begin,
                                          .handshake = tls_handshake,
                                          .reason = tls_error_text,
                                          .drop = tls_drop};

const char *stream_protocol(const struct stream *s)
{
    return s->ssl ? SSL_get_version(s->ssl) : "plain";
}

const char *stream_peer_subject(const struct stream *s, char *dst, size_t size)
{
    X509 *cert = s->ssl ? SSL_get0_peer_certificate(s->ssl) : NULL;

    dst[0] = '\0';
    if (cert)
        tls_name_text(X509_get_subject_name(cert), dst, size);
    return dst;
}
