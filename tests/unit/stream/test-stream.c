// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "certs.h"
#include "ends.h"

static void plain_pair(struct end *a, struct end *b)
{
    int fds[2];

    pair(fds);
    assert_int_equal(stream_new(loop, fds[0], NULL, 0, &handlers, a, &a->s), 0);
    assert_int_equal(stream_new(loop, fds[1], NULL, 0, &handlers, b, &b->s), 0);
    turns(1);
}

static void test_plain_both_ways(void **state)
{
    struct end a = {0}, b = {0};

    plain_pair(&a, &b);
    assert_string_equal(a.events, "o");
    assert_int_equal(stream_write(a.s, "hello", 5), 0);
    assert_int_equal(stream_write(b.s, "you", 3), 0);
    turns(3);
    assert_int_equal(b.got.len, 5);
    assert_memory_equal(b.got.data, "hello", 5);
    assert_int_equal(a.got.len, 3);
    stream_finish(a.s);
    assert_int_equal(stream_write(a.s, "x", 1), -EPIPE);
    turns(3);
    assert_string_equal(b.events, "oe");
    assert_int_equal(stream_write(b.s, "late", 4), 0); /* half-closed: this way is open still */
    turns(3);
    assert_int_equal(a.got.len, 7);
    end_done(&a);
    turns(3);
    end_done(&b);
}

static void test_back_pressure(void **state)
{
    struct end a = {0}, b = {0};
    uint8_t block[32768];
    size_t sent = 0;

    memset(block, 'x', sizeof block);
    plain_pair(&a, &b);
    stream_set_reading(b.s, false);
    while (!stream_congested(a.s)) {
        assert_int_equal(stream_write(a.s, block, sizeof block), 0);
        sent += sizeof block;
    }
    assert_true(stream_queued(a.s) > 64 * 1024);
    turns(5);
    assert_int_equal(b.got.len, 0);
    stream_set_marks(a.s, 65536, 16384, stream_queued(a.s) + 10);
    assert_int_equal(stream_write(a.s, block, 11), -ENOBUFS);
    assert_int_equal(stream_write(a.s, block, 10), 0);
    stream_set_reading(b.s, true);
    while (b.got.len < sent + 10)
        ev_loop_turn(loop, true);
    turns(2);
    assert_string_equal(a.events, "od");
    assert_int_equal(stream_queued(a.s), 0);
    end_done(&a);
    end_done(&b);
}

static void test_unread_comes_first_then_eof(void **state)
{
    struct end a = {0}, b = {0};

    plain_pair(&a, &b);
    stream_set_reading(b.s, false);
    assert_int_equal(stream_write(a.s, "three", 5), 0);
    stream_finish(a.s);
    assert_int_equal(stream_unread(b.s, "two", 3), 0);
    assert_int_equal(stream_unread(b.s, "one", 3), 0);
    turns(3);
    assert_int_equal(b.got.len, 0);
    stream_set_reading(b.s, true);
    turns(4);
    assert_int_equal(b.got.len, 11);
    assert_memory_equal(b.got.data, "onetwothree", 11);
    assert_string_equal(b.events, "oe");
    end_done(&a);
    end_done(&b);
}

static void test_free_inside_callback(void **state)
{
    struct end a = {0}, b = {.free_on_data = true};

    plain_pair(&a, &b);
    assert_int_equal(stream_write(a.s, "x", 1), 0);
    turns(3);
    assert_null(b.s);
    assert_string_equal(a.events, "oe");
    end_done(&a);
    end_done(&b);
}

/* A listening socket of our own and a connected pair over TCP, where resets exist. */
static int listener(struct sockaddr_in *ret_addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *ret_addr;

    *ret_addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)ret_addr, sizeof *ret_addr), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_addr, &len), 0);
    return fd;
}

static void test_hangup_without_reading(void **state)
{
    for (int reset = 0; reset < 2; reset++) {
        struct sockaddr_in addr;
        struct end a = {0};
        int lfd = listener(&addr), fd = socket(AF_INET, SOCK_STREAM, 0);

        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
        assert_int_equal(stream_new(loop, accept(lfd, NULL, NULL), NULL, 0, &handlers, &a, &a.s),
                         0);
        turns(1);
        stream_set_reading(a.s, false);
        stream_watch_hangup(a.s, true);
        assert_int_equal(write(fd, "early", 5), 5);
        turns(3);
        assert_string_equal(a.events, "o");
        if (reset) {
            struct linger hard = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        }
        close(fd);
        int64_t start = clock_ms();
        while (strlen(a.events) < 2 && clock_ms() - start < 5000)
            ev_loop_turn(loop, false);
        assert_string_equal(a.events, reset ? "oc" : "oh");
        if (reset)
            assert_int_equal(a.why.code, -ECONNRESET);
        turns(10);
        assert_string_equal(a.events, reset ? "oc" : "oh"); /* once */
        close(lfd);
        end_done(&a);
    }
}

