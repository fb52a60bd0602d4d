// SPDX-License-Identifier: GPL-3.0-or-later
/* Many connections: handshakes, requests, idle sessions. Threads, so that the server always has
 * some in hand. */
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define THREADS 8

struct job {
    const struct options *o;
    SSL_CTX *ctx;
    void (*one)(struct job *j, size_t number);
    size_t next;
    SSL_SESSION *ticket; /* to be resumed */
    struct flow *flows;
};

static void *work(void *arg)
{
    struct job *j = arg;

    for (;;) {
        size_t n = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
        if (n >= j->o->count)
            return NULL;
        j->one(j, n);
    }
}

static void in_threads(struct job *j)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, j) != 0)
            die("no threads");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void report(const struct options *o, const struct meter *m)
{
    printf("{\"seconds\": %.6f, \"count\": %zu, \"cpu\": %.6f, \"load_cpu\": %.6f}\n",
           (double)m->wall / 1e9, o->count, (double)m->watched / 1e9, (double)m->own / 1e9);
}

/* --- handshakes ------------------------------------------------------------------------------- */

static void one_handshake(struct job *j, size_t number)
{
    /* A connection that fails makes its session useless to all others: each has a copy. */
    SSL_SESSION *ticket = j->ticket ? SSL_SESSION_dup(j->ticket) : NULL;
    struct flow f = net_connect(j->o, j->ctx, ticket);

    SSL_SESSION_free(ticket);
    SSL_shutdown(f.ssl);
    /* Its end is seen when the server's is: no half-made connection is left behind. */
    shutdown(f.fd, SHUT_WR);
    char rest[4096];
    while (recv(f.fd, rest, sizeof rest, 0) > 0)
        ;
    net_close(&f);
}

static SSL_SESSION *ticket_of;

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    SSL_SESSION_free(ticket_of);
    ticket_of = session;
    return 1;
}

/* A session that can be resumed: the ticket comes behind the handshake, or with an answer. */
static SSL_SESSION *get_ticket(const struct options *o)
{
    SSL_CTX *ctx = net_context();
    char byte;

    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_ticket);
    struct flow f = net_connect(o, ctx, NULL);
    struct timeval patience = {.tv_usec = 100000};
    if (o->n_heads && net_ask(&f, o->heads[0]) != 200)
        die("the request that shall bring a ticket was not answered by 200");
    setsockopt(f.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int i = 0; i < 50 && !ticket_of; i++)
        (void)SSL_read(f.ssl, &byte, 1);
    if (!ticket_of)
        die("the server gave no ticket");
    SSL_shutdown(f.ssl);
    net_close(&f);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return ticket_of;
}

void run_handshakes(const struct options *o)
{
    struct job j = {.o = o, .ctx = net_context(), .one = one_handshake};

    if (o->resume)
        j.ticket = get_ticket(o);
    struct meter begin = meter_begin(o);
    in_threads(&j);
    struct meter m = meter_end(o, begin);
    report(o, &m);
    SSL_SESSION_free(j.ticket);
    SSL_CTX_free(j.ctx);
}

/* --- requests --------------------------------------------------------------------------------- */

static void one_request(struct job *j, size_t number)
{
    struct flow f = net_connect(j->o, j->ctx, NULL);
    int status = net_ask(&f, j->o->heads[number % j->o->n_heads]);

    if (status != 200)
        die("request %zu: status %d instead of 200", number, status);
    net_close(&f);
}

void run_requests(const struct options *o)
{
    struct job j = {.o = o, .ctx = net_context(), .one = one_request};
    struct meter begin = meter_begin(o);

    in_threads(&j);
    struct meter m = meter_end(o, begin);
    report(o, &m);
    SSL_CTX_free(j.ctx);
}

/* --- idle sessions ---------------------------------------------------------------------------- */

static void one_idle(struct job *j, size_t number)
{
    struct flow f = net_connect(j->o, j->ctx, NULL);

    if (j->o->n_heads) {
        int status = net_ask(&f, j->o->heads[number % j->o->n_heads]);
        if (status != 101)
            die("session %zu: status %d instead of 101", number, status);
    }
    /* Whose end it is does not matter: all of them are used alike. */
    f.backend = net_accept(j->o);
    j->flows[number] = f;
}

/* Each has carried some bytes, as any session has; which backend's end is whose is not known. */
static void use_all(struct job *j)
{
    char bytes[1000] = "x";

    for (size_t i = 0; i < j->o->count; i++) {
        if (SSL_write(j->flows[i].ssl, bytes, sizeof bytes) != sizeof bytes)
            die("session %zu broke", i);
        if (send(j->flows[i].backend, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
            die("the backend's end %zu broke", i);
    }
    for (size_t i = 0; i < j->o->count; i++) {
        if (recv(j->flows[i].backend, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
            die("the backend's end %zu heard nothing", i);
        for (int got = 0, n; got < (int)sizeof bytes; got += n) {
            n = SSL_read(j->flows[i].ssl, bytes, (int)sizeof bytes - got);
            if (n <= 0)
                die("session %zu heard nothing", i);
        }
    }
}

/* Says when they are there, and holds them until its standard input ends. */
void run_idle(const struct options *o)
{
    struct job j = {
        .o = o, .ctx = net_context(), .one = one_idle, .flows = calloc(o->count, sizeof *j.flows)};
    char byte;

    if (!j.flows)
        die("out of memory");
    in_threads(&j);
    use_all(&j);
    printf("{\"ready\": %zu}\n", o->count);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    _exit(0);
}
