// SPDX-License-Identifier: GPL-3.0-or-later
/* What a bare OpenSSL client finds at a server's end: tickets, ALPN, versions, client certificates.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>

#include "certs.h"
#include "ends.h"

static struct test_cert cert;

static struct tls_context *server(const uint8_t keys[][TLS_TICKET_KEY_LEN], size_t n_keys,
                                  const char *client_ca)
{
    struct tls_context *tls = NULL;
    struct qvd_error err;
    struct tls_server_spec spec = {.cert_pem = cert.cert,
                                   .cert_len = strlen(cert.cert),
                                   .key_pem = cert.key,
                                   .key_len = strlen(cert.key),
                                   .client_ca_pem = client_ca};

    if (tls_server_new(&spec, &tls, &err) < 0)
        fail_msg("%s", err.text);
    if (n_keys)
        assert_int_equal(tls_server_set_tickets(tls, keys, n_keys), 0);
    return tls;
}

/* What a talk came to. */
struct talk {
    bool done, reused;
    char alpn[16];
    SSL_SESSION *session; /* with the server's ticket */
};

static bool step(SSL *ssl, bool *failed)
{
    int r = SSL_do_handshake(ssl);

    if (r != 1 && SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
        *failed = true;
    return r == 1;
}

static struct talk talk(struct tls_context *tls, SSL_CTX *client, SSL_SESSION *session)
{
    struct talk t = {0};
    struct end e = {0};
    int fds[2];
    bool failed = false, greeted = false;
    char byte;

    pair(fds);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    assert_int_equal(stream_new(loop, fds[1], tls, 2000, &handlers, &e, &e.s), 0);
    SSL *ssl = SSL_new(client);
    SSL_set_fd(ssl, fds[0]);
    SSL_set_connect_state(ssl);
    if (session)
        SSL_set_session(ssl, session);
    for (int i = 0; i < 2000 && !failed && !t.done && !strchr(e.events, 'c'); i++) {
        turns(1);
        if (!step(ssl, &failed))
            continue;
        if (!greeted && e.events[0] == 'o') {
            assert_int_equal(stream_write(e.s, "x", 1), 0);
            greeted = true;
        }
        t.done = SSL_read(ssl, &byte, 1) == 1; /* the ticket came before it */
    }
    if (t.done) {
        const unsigned char *name;
        unsigned len;
        SSL_get0_alpn_selected(ssl, &name, &len);
        memcpy(t.alpn, name ? name : (const unsigned char *)"", len);
        t.reused = SSL_session_reused(ssl);
        t.session = SSL_get1_session(ssl);
    }
    SSL_shutdown(ssl); /* a session that was not ended is not resumed */
    SSL_free(ssl);
    close(fds[0]);
    turns(3);
    end_done(&e);
    return t;
}

static void talk_done(struct talk *t)
{
    SSL_SESSION_free(t->session);
}

static void test_tickets_are_everybodys(void **state)
{
    static const uint8_t first[1][TLS_TICKET_KEY_LEN] = {
        {1, 2, 3}
    };
    static const uint8_t rotated[2][TLS_TICKET_KEY_LEN] = {
        {9, 9, 9},
        {1, 2, 3}
    };
    static const uint8_t other[1][TLS_TICKET_KEY_LEN] = {{7}};

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *client = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_max_proto_version(client, version);
        struct tls_context *a = server(first, 1, NULL), *b = server(first, 1, NULL);
        struct tls_context *c = server(rotated, 2, NULL), *d = server(other, 1, NULL);
        struct talk t = talk(a, client, NULL);
        assert_true(t.done && !t.reused);
        struct talk same = talk(b, client, t.session), newer = talk(c, client, t.session);
        struct talk stranger = talk(d, client, t.session);
        assert_true(same.done && same.reused);
        assert_true(newer.done && newer.reused); /* the former key opens it still */
        assert_true(stranger.done && !stranger.reused);
        talk_done(&t);
        talk_done(&same);
        talk_done(&newer);
        talk_done(&stranger);
        tls_context_unref(a);
        tls_context_unref(b);
        tls_context_unref(c);
        tls_context_unref(d);
        SSL_CTX_free(client);
    }
}

static unsigned tickets;

static int count_ticket(SSL *ssl, SSL_SESSION *session)
{
    tickets++;
    return 0;
}

/* A bare client whose handshake is done on its side, the server not yet asked about the last of
 * it. */
static SSL *begin(struct tls_context *tls, SSL_CTX *client, struct end *e, int *ret_fd)
{
    int fds[2];
    bool failed = false;

    pair(fds);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    assert_int_equal(stream_new(loop, fds[1], tls, 2000, &handlers, e, &e->s), 0);
    SSL *ssl = SSL_new(client);
    SSL_set_fd(ssl, fds[0]);
    SSL_set_connect_state(ssl);
    while (!step(ssl, &failed)) {
        assert_false(failed);
        turns(1);
    }
    *ret_fd = fds[0];
    return ssl;
}