static void on_tick(void *arg)
{
    ++*(int *)arg;
}

/* A reset while nobody reads and nobody watches must not keep the loop busy. */
static void test_reset_while_paused_costs_nothing(void **state)
{
    struct sockaddr_in addr;
    struct end a = {0};
    struct ev_timer *timer;
    struct linger hard = {1, 0};
    int ticks = 0, count = 0;
    int lfd = listener(&addr), fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(stream_new(loop, accept(lfd, NULL, NULL), NULL, 0, &handlers, &a, &a.s), 0);
    turns(1);
    stream_set_reading(a.s, false);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    assert_int_equal(ev_timer_new(loop, on_tick, &ticks, &timer), 0);
    ev_timer_arm(timer, 200);
    while (!ticks) {
        ev_loop_turn(loop, true);
        count++;
    }
    assert_true(count < 5);
    ev_timer_free(timer);
    close(lfd);
    end_done(&a);
}

static void test_connect_refused_and_timeout(void **state)
{
    struct sockaddr_in addr;
    struct end a = {0}, b = {0};
    int lfd = listener(&addr), fds[2];

    close(lfd);
    struct stream_target target = {
        .addr = (struct sockaddr *)&addr, .addr_len = sizeof addr, .limit_ms = 5000};
    assert_int_equal(stream_connect(loop, &target, &handlers, &a, &a.s), 0);
    while (!a.events[0])
        ev_loop_turn(loop, true);
    assert_string_equal(a.events, "c");
    assert_int_equal(a.why.code, -ECONNREFUSED);
    end_done(&a);

    /* A TLS handshake that never comes. */
    struct test_cert cert = test_cert_make("localhost", 10, NULL);
    struct tls_context *tls;
    struct tls_server_spec spec = {.cert_pem = cert.cert,
                                   .cert_len = strlen(cert.cert),
                                   .key_pem = cert.key,
                                   .key_len = strlen(cert.key)};
    assert_int_equal(tls_server_new(&spec, &tls, NULL), 0);
    pair(fds);
    assert_int_equal(stream_new(loop, fds[0], tls, 50, &handlers, &b, &b.s), 0);
    while (!b.events[0])
        ev_loop_turn(loop, true);
    assert_string_equal(b.events, "c");
    assert_int_equal(b.why.code, -ETIMEDOUT);
    close(fds[1]);
    end_done(&b);
    tls_context_unref(tls);
    test_cert_done(&cert);
}

/* --- TLS ------------------------------------------------------------------------------------ */

static struct tls_context *server_context(const struct test_cert *c)
{
    struct tls_context *tls = NULL;
    struct qvd_error err = {0};
    struct tls_server_spec spec = {.cert_pem = c->cert,
                                   .cert_len = strlen(c->cert),
                                   .key_pem = c->key,
                                   .key_len = strlen(c->key)};

    if (tls_server_new(&spec, &tls, &err) < 0)
        fail_msg("%s", err.text);
    return tls;
}

static struct tls_context *client_context(const struct test_cert *root)
{
    struct tls_context *tls = NULL;
    struct qvd_error err = {0};
    char path[] = "/tmp/qvd-test-ca-XXXXXX";
    const char *files[] = {path, NULL};
    struct tls_client_spec spec = {.ca_files = root ? files : NULL};
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    if (root)
        assert_int_equal(fs_write_all(fd, root->cert, strlen(root->cert)), 0);
    close(fd);
    if (tls_client_new(&spec, &tls, &err) < 0)
        fail_msg("%s", err.text);
    unlink(path);
    return tls;
}

struct tls_pair {
    struct end client, server;
    struct tls_context *server_tls, *client_tls;
    int lfd;
};

