// SPDX-License-Identifier: GPL-3.0-or-later
/* The asker's client and qvd-rpc's server in one loop; the VMA is played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "ipc/channel.h"
#include "ipc/rpc-client.h"
#include "rpc/server.h"
#include "wire/vma.h"

static const uint8_t secret[WIRE_VMA_SECRET_LEN] = {1, 2, 3};

struct world {
    struct ev_loop *loop;
    struct rpc_client *client;
    struct rpc_server *server;
    int answers;
    enum rpc_status status;
    uint32_t http_status;
    char state[33], text[600];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    int fds[2];

    assert_int_equal(ev_loop_new(&w->loop), 0);
    assert_int_equal(rpc_client_new(w->loop, &w->client), 0);
    assert_int_equal(ipc_pair(fds), 0);
    assert_int_equal(rpc_client_attach(w->client, fds[0]), 0);
    assert_int_equal(rpc_server_new(w->loop, fds[1], &w->server), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    rpc_client_free(w->client);
    rpc_server_free(w->server);
    ev_loop_free(w->loop);
    free(w);
    return 0;
}

static void on_result(void *arg, const struct rpc_result *result)
{
    struct world *w = arg;

    w->answers++;
    w->status = (enum rpc_status)result->status;
    w->http_status = result->http_status;
    snprintf(w->state, sizeof w->state, "%s", result->state ? result->state : "");
    snprintf(w->text, sizeof w->text, "%s", result->text);
}

static void call(struct world *w, int fd, uint32_t timeout_ms, struct rpc_request **ret)
{
    const struct rpc_call c = {
        .function = "x_start",
        .serial = 4711,
        .timeout_ms = timeout_ms,
        .secret = {secret, sizeof secret},
        .body = "{\"qvd.vm.user.name\":\"ann\"}"
    };

    assert_int_equal(rpc_client_call(w->client, &c, fd, on_result, w, ret), 0);
}

/* A stream pair: the VMA's end blocks, as the test plays it by hand. */
static int vma_end(struct world *w, uint32_t timeout_ms, struct rpc_request **ret)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fs_set_nonblock(fds[0]), 0);
    call(w, fds[0], timeout_ms, ret);
    return fds[1];
}

static void turn_until_answer(struct world *w)
{
    int64_t end = clock_ms() + 5000;

    while (w->answers == 0 && clock_ms() < end)
        ev_loop_turn(w->loop, true);
    assert_int_equal(w->answers, 1);
}

