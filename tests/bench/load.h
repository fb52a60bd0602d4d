// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A load tool: the TLS client on one side of a proxy and the plain backend on its other side, in
 * one process. It judges nothing; it prints one line of JSON. */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_MAX 64

struct options {
    const char *host;
    int port;
    int backend_fd;  /* listens; -1: there is none */
    char **heads;    /* what session i says first, heads[i % n_heads]; the answer must be a 101 */
    size_t n_heads;  /* 0: nothing is said */
    size_t sessions; /* at the same time */
    size_t count;    /* round trips, handshakes */
    uint64_t bytes;  /* of all sessions together */
    bool resume;
    int watch[WATCH_MAX]; /* processes whose CPU time is told */
    size_t n_watch;
};

/* One TLS connection. */
struct flow {
    int fd, backend; /* backend: -1 none */
    SSL *ssl;
};

/* load-net.c. All of them end the program with a message when something fails. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
SSL_CTX *net_context(void);
/* Connects and shakes hands; session may be NULL. */
struct flow net_connect(const struct options *o, SSL_CTX *ctx, SSL_SESSION *session);
/* The same, then its head and the 101, then the backend's end of it, and bytes both ways that must
 * arrive as they were. */
struct flow net_session(const struct options *o, SSL_CTX *ctx, size_t number);
/* Sends head; reads an answer with its body. Its status. */
int net_ask(struct flow *f, const char *head);
void net_close(struct flow *f);
int net_accept(const struct options *o);
uint64_t now_ns(void);

/* What has passed since begin. */
struct meter {
    uint64_t wall, own, watched; /* ns */
};
struct meter meter_begin(const struct options *o);
struct meter meter_end(const struct options *o, struct meter begin);

/* Each prints its line. */
void run_down(const struct options *o);
void run_up(const struct options *o);
void run_rtt(const struct options *o);
void run_handshakes(const struct options *o);
void run_requests(const struct options *o);
void run_idle(const struct options *o);