/* The client dials host over TCP; both go on until each has open or closed or a question. */
static void tls_pair_start(struct tls_pair *p, const struct test_cert *cert,
                           const struct test_cert *root, const char *host)
{
    struct sockaddr_in addr;

    p->lfd = listener(&addr);
    p->server_tls = server_context(cert);
    p->client_tls = client_context(root);
    struct stream_target target = {.addr = (struct sockaddr *)&addr,
                                   .addr_len = sizeof addr,
                                   .tls = p->client_tls,
                                   .host = host,
                                   .limit_ms = 5000};
    assert_int_equal(stream_connect(loop, &target, &handlers, &p->client, &p->client.s), 0);
    int fd = accept(p->lfd, NULL, NULL);
    assert_int_equal(stream_new(loop, fd, p->server_tls, 5000, &handlers, &p->server, &p->server.s),
                     0);
    while (!p->client.events[0])
        ev_loop_turn(loop, true);
    turns(5);
}

static void tls_pair_done(struct tls_pair *p)
{
    end_done(&p->client);
    end_done(&p->server);
    tls_context_unref(p->server_tls);
    tls_context_unref(p->client_tls);
    close(p->lfd);
}

static void test_tls_carries_a_lot(void **state)
{
    struct test_cert ca = test_cert_make("Test CA", 10, NULL);
    struct test_cert cert = test_cert_make("localhost", 10, &ca);
    struct tls_pair p = {0};
    size_t total = 8 << 20, sent = 0;
    uint8_t *pattern = malloc(total);

    for (size_t i = 0; i < total; i++)
        pattern[i] = i * 2654435761u >> 24;
    tls_pair_start(&p, &cert, &ca, "localhost");
    assert_string_equal(p.client.events, "o");
    assert_string_equal(p.server.events, "o");
    assert_string_equal(stream_protocol(p.client.s), "TLSv1.3");
    while (p.server.got.len < total) {
        while (sent < total && !stream_congested(p.client.s)) {
            size_t n = total - sent < 50001 ? total - sent : 50001;
            assert_int_equal(stream_write(p.client.s, pattern + sent, n), 0);
            sent += n;
        }
        ev_loop_turn(loop, true);
    }
    assert_memory_equal(p.server.got.data, pattern, total);
    assert_int_equal(stream_write(p.server.s, "end", 3), 0);
    stream_finish(p.server.s);
    while (!strchr(p.client.events, 'e'))
        ev_loop_turn(loop, true);
    assert_int_equal(p.client.got.len, 3);
    tls_pair_done(&p);
    free(pattern);
    test_cert_done(&ca);
    test_cert_done(&cert);
}

static void expect_fault(const struct test_cert *cert, const struct test_cert *root,
                         const char *host, int fault)
{
    struct tls_pair p = {.client.accept = -1};

    tls_pair_start(&p, cert, root, host);
    assert_string_equal(p.client.events, "v");
    assert_int_equal(p.client.peer.n_faults, 1);
    assert_int_equal(p.client.peer.faults[0], fault);
    assert_int_equal(strlen(p.client.peer.fingerprint), 64);
    assert_int_equal(stream_write(p.client.s, "secret", 6), 0); /* waits for the answer */
    turns(10);
    assert_int_equal(p.server.got.len, 0);
    stream_tls_accept(p.client.s, false);
    turns(5);
    assert_string_equal(p.client.events, "vc");
    assert_int_equal(p.client.why.code, -EKEYREJECTED);
    tls_pair_done(&p);

    p = (struct tls_pair){.client.accept = 1};
    tls_pair_start(&p, cert, root, host);
    turns(10);
    assert_string_equal(p.client.events, "vo");
    assert_int_equal(stream_write(p.client.s, "secret", 6), 0);
    while (p.server.got.len < 6)
        ev_loop_turn(loop, true);
    tls_pair_done(&p);
}

static void test_tls_faults(void **state)
{
    struct test_cert ca = test_cert_make("Test CA", 10, NULL);
    struct test_cert good = test_cert_make("localhost", 10, &ca);
    struct test_cert address = test_cert_make("127.0.0.1", 10, &ca);
    struct test_cert expired = test_cert_make("localhost", -1, &ca);
    struct test_cert self = test_cert_make("localhost", 10, NULL);
    struct tls_pair p = {0};

    tls_pair_start(&p, &address, &ca, "127.0.0.1");
    assert_string_equal(p.client.events, "o");
    tls_pair_done(&p);
    expect_fault(&self, NULL, "localhost", 18 /* self-signed */);
    expect_fault(&expired, &ca, "localhost", 10);
    expect_fault(&good, &ca, "example.org", 1001);
    expect_fault(&good, &ca, "127.0.0.1", 1001);
    test_cert_done(&ca);
    test_cert_done(&good);
    test_cert_done(&address);
    test_cert_done(&expired);
    test_cert_done(&self);
}

