// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "http/client.h"
#include "http/server.h"
#include "raw.h"

static void test_requests_in_pieces(void **state)
{
    static const char text[] = "GET /1 HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n"
                               "POST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
                               "POST /3 HTTP/1.1\nTransfer-Encoding: chunked\n\n"
                               "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n"
                               "GET /4 HTTP/1.1\n\n";
    static const char answers[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n/1\r\n"
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n/2\r\n"
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n/3\r\n"
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n/4\r\n";

    for (size_t piece = 1; piece <= 143; piece += piece < 12 ? 1 : 17) {
        struct raw r = {.body_max = 5};
        raw_start(&r, NULL);
        raw_send(&r, text, piece);
        assert_string_equal(raw_got(&r), answers);
        assert_string_equal(seen(&r), "GET /1 ;POST /2 hello;POST /3 abcde;GET /4 ;");
        raw_done(&r);
    }
}

static void expect_refusal(const char *text, const char *status, int64_t body_max)
{
    struct raw r = {.body_max = body_max};

    raw_start(&r, NULL);
    raw_send(&r, text, 143);
    const char *got = raw_got(&r);
    if (strncmp(got, status, strlen(status)) != 0 || !strstr(got, "Content-Length: ") ||
        strcmp(got + strlen(got) - 3, "EOF") != 0)
        fail_msg("%s: %s", text, got);
    assert_string_equal(seen(&r), "");
    assert_int_equal(r.closes, 1);
    raw_done(&r);
}

static void test_refusals_close(void **state)
{
    char *big = malloc(HTTP_HEAD_MAX + 100);

    expect_refusal("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 505 ", 0);
    expect_refusal("nonsense\r\n\r\n", "HTTP/1.1 400 ", 0);
    expect_refusal("POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef", "HTTP/1.1 413 ", 5);
    expect_refusal("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 413 ", 0);
    expect_refusal("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
                   "HTTP/1.1 413 ", 5);
    expect_refusal("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 ",
                   5);
    expect_refusal("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
                   "HTTP/1.1 400 ", 5);
    memset(big, 'a', HTTP_HEAD_MAX + 99);
    big[HTTP_HEAD_MAX + 99] = '\0';
    memcpy(big, "GET / HTTP/1.1\r\nA: ", 19);
    expect_refusal(big, "HTTP/1.1 431 ", 0);
    free(big);
}

static void test_interim_then_answer(void **state)
{
    struct raw r = {.mode = ANSWER_LATER};
    const struct http_header h = {"X-A", "b"};

    raw_start(&r, NULL);
    raw_send(&r, "GET /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n", 1000);
    assert_true(http_server_pending(r.server));
    assert_string_equal(seen(&r), "GET /x ;"); /* the second waits */
    assert_int_equal(http_server_interim(r.server, 102, "X-QVD-VM-Info", "Session acquired"), 0);
    assert_int_equal(http_server_interim(r.server, 102, "X-Evil", "a\r\nb"), -EINVAL);
    assert_int_equal(http_server_answer(r.server, 503, "text/plain", &h, 1, "later\r\n", 7), 0);
    assert_string_equal(raw_got(&r),
                        "HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Session acquired\r\n\r\n"
                        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
                        "Content-Length: 7\r\nX-A: b\r\n\r\nlater\r\n");
    assert_string_equal(seen(&r), "GET /x ;GET /y ;");
    assert_int_equal(http_server_interim(r.server, 102, NULL, NULL), 0);
    http_server_close_after(r.server);
    assert_int_equal(http_server_answer(r.server, 404, NULL, NULL, 0, NULL, 0), 0);
    buf_done(&r.got);
    assert_string_equal(raw_got(&r), "HTTP/1.1 102 Processing\r\n\r\n"
                                     "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n"
                                     "Content-Length: 11\r\nConnection: close\r\n\r\n"
                                     "Not Found\r\nEOF");
    assert_int_equal(r.closes, 1);
    assert_int_equal(r.close_code, 0);
    raw_done(&r);
}

/* A large answer in pieces, each when the peer has taken the last. */
static struct {
    struct raw *r;
    size_t left;
    int calls;
} large;

static void write_on(void *owner)
{
    static const char piece[50000] = {'p'};

    large.calls++;
    while (large.left > 0) {
        size_t n = large.left < sizeof piece ? large.left : sizeof piece;
        assert_int_equal(http_server_write(large.r->server, piece, n), 0);
        large.left -= n;
        if (large.left > 0 && stream_congested(http_server_stream(large.r->server)))
            return;
    }
}

static void test_answer_in_pieces(void **state)
{
    static const char *const methods[] = {"GET", "HEAD"};

    for (int i = 0; i < 2; i++) {
        struct raw r = {.mode = ANSWER_LATER};
        char request[64];
        snprintf(request, sizeof request, "%s /x HTTP/1.1\r\n\r\n", methods[i]);
        raw_start(&r, NULL);
        raw_send(&r, request, 100);
        large.r = &r;
        large.left = 2000000;
        large.calls = 0;
        assert_int_equal(
            http_server_answer_begin(r.server, 200, "x/y", NULL, 0, large.left, write_on), 0);
        write_on(NULL);
        assert_int_equal(http_server_write(r.server, "x", 1), large.left ? 0 : -EPIPE);
        large.left -= large.left > 0;
        const char *head =
            "HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: 2000000\r\n\r\n";
        size_t want = strlen(head) + (i == 0 ? 2000000 : 0);
        const char *got = "";
        for (int n = 0; n < 500 && r.got.len < want; n++)
            got = raw_got(&r);
        assert_int_equal(r.got.len, want);
        assert_memory_equal(got, head, strlen(head));
        assert_true(i == 1 || large.calls > 2);
        raw_send(&r, "GET /y HTTP/1.1\r\n\r\n", 100); /* the connection goes on */
        assert_true(http_server_pending(r.server));
        raw_done(&r);
    }
}

static void test_hangup_while_waiting(void **state)
{
    for (int full = 0; full < 2; full++) {
        struct raw r = {.mode = ANSWER_LATER};
        char *much = malloc(40000);
        raw_start(&r, NULL);
        raw_send(&r, "GET /x HTTP/1.1\r\n\r\n", 1000);
        if (full) { /* so much behind it that reading has stopped */
            memset(much, 'x', 39999);
            much[39999] = '\0';
            raw_send(&r, much, 40000);
        }
        close(r.fd);
        r.fd = -1;
        int64_t start = clock_ms();
        while (!r.hangups && clock_ms() - start < 3000)
            turns(1);
        assert_int_equal(r.hangups, 1);
        assert_int_equal(http_server_answer_text(r.server, 200, "x"), -EPIPE);
        turns(3);
        assert_int_equal(r.closes, 0);
        free(much);
        raw_done(&r);
    }
}

/* "printf ... | nc -N": the end of the requests comes before the first answer. */
static void test_half_closed_peer(void **state)
{
    static const struct {
        const char *sent;
        bool reads_on;
        const char *seen; /* requests */
        int hangups, answers;
    } rows[] = {
        {"GET /a HTTP/1.1\r\n\r\n",                        true,  "GET /a ;",         0, 1},
        {"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", true,  "GET /a ;GET /b ;", 0, 2},
        {"GET /a HTTP/1.1\r\n\r\nGET /b HTT",              true,  "GET /a ;",         0, 1},
        {"GET /a HTTP/1.1\r\n\r\n",                        false, "GET /a ;",         1, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct raw r = {.mode = ANSWER_LATER, .reads_on = rows[i].reads_on};
        raw_start(&r, NULL);
        raw_send(&r, rows[i].sent, 1000);
        assert_int_equal(shutdown(r.fd, SHUT_WR), 0);
        turns(4);
        assert_int_equal(r.hangups, rows[i].hangups);
        for (int n = 0; n < rows[i].answers; n++) {
            assert_non_null(r.server);
            assert_int_equal(http_server_answer_text(r.server, 200, n ? "second" : "first"), 0);
            turns(4);
        }
        assert_string_equal(seen(&r), rows[i].seen);
        const char *got = raw_got(&r);
        assert_int_equal(strstr(got ? got : "", "first") != NULL, rows[i].answers > 0);
        assert_int_equal(strstr(got ? got : "", "second") != NULL, rows[i].answers > 1);
        if (rows[i].answers)
            assert_string_equal(got + strlen(got) - 3, "EOF");
        raw_done(&r);
    }
}

static void test_upgrade_keeps_early_bytes(void **state)
{
    struct raw r = {.mode = ANSWER_UPGRADE};

    raw_start(&r, NULL);
    raw_send(&r, "GET /c HTTP/1.1\nConnection: Upgrade\nUpgrade: QVD/1.0\n\nNXPROXY-3.5.0-3.5.99 ",
             1000);
    assert_non_null(r.upgraded);
    raw_send(&r, "stream=default", 5);
    assert_string_equal(raw_got(&r), "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                     "Upgrade: QVD/1.0\r\nX-QVD-Slave-Key: k\r\n\r\n");
    assert_string_equal(buf_cstr(&r.raw_bytes), "NXPROXY-3.5.0-3.5.99 stream=default");
    assert_int_equal(stream_write(r.upgraded, "nx", 2), 0);
    buf_done(&r.got);
    assert_string_equal(raw_got(&r), "nx");
    raw_done(&r);
}

static void test_streamed_body(void **state)
{
    struct raw r = {.body_max = -1};
    char head[] = "PUT /u HTTP/1.1\r\nContent-Length: 300000\r\n\r\n";
    char *body = malloc(300001);

    memset(body, 'u', 300000);
    body[300000] = '\0';
    raw_start(&r, NULL);
    raw_send(&r, head, 1000);
    http_server_pause_body(r.server, true);
    raw_send(&r, "0123456789", 5);
    assert_int_equal(r.streamed.len, 0);
    http_server_pause_body(r.server, false);
    turns(2);
    assert_int_equal(r.streamed.len, 10);
    raw_send(&r, body + 10, 30000);
    assert_int_equal(r.streamed.len, 300000);
    assert_string_equal(seen(&r), "PUT /u ;");
    raw_done(&r);
    free(body);
}

static void test_answer_from_the_head(void **state)
{
    struct raw r = {.mode = ANSWER_HEAD, .body_max = 100};

    raw_start(&r, NULL);
    raw_send(&r, "GET /a HTTP/1.1\r\n\r\n", 1000); /* no body: the connection stays */
    assert_non_null(strstr(raw_got(&r), "HTTP/1.1 401 "));
    assert_int_equal(r.closes, 0);
    raw_send(&r, "POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 1000);
    turns(3);
    assert_int_equal(r.closes, 1);
    assert_string_equal(seen(&r), "");
    raw_done(&r);
}

static void test_expect_continue(void **state)
{
    struct raw r = {.body_max = 10};

    raw_start(&r, NULL);
    raw_send(&r, "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 1000);
    assert_string_equal(raw_got(&r), "HTTP/1.1 100 Continue\r\n\r\n");
    raw_send(&r, "ab", 1);
    assert_string_equal(seen(&r), "POST /a ab;");
    raw_done(&r);
}

static void test_time_limits(void **state)
{
    static const struct http_server_limits limits = {
        .head_ms = 60, .first_ms = 60, .idle_ms = 60, .send_ms = 60};

    for (int kind = 0; kind < 4; kind++) {
        struct raw r = {.body_max = 100};
        raw_start(&r, &limits);
        if (kind == 1)
            raw_send(&r, "GET / HT", 100);
        if (kind == 2)
            raw_send(&r, "GET / HTTP/1.1\r\n\r\n", 100);
        if (kind == 3)
            raw_send(&r, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", 100);
        while (!r.closes)
            ev_loop_turn(loop, true);
        const char *got = raw_got(&r);
        if (kind == 0)
            assert_string_equal(got, "EOF");
        else
            assert_non_null(strstr(got, kind == 2 ? "200 OK" : "408 Request Timeout"));
        raw_done(&r);
    }

    /* A client that never takes its answer. */
    struct raw r = {.mode = ANSWER_LATER};
    size_t len = 4 << 20;
    char *much = calloc(1, len);
    raw_start(&r, &limits);
    raw_send(&r, "GET / HTTP/1.1\r\n\r\n", 100);
    assert_int_equal(http_server_answer(r.server, 200, "x/y", NULL, 0, much, len), 0);
    while (!r.closes)
        ev_loop_turn(loop, true);
    assert_int_equal(r.close_code, -ETIMEDOUT);
    raw_done(&r);
    free(much);
}

/* --- both ends of ours ------------------------------------------------------------------------ */

struct both {
    struct raw server;
    struct http_client *client;
    struct buf log; /* "102 text;200 body;" */
    struct stream *upgraded;
    struct buf raw_bytes;
    int closes, close_code;
};

static void on_interim(void *owner, const struct http_head *head)
{
    struct both *b = owner;

    assert_int_equal(
        buf_printf(&b->log, "%d %s;", head->status, http_head_get(head, "X-QVD-VM-Info")), 0);
}

static void on_answer(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct both *b = owner;

    assert_int_equal(strlen(body), len);
    assert_int_equal(buf_printf(&b->log, "%d %s;", head->status, body), 0);
}

static void on_both_data(void *owner, const uint8_t *data, size_t len)
{
    struct both *b = owner;

    assert_int_equal(buf_append(&b->raw_bytes, data, len), 0);
}

static const struct stream_handlers both_handlers = {.data = on_both_data};

static void on_upgraded(void *owner, const struct http_head *head, struct stream *s)
{
    struct both *b = owner;

    b->upgraded = s;
    assert_int_equal(buf_printf(&b->log, "101 %s;", http_head_get(head, "X-QVD-Slave-Key")), 0);
    stream_set_handlers(s, &both_handlers, b);
    stream_set_reading(s, true);
}

static void on_client_closed(void *owner, const struct qvd_error *why)
{
    struct both *b = owner;

    b->closes++;
    b->close_code = why->code;
}

static const struct http_client_ops client_ops = {.interim = on_interim,
                                                  .answer = on_answer,
                                                  .upgraded = on_upgraded,
                                                  .closed = on_client_closed};

static void client_start(struct both *b, bool with_server)
{
    struct stream *s;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(stream_new(loop, fds[0], NULL, 0, NULL, NULL, &s), 0);
    assert_int_equal(http_client_new(loop, s, 1000, &client_ops, b, &b->client), 0);
    b->server.fd = fds[1];
    if (!with_server)
        return;
    assert_int_equal(stream_new(loop, fds[1], NULL, 0, NULL, NULL, &s), 0);
    assert_int_equal(http_server_new(loop, s, NULL, &raw_ops, &b->server, &b->server.server), 0);
    b->server.fd = -1;
}

static void both_done(struct both *b)
{
    b->client = http_client_free(b->client);
    b->server.server = http_server_free(b->server.server);
    stream_free(b->upgraded);
    stream_free(b->server.upgraded);
    if (b->server.fd >= 0)
        close(b->server.fd);
    turns(4);
    buf_done(&b->log);
    buf_done(&b->server.seen);
    buf_done(&b->server.got);
    buf_done(&b->server.raw_bytes);
    buf_done(&b->raw_bytes);
}

static void ask(struct both *b, const char *method, const char *target, const char *body)
{
    struct http_client_request r = {.method = method,
                                    .target = target,
                                    .body = body,
                                    .body_len = body ? strlen(body) : 0,
                                    .timeout_ms = 5000};

    assert_int_equal(http_client_send(b->client, &r), 0);
    turns(6);
}

static void test_client_and_server(void **state)
{
    struct both b = {.server.body_max = 100};

    client_start(&b, true);
    ask(&b, "GET", "/1", NULL);
    ask(&b, "POST", "/2", "abc");
    assert_true(http_client_reusable(b.client));
    assert_string_equal(buf_cstr(&b.log), "200 /1\r\n;200 /2\r\n;");
    assert_string_equal(seen(&b.server), "GET /1 ;POST /2 abc;");
    b.server.mode = ANSWER_UPGRADE;
    ask(&b, "GET", "/3", NULL);
    assert_non_null(b.upgraded);
    assert_int_equal(stream_write(b.upgraded, "NXPROXY", 7), 0);
    assert_int_equal(stream_write(b.server.upgraded, "hello", 5), 0);
    turns(4);
    assert_string_equal(buf_cstr(&b.raw_bytes), "hello");
    assert_string_equal(buf_cstr(&b.server.raw_bytes), "NXPROXY");
    assert_string_equal(buf_cstr(&b.log), "200 /1\r\n;200 /2\r\n;101 k;");
    both_done(&b);
}

static void test_client_digests(void **state)
{
    static const struct {
        const char *text, *log;
        int code; /* 1: stays open */
    } table[] = {
        {"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: a\r\n\r\n"
         "HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: b\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",                             "102 a;102 b;200 ok;", 1        },
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
         "200 abc;",                                                                                                   1        },
        {"HTTP/1.1 204 No Content\r\n\r\n",                                                     "204 ;",               1        },
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",                 "200 ok;",             0        },
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore",                                  "200 ok;",             -EPROTO  },
        {"HTTP/1.1 101 x\r\nX-QVD-Slave-Key: k\r\n\r\nNX",                                      "101 k;",              1        },
        {"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",                                     "",                    -EMSGSIZE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",                          "",                    -EPROTO  },
        {"HTTP/2 200 OK\r\n\r\n",                                                               "",                    -EPROTO  },
        {"SSH-2.0-OpenSSH\r\n\r\n",                                                             "",                    -EPROTO  },
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        for (size_t piece = 1; piece < 200; piece += 71) {
            struct both b = {0};
            client_start(&b, false);
            ask(&b, "GET", "/", NULL);
            raw_send(&b.server, table[i].text, piece);
            turns(3);
            if (strcmp(b.log.len ? buf_cstr(&b.log) : "", table[i].log) != 0 ||
                b.closes != (table[i].code != 1) || (b.closes && b.close_code != table[i].code))
                fail_msg("row %zu in pieces of %zu: %s (%d)", i, piece,
                         b.log.len ? buf_cstr(&b.log) : "", b.close_code);
            if (b.upgraded)
                assert_string_equal(buf_cstr(&b.raw_bytes), "NX");
            both_done(&b);
        }
    }
}

static void test_client_end_of_connection(void **state)
{
    struct both b = {0};

    client_start(&b, false);
    ask(&b, "GET", "/", NULL);
    raw_send(&b.server, "HTTP/1.1 200 OK\r\n\r\nuntil the end", 1000); /* no length */
    shutdown(b.server.fd, SHUT_WR);
    turns(4);
    assert_string_equal(buf_cstr(&b.log), "200 until the end;");
    assert_int_equal(b.closes, 1);
    both_done(&b);

    b = (struct both){0};
    client_start(&b, false);
    ask(&b, "GET", "/", NULL);
    raw_send(&b.server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 1000);
    shutdown(b.server.fd, SHUT_WR);
    turns(4);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.close_code, -ECONNRESET);
    both_done(&b);

    b = (struct both){0};
    client_start(&b, false);
    struct http_client_request r = {.method = "GET", .target = "/", .timeout_ms = 50};
    assert_int_equal(http_client_send(b.client, &r), 0);
    assert_int_equal(http_client_send(b.client, &r), -EBUSY);
    while (!b.closes)
        ev_loop_turn(loop, true);
    assert_int_equal(b.close_code, -ETIMEDOUT);
    both_done(&b);
}

static void test_client_refuses_to_smuggle(void **state)
{
    struct both b = {0};
    struct http_header evil = {"X", "a\r\nY: b"};
    struct http_client_request r = {
        .method = "GET", .target = "/", .headers = &evil, .n_headers = 1};

    client_start(&b, false);
    assert_int_equal(http_client_send(b.client, &r), -EINVAL);
    r = (struct http_client_request){.method = "GET", .target = "/a b"};
    assert_int_equal(http_client_send(b.client, &r), -EINVAL);
    both_done(&b);
}

static int setup(void **state)
{
    return ev_loop_new(&loop);
}

static int teardown(void **state)
{
    turns(3);
    loop = ev_loop_free(loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_in_pieces),
        cmocka_unit_test(test_refusals_close),
        cmocka_unit_test(test_interim_then_answer),
        cmocka_unit_test(test_answer_in_pieces),
        cmocka_unit_test(test_hangup_while_waiting),
        cmocka_unit_test(test_half_closed_peer),
        cmocka_unit_test(test_upgrade_keeps_early_bytes),
        cmocka_unit_test(test_streamed_body),
        cmocka_unit_test(test_answer_from_the_head),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_time_limits),
        cmocka_unit_test(test_client_and_server),
        cmocka_unit_test(test_client_digests),
        cmocka_unit_test(test_client_end_of_connection),
        cmocka_unit_test(test_client_refuses_to_smuggle),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