/* Who asks nothing costs no ticket; it comes with the first bytes, and no second one. */
static void test_ticket_comes_with_the_first_bytes(void **state)
{
    struct tls_context *tls = server(NULL, 0, NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct end e = {0};
    char byte;
    int fd;

    tickets = 0;
    SSL_CTX_set_min_proto_version(client, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, count_ticket);
    SSL *ssl = begin(tls, client, &e, &fd);
    turns(3);
    assert_string_equal(e.events, "o");
    assert_int_equal(SSL_read(ssl, &byte, 1), -1);
    assert_int_equal(tickets, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stream_write(e.s, "x", 1), 0);
        assert_int_equal(SSL_read(ssl, &byte, 1), 1);
        assert_int_equal(tickets, 1);
    }
    SSL_free(ssl);
    close(fd);
    end_done(&e);
    SSL_CTX_free(client);
    tls_context_unref(tls);
}

/* What came in one piece with the handshake's end is read without a further byte, now or when the
 * owner wants it, and the end behind it is told. */
static void test_bytes_right_behind_the_handshake(void **state)
{
    struct tls_context *tls = server(NULL, 0, NULL);

    for (int later = 0; later < 2; later++) {
        SSL_CTX *client = SSL_CTX_new(TLS_client_method());
        struct end e = {0};
        int fd;
        SSL *ssl = begin(tls, client, &e, &fd);
        assert_int_equal(SSL_write(ssl, "request", 7), 7);
        SSL_shutdown(ssl);
        stream_set_reading(e.s, !later);
        turns(3);
        if (later) {
            assert_string_equal(e.events, "o");
            assert_int_equal(e.got.len, 0);
            stream_set_reading(e.s, true);
            turns(3);
        }
        assert_string_equal(e.events, "oe");
        assert_int_equal(e.got.len, 7);
        assert_memory_equal(e.got.data, "request", 7);
        SSL_free(ssl);
        close(fd);
        end_done(&e);
        SSL_CTX_free(client);
    }
    tls_context_unref(tls);
}

static void test_alpn_is_http_1_1_or_none(void **state)
{
    static const struct {
        const char *offer, *chosen;
    } table[] = {
        {"\x02h2\x08http/1.1", "http/1.1"},
        {"\x02h2",             ""        },
        {"\x08http/1.1",       "http/1.1"}
    };
    struct tls_context *tls = server(NULL, 0, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        SSL_CTX *client = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_alpn_protos(client, (const unsigned char *)table[i].offer,
                                strlen(table[i].offer));
        struct talk t = talk(tls, client, NULL);
        assert_true(t.done);
        assert_string_equal(t.alpn, table[i].chosen);
        talk_done(&t);
        SSL_CTX_free(client);
    }
    tls_context_unref(tls);
}

static void test_old_versions_are_refused(void **state)
{
    struct tls_context *tls = server(NULL, 0, NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());

    SSL_CTX_set_security_level(client, 0);
    SSL_CTX_set_min_proto_version(client, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(client, TLS1_1_VERSION);
    struct talk t = talk(tls, client, NULL);
    assert_false(t.done);
    SSL_CTX_free(client);
    tls_context_unref(tls);
}

static void use(SSL_CTX *client, const struct test_cert *c)
{
    BIO *bio = BIO_new_mem_buf(c->cert, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    bio = BIO_new_mem_buf(c->key, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_int_equal(SSL_CTX_use_certificate(client, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(client, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void test_client_certificates(void **state)
{
    struct test_cert ca = test_cert_make("Clients", 10, NULL);
    struct test_cert certs[] = {test_cert_make("alice", 10, &ca), test_cert_make("old", -1, &ca),
                                test_cert_make("stranger", 10, NULL)};
    struct tls_context *tls = server(NULL, 0, ca.cert);

    for (size_t i = 0; i <= ARRAY_SIZE(certs); i++) {
        SSL_CTX *client = SSL_CTX_new(TLS_client_method());
        if (i < ARRAY_SIZE(certs))
            use(client, &certs[i]);
        struct talk t = talk(tls, client, NULL);
        assert_int_equal(t.done, i == 0); /* good; expired, of another, none */
        talk_done(&t);
        SSL_CTX_free(client);
    }
    tls_context_unref(tls);
    for (size_t i = 0; i < ARRAY_SIZE(certs); i++)
        test_cert_done(&certs[i]);
    test_cert_done(&ca);
}

static int make_cert(void **state)
{
    cert = test_cert_make("localhost", 10, NULL);
    return setup(state);
}

static int free_cert(void **state)
{
    test_cert_done(&cert);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tickets_are_everybodys),
        cmocka_unit_test(test_ticket_comes_with_the_first_bytes),
        cmocka_unit_test(test_bytes_right_behind_the_handshake),
        cmocka_unit_test(test_alpn_is_http_1_1_or_none),
        cmocka_unit_test(test_old_versions_are_refused),
        cmocka_unit_test(test_client_certificates),
    };

    tls_keep_memory(); /* as a worker does: blocks go from one connection to the next */
    return cmocka_run_group_tests(tests, make_cert, free_cert);
}