/* Between two streams: copies what there is and notes the length of each TLS record of a to b. */
static void pump(int from, int to, struct buf *wire)
{
    uint8_t bytes[65536];
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);

    if (n <= 0)
        return;
    assert_int_equal(send(to, bytes, n, MSG_NOSIGNAL), n);
    if (wire)
        assert_int_equal(buf_append(wire, bytes, n), 0);
}

static size_t application_records(const struct buf *wire, size_t *ret_sizes, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i + 5 <= wire->len; i += 5 + (wire->data[i + 3] << 8) + wire->data[i + 4])
        if (wire->data[i] == 23 && n < max)
            ret_sizes[n++] = (wire->data[i + 3] << 8) + wire->data[i + 4];
    return n;
}

static void test_a_head_alone_in_its_record(void **state)
{
    struct test_cert cert = test_cert_make("localhost", 10, NULL);
    struct tls_context *server_tls = server_context(&cert), *client_tls = client_context(&cert);
    struct end client = {0}, server = {0};
    struct sockaddr_in addr;
    int lfd = listener(&addr), fds[2];
    size_t sizes[64], n;
    struct buf wire;

    buf_init(&wire, 0);
    pair(fds);
    struct stream_target target = {.addr = (struct sockaddr *)&addr,
                                   .addr_len = sizeof addr,
                                   .tls = client_tls,
                                   .host = "localhost"};
    assert_int_equal(stream_connect(loop, &target, &handlers, &client, &client.s), 0);
    int mid = accept(lfd, NULL, NULL);
    assert_int_equal(stream_new(loop, fds[0], server_tls, 0, &handlers, &server, &server.s), 0);
    for (int i = 0; i < 2000 && !(client.events[0] && server.events[0]); i++) {
        turns(1);
        pump(mid, fds[1], NULL);
        pump(fds[1], mid, NULL);
    }
    /* Fill the socket, so that what follows waits in one queue. */
    uint8_t block[16000] = {0};
    while (stream_queued(server.s) == 0)
        assert_int_equal(stream_write(server.s, block, sizeof block), 0);
    assert_int_equal(stream_write(server.s, "102", 3), 0);
    assert_int_equal(stream_write_record(server.s, "HTTP/1.1 101 x\r\n\r\n", 18), 0);
    assert_int_equal(stream_write(server.s, "NXPROXY-3.5.0-3.5.99", 20), 0);
    assert_int_equal(stream_write(server.s, "more", 4), 0);
    while (stream_queued(server.s) > 0 || poll(&(struct pollfd){fds[1], POLLIN, 0}, 1, 0) > 0) {
        turns(1);
        pump(fds[1], mid, &wire);
        turns(2);
    }
    n = application_records(&wire, sizes, 64);
    assert_true(n >= 3);
    assert_int_equal(sizes[n - 1], 24 + 17); /* TLS 1.3: one byte of type, 16 of tag */
    assert_int_equal(sizes[n - 2], 18 + 17);
    /* With an empty queue as well. */
    buf_done(&wire);
    assert_int_equal(stream_write_record(server.s, "HTTP/1.1 101 x\r\n\r\n", 18), 0);
    assert_int_equal(stream_write(server.s, "NX", 2), 0);
    pump(fds[1], mid, &wire);
    n = application_records(&wire, sizes, 64);
    assert_int_equal(n, 2);
    assert_int_equal(sizes[0], 18 + 17);
    assert_int_equal(sizes[1], 2 + 17);
    buf_done(&wire);
    end_done(&client);
    end_done(&server);
    close(mid);
    close(lfd);
    close(fds[1]);
    tls_context_unref(server_tls);
    tls_context_unref(client_tls);
    test_cert_done(&cert);
}