/* Reads the request whole; returns its nonce. */
static void take_request(struct world *w, int fd, char *nonce)
{
    char data[4096] = "";
    size_t len = 0;

    assert_int_equal(fs_set_nonblock(fd), 0);
    int64_t end = clock_ms() + 5000;
    while (!strstr(data, "\"ann\"}") && clock_ms() < end) {
        ev_loop_turn(w->loop, false);
        ssize_t n = read(fd, data + len, sizeof data - 1 - len);
        if (n > 0)
            len += n;
        data[len] = '\0';
    }
    assert_true(str_starts(data, "POST /vma/1/x_start HTTP/1.1\r\n"));
    char *body = strstr(data, "\r\n\r\n") + 4, *auth = strstr(data, "QVD-Auth: ") + 10;
    uint64_t serial = 0;
    assert_int_equal(wire_vma_check_request(secret, "x_start", auth, strcspn(auth, "\r"), body,
                                            strlen(body), &serial, nonce),
                     0);
    assert_true(serial == 4711);
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void answer(int fd, unsigned status, const char *auth, const char *body)
{
    char text[4096];

    snprintf(
        text, sizeof text,
        "HTTP/1.1 %u Word\r\nContent-Type: application/json\r\n%s%s%sContent-Length: %zu\r\n\r\n"
        "%s",
        status, auth ? "QVD-Auth: " : "", auth ? auth : "", auth ? "\r\n" : "", strlen(body), body);
    send_text(fd, text);
}

static void signed_answer(struct world *w, unsigned status, const char *body)
{
    char nonce[WIRE_VMA_NONCE_LEN + 1], auth[WIRE_VMA_AUTH_MAX];
    int fd = vma_end(w, 3000, NULL);

    take_request(w, fd, nonce);
    assert_int_equal(wire_vma_sign_answer(secret, status, nonce, body, strlen(body), auth), 0);
    answer(fd, status, auth, body);
    turn_until_answer(w);
    close(fd);
}

static void test_good(void **state)
{
    struct world *w = *state;

    signed_answer(w, 200, "{\"state\":\"listening\"}");
    assert_int_equal(w->status, RPC_OK);
    assert_int_equal(w->http_status, 200);
    assert_string_equal(w->state, "listening");
    assert_string_equal(w->text, "");
}

static void test_refused(void **state)
{
    struct world *w = *state;

    signed_answer(w, 403, "{\"state\":\"stopped\",\"error\":\"no\\nroot\"}");
    assert_int_equal(w->status, RPC_REFUSED);
    assert_int_equal(w->http_status, 403);
    assert_string_equal(w->state, "stopped");
    assert_string_equal(w->text, "no?root");
}

static void test_unknown_state_word(void **state)
{
    struct world *w = *state;

    signed_answer(w, 200, "{\"state\":\"'; DROP TABLE vms\"}");
    assert_int_equal(w->status, RPC_OK);
    assert_string_equal(w->state, "");
}

static void test_wrong_shape(void **state)
{
    struct world *w = *state;

    signed_answer(w, 200, "[1,2]");
    assert_int_equal(w->status, RPC_BAD_ANSWER);
    assert_int_equal(w->http_status, 0);
}

static void raw_answer(struct world *w, const char *text, bool end)
{
    char nonce[WIRE_VMA_NONCE_LEN + 1];
    int fd = vma_end(w, 400, NULL);

    take_request(w, fd, nonce);
    send_text(fd, text);
    if (end)
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
    turn_until_answer(w);
    close(fd);
}

#define FALSE_MAC "v1 0000000000000000000000000000000000000000000000000000000000000000"

static void test_unsigned(void **state)
{
    struct world *w = *state;

    raw_answer(w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false);
    assert_int_equal(w->status, RPC_BAD_ANSWER);
}

static void test_wrong_mac(void **state)
{
    struct world *w = *state;

    raw_answer(w, "HTTP/1.1 200 OK\r\nQVD-Auth: " FALSE_MAC "\r\nContent-Length: 2\r\n\r\n{}",
               false);
    assert_int_equal(w->status, RPC_BAD_ANSWER);
    assert_string_equal(w->state, "");
}

/* A MAC of this VM over another status: 200 made of a 503. */
static void test_changed_status(void **state)
{
    struct world *w = *state;
    char nonce[WIRE_VMA_NONCE_LEN + 1], auth[WIRE_VMA_AUTH_MAX];
    int fd = vma_end(w, 3000, NULL);

    take_request(w, fd, nonce);
    assert_int_equal(wire_vma_sign_answer(secret, 503, nonce, "{}", 2, auth), 0);
    answer(fd, 200, auth, "{}");
    turn_until_answer(w);
    assert_int_equal(w->status, RPC_BAD_ANSWER);
    close(fd);
}

static void test_no_http(void **state)
{
    struct world *w = *state;

    raw_answer(w, "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", false);
    assert_int_equal(w->status, RPC_BAD_ANSWER);
}

static void test_too_long(void **state)
{
    struct world *w = *state;

    raw_answer(w, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nx", false);
    assert_int_equal(w->status, RPC_BAD_ANSWER);
}

static void test_cut(void **state)
{
    struct world *w = *state;

    raw_answer(w, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", true);
    assert_true(w->status == RPC_UNREACHABLE || w->status == RPC_BAD_ANSWER);
}

/* Interim answers do not buy time. */
static void test_endless_interims(void **state)
{
    struct world *w = *state;
    char nonce[WIRE_VMA_NONCE_LEN + 1];
    int fd = vma_end(w, 300, NULL);

    take_request(w, fd, nonce);
    int64_t begin = clock_ms();
    while (w->answers == 0 && clock_ms() - begin < 3000) {
        (void)!write(fd, "HTTP/1.1 102 Processing\r\n\r\n", 27);
        ev_loop_turn(w->loop, false);
    }
    assert_int_equal(w->answers, 1);
    assert_int_equal(w->status, RPC_TIMEOUT);
    assert_true(clock_ms() - begin < 2000);
    close(fd);
}

static void test_silent(void **state)
{
    struct world *w = *state;
    int fd = vma_end(w, 100, NULL);

    turn_until_answer(w);
    assert_int_equal(w->status, RPC_TIMEOUT);
    close(fd);
}

static void test_nobody_there(void **state)
{
    struct world *w = *state;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof addr;
    int gone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* A port that is bound but does not listen refuses. */
    assert_int_equal(bind(gone, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(getsockname(gone, (struct sockaddr *)&addr, &len), 0);
    (void)!connect(fd, (struct sockaddr *)&addr, sizeof addr);
    call(w, fd, 3000, NULL);
    turn_until_answer(w);
    assert_int_equal(w->status, RPC_UNREACHABLE);
    close(gone);
}

static void test_too_many(void **state)
{
    struct world *w = *state;
    struct rpc_request *requests[RPC_SERVER_CALLS_MAX];
    int fds[2];

    /* One silent peer for all, so that the limit of descriptors is not the one that is met. Sent in
     * parts: the channel's own queue is shorter than the limit of calls. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < RPC_SERVER_CALLS_MAX; i++) {
        call(w, dup(fds[0]), 60000, &requests[i]);
        for (int t = 0; i % 32 == 31 && t < 4; t++)
            ev_loop_turn(w->loop, false);
    }
    assert_int_equal(w->answers, 0);
    call(w, dup(fds[0]), 60000, NULL);
    turn_until_answer(w);
    assert_int_equal(w->status, RPC_BUSY);
    for (int i = 0; i < RPC_SERVER_CALLS_MAX; i++)
        rpc_request_cancel(requests[i]);
    close(fds[0]);
    close(fds[1]);
}

static void test_cancelled(void **state)
{
    struct world *w = *state;
    struct rpc_request *request;
    int fd = vma_end(w, 50, &request);

    ev_loop_turn(w->loop, false);
    assert_null(rpc_request_cancel(request));
    int64_t end = clock_ms() + 200;
    while (clock_ms() < end)
        ev_loop_turn(w->loop, false);
    assert_int_equal(w->answers, 0);
    close(fd);
}

static void test_rpc_dies(void **state)
{
    struct world *w = *state;
    int fd = vma_end(w, 60000, NULL), again = -EBADF;

    ev_loop_turn(w->loop, false);
    w->server = rpc_server_free(w->server);
    turn_until_answer(w);
    assert_int_equal(w->status, RPC_BUSY);
    assert_false(rpc_client_attached(w->client));
    w->answers = 0;
    again = vma_end(w, 60000, NULL);
    assert_int_equal(w->answers, 0); /* never from within the call */
    turn_until_answer(w);
    assert_int_equal(w->status, RPC_BUSY);
    close(fd);
    close(again);
}

static void test_too_long_body(void **state)
{
    struct world *w = *state;
    static char body[15002];
    struct rpc_call c = {
        .function = "x_start", .timeout_ms = 100, .secret = {secret, 32},
                .body = body
    };
    int fds[2];

    memset(body, ' ', sizeof body - 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(rpc_client_call(w->client, &c, fds[0], on_result, w, NULL), -EMSGSIZE);
    close(fds[1]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good),
        TEST(test_refused),
        TEST(test_unknown_state_word),
        TEST(test_wrong_shape),
        TEST(test_unsigned),
        TEST(test_wrong_mac),
        TEST(test_changed_status),
        TEST(test_no_http),
        TEST(test_too_long),
        TEST(test_cut),
        TEST(test_endless_interims),
        TEST(test_silent),
        TEST(test_nobody_there),
        TEST(test_too_many),
        TEST(test_cancelled),
        TEST(test_rpc_dies),
        TEST(test_too_long_body),
    };

    return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
