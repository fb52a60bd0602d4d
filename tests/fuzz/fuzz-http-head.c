// SPDX-License-Identifier: GPL-3.0-or-later
/* Heads of requests and answers, targets and credentials in them, and what follows a request, fed
 * to a server's end, and what follows an answer, fed to a client's end, in pieces of at most 143
 * bytes. The first byte chooses. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ev/ev.h"
#include "http/client.h"
#include "http/head.h"
#include "http/server.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct http_server *server;

static void on_request(void *owner, const struct http_head *head, const char *body, size_t len)
{
    if (strlen(body) > len)
        abort();
    if (http_server_answer_text(server, 200, head->target) < 0)
        abort();
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    server = http_server_free(server);
}

static const struct http_server_ops ops = {.request = on_request, .closed = on_closed};
static const struct http_server_limits limits = {.body_max = 1000};

static void feed_server(const uint8_t *data, size_t len)
{
    struct ev_loop *loop;
    struct stream *s;
    int fds[2];
    char sink[65536];

    if (ev_loop_new(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
        stream_new(loop, fds[0], NULL, 0, NULL, NULL, &s) < 0 ||
        http_server_new(loop, s, &limits, &ops, NULL, &server) < 0)
        abort();
    for (size_t i = 0; i < len && server; i += 143) {
        size_t n = len - i < 143 ? len - i : 143;
        if (send(fds[1], data + i, n, MSG_NOSIGNAL) < 0)
            break;
        ev_loop_turn(loop, false);
        while (recv(fds[1], sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
    }
    server = http_server_free(server);
    close(fds[1]);
    for (int i = 0; i < 4; i++)
        ev_loop_turn(loop, false);
    ev_loop_free(loop);
}

static struct http_client *client;
static struct stream *upgraded;

static void on_answer(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct http_client_request again = {.method = "GET", .target = "/"};

    if (body[len] != '\0' || len > 1000)
        abort();
    (void)!http_client_send(client, &again);
}

static void on_upgraded(void *owner, const struct http_head *head, struct stream *s)
{
    upgraded = s;
    stream_set_reading(s, true);
}

static void on_client_closed(void *owner, const struct qvd_error *why)
{
    client = http_client_free(client);
}

static const struct http_client_ops client_ops = {
    .answer = on_answer, .upgraded = on_upgraded, .closed = on_client_closed};

/* Answers to a client's end. */
static void feed_client(const uint8_t *data, size_t len)
{
    struct http_client_request request = {.method = "GET", .target = "/"};
    struct ev_loop *loop;
    struct stream *s;
    int fds[2];

    if (ev_loop_new(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
        stream_new(loop, fds[0], NULL, 0, NULL, NULL, &s) < 0 ||
        http_client_new(loop, s, 1000, &client_ops, NULL, &client) < 0 ||
        http_client_send(client, &request) < 0)
        abort();
    for (size_t i = 0; i < len && client; i += 143) {
        if (send(fds[1], data + i, len - i < 143 ? len - i : 143, MSG_NOSIGNAL) < 0)
            break;
        ev_loop_turn(loop, false);
    }
    close(fds[1]);
    for (int i = 0; i < 4; i++)
        ev_loop_turn(loop, false);
    client = http_client_free(client);
    upgraded = stream_free(upgraded);
    ev_loop_turn(loop, false);
    ev_loop_free(loop);
}

static void look_at(const struct http_head *h)
{
    struct http_target *target;
    struct http_auth auth;

    for (size_t i = 0; i < h->n_headers; i++)
        if (strpbrk(h->headers[i].name, " :\r\n") || strpbrk(h->headers[i].value, "\r\n"))
            abort();
    if (h->chunked && h->content_length >= 0)
        abort();
    if (h->target && http_target_parse(h->target, &target) == 0)
        http_target_free(target);
    if (http_auth_parse(http_head_get(h, "Authorization"), &auth) == 0)
        http_auth_done(&auth);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct http_head *h = NULL;

    if (len == 0)
        return 0;
    uint8_t choice = *data++;
    len--;
    if (choice == 's') {
        feed_server(data, len);
        return 0;
    }
    if (choice == 'c') {
        feed_client(data, len);
        return 0;
    }
    ssize_t n = http_head_length(data, len, HTTP_HEAD_MAX);
    if (n <= 0)
        return 0;
    if ((size_t)n > len || n > HTTP_HEAD_MAX)
        abort();
    if (http_head_parse(choice == 'a' ? HTTP_ANSWER : HTTP_REQUEST, data, n, &h, NULL) == 0)
        look_at(h);
    http_head_free(h);
    return 0;
}