/* It is alive, but its owner reads no more: the kernel gives it up, after two minutes. */
static void test_a_peer_that_takes_nothing(void **state)
{
    struct sockaddr_in addr;
    struct end e = {0};
    uint8_t block[16000] = {0};
    int lfd = listener(&addr), fd = socket(AF_INET, SOCK_STREAM, 0), limit = 0;
    socklen_t len = sizeof limit;

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(stream_new(loop, accept(lfd, NULL, NULL), NULL, 0, &handlers, &e, &e.s), 0);
    assert_int_equal(getsockopt(stream_fd(e.s), IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, &len), 0);
    assert_int_equal(limit, 120000);
    limit = 100;
    assert_int_equal(setsockopt(stream_fd(e.s), IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, len), 0);
    turns(1);
    while (stream_queued(e.s) == 0)
        assert_int_equal(stream_write(e.s, block, sizeof block), 0);
    while (!strchr(e.events, 'c'))
        ev_loop_turn(loop, true);
    assert_int_equal(e.why.code, -ETIMEDOUT);
    end_done(&e);
    close(fd);
    close(lfd);
}

/* Asks for new keys, and says something with them; what cannot be sent now can be later. */
static void change_keys(SSL *ssl, const char *text)
{
    assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(ssl, text, strlen(text)), strlen(text));
}

/* The server must answer a change of keys while the client takes nothing: what lies behind it
 * waits, and nothing is lost, whether the owner reads or not. */
static void test_tls_keys_change_while_blocked(void **state)
{
    static const char all[] = "oneoneoneoneoneoneoneone";
    struct test_cert cert = test_cert_make("localhost", 10, NULL);
    struct tls_context *tls = server_context(&cert);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    struct end server = {0};
    uint8_t block[16000] = {0}, bytes[65536];
    size_t sent = 0, got = 0;
    int fds[2];

    pair(fds);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    SSL_set_fd(ssl, fds[1]);
    assert_int_equal(stream_new(loop, fds[0], tls, 0, &handlers, &server, &server.s), 0);
    while (SSL_connect(ssl) != 1)
        turns(1);
    while (!server.events[0])
        ev_loop_turn(loop, true);
    for (; stream_queued(server.s) < 70000; sent += sizeof block)
        assert_int_equal(stream_write(server.s, block, sizeof block), 0);
    for (int i = 0; i < 8; i++) {
        change_keys(ssl, "one");
        if (i == 4)
            stream_set_reading(server.s, false);
        turns(3);
    }
    assert_true(server.got.len < sizeof all - 1);
    while (got < sent) {
        int n = SSL_read(ssl, bytes, sizeof bytes);
        got += n > 0 ? n : 0;
        turns(1);
    }
    stream_set_reading(server.s, true);
    turns(5);
    assert_int_equal(server.got.len, sizeof all - 1);
    assert_memory_equal(server.got.data, all, sizeof all - 1);
    assert_string_equal(server.events, "od");
    end_done(&server);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fds[1]);
    tls_context_unref(tls);
    test_cert_done(&cert);
}

static void test_tls_refuses_bad_pem(void **state)
{
    struct test_cert a = test_cert_make("localhost", 10, NULL);
    struct test_cert b = test_cert_make("localhost", 10, NULL);
    struct tls_context *tls;
    struct qvd_error err;
    struct tls_server_spec spec = {
        .cert_pem = a.cert, .cert_len = strlen(a.cert), .key_pem = b.key, .key_len = strlen(b.key)};

    assert_int_equal(tls_server_new(&spec, &tls, &err), -EINVAL); /* the key of another */
    assert_non_null(strstr(err.text, "key"));
    spec.cert_pem = "nonsense";
    spec.cert_len = 8;
    assert_int_equal(tls_server_new(&spec, &tls, &err), -EINVAL);
    assert_non_null(strstr(err.text, "certificate"));
    test_cert_done(&a);
    test_cert_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_both_ways),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_unread_comes_first_then_eof),
        cmocka_unit_test(test_free_inside_callback),
        cmocka_unit_test(test_hangup_without_reading),
        cmocka_unit_test(test_reset_while_paused_costs_nothing),
        cmocka_unit_test(test_connect_refused_and_timeout),
        cmocka_unit_test(test_tls_carries_a_lot),
        cmocka_unit_test(test_tls_faults),
        cmocka_unit_test(test_a_head_alone_in_its_record),
        cmocka_unit_test(test_a_peer_that_takes_nothing),
        cmocka_unit_test(test_tls_keys_change_while_blocked),
        cmocka_unit_test(test_tls_refuses_bad_pem),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
