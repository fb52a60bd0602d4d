// SPDX-License-Identifier: GPL-3.0-or-later
/* Connections, answers, clocks. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define WAIT_MS 60000
#define PROBE 60000

void die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("bench-load: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    _exit(1);
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* First field of schedstat: ns on a CPU, exact. */
static uint64_t cpu_of(int pid)
{
    char path[64];
    unsigned long long ns = 0;

    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%llu", &ns) != 1)
        die("%s: %s", path, strerror(errno));
    fclose(f);
    return ns;
}

static uint64_t own_cpu(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return ((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)u.ru_utime.tv_usec + (uint64_t)u.ru_stime.tv_usec) * 1000u;
}

struct meter meter_begin(const struct options *o)
{
    struct meter m = {.own = own_cpu()};

    for (size_t i = 0; i < o->n_watch; i++)
        m.watched += cpu_of(o->watch[i]);
    m.wall = now_ns();
    return m;
}

struct meter meter_end(const struct options *o, struct meter begin)
{
    struct meter m = {.wall = now_ns() - begin.wall};

    for (size_t i = 0; i < o->n_watch; i++)
        m.watched += cpu_of(o->watch[i]);
    m.watched -= begin.watched;
    m.own = own_cpu() - begin.own;
    return m;
}

static _Noreturn void die_ssl(const char *what, SSL *ssl, int n)
{
    char text[160];
    int kind = SSL_get_error(ssl, n);

    ERR_error_string_n(ERR_peek_error(), text, sizeof text);
    die("%s: %d, %s (%s)", what, kind, text, strerror(errno));
}

SSL_CTX *net_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519") != 1)
        die("cannot make a TLS context");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

struct flow net_connect(const struct options *o, SSL_CTX *ctx, SSL_SESSION *session)
{
    struct flow f = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .backend = -1};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    int one = 1;

    if (inet_pton(AF_INET, o->host, &to.sin_addr) != 1)
        die("%s is no address", o->host);
    if (f.fd < 0 || connect(f.fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connecting to %s:%d: %s", o->host, o->port, strerror(errno));
    setsockopt(f.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    f.ssl = SSL_new(ctx);
    if (!f.ssl || SSL_set_fd(f.ssl, f.fd) != 1 || (session && SSL_set_session(f.ssl, session) != 1))
        die("cannot begin TLS");
    int n = SSL_connect(f.ssl);
    if (n != 1)
        die_ssl("TLS handshake", f.ssl, n);
    if (session && !SSL_session_reused(f.ssl))
        die("the server did not resume the session");
    return f;
}

static void send_all(struct flow *f, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        int n = SSL_write(f->ssl, (const char *)data + at, (int)(len - at));
        if (n <= 0)
            die_ssl("sending", f->ssl, n);
        at += (size_t)n;
    }
}

/* One head, byte by byte so that nothing behind it is taken. */
static int read_head(struct flow *f, char *head, size_t size)
{
    size_t len = 0;
    int status;

    while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
        if (len + 1 == size)
            die("an answer is too long");
        int n = SSL_read(f->ssl, head + len, 1);
        if (n != 1)
            die_ssl("no answer", f->ssl, n);
        len++;
    }
    head[len] = 0;
    if (sscanf(head, "HTTP/1.1 %d ", &status) != 1)
        die("a strange answer: %s", head);
    return status;
}

int net_ask(struct flow *f, const char *head)
{
    char answer[8192], body[4096];
    int status;

    send_all(f, head, strlen(head));
    do
        status = read_head(f, answer, sizeof answer);
    while (status / 100 == 1 && status != 101);
    const char *field = strcasestr(answer, "\r\nContent-Length:");
    for (long left = field ? atol(field + 17) : 0; left > 0;) {
        int n = SSL_read(f->ssl, body, left < (long)sizeof body ? (int)left : (int)sizeof body);
        if (n <= 0)
            die_ssl("an answer's body", f->ssl, n);
        left -= n;
    }
    return status;
}

int net_accept(const struct options *o)
{
    struct pollfd p = {.fd = o->backend_fd, .events = POLLIN};
    int one = 1;
    int fd = poll(&p, 1, WAIT_MS) == 1 ? accept(o->backend_fd, NULL, NULL) : -1;

    if (fd < 0)
        die("nobody came to the backend");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void receive(int fd, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = recv(fd, (char *)data + at, len - at, 0);
        if (n <= 0)
            die("the backend heard only %zu bytes", at);
        at += (size_t)n;
    }
}

/* What is measured afterwards is not looked at: this is. */
static void probe(struct flow *f, size_t number)
{
    static unsigned char out[PROBE], in[PROBE];

    for (size_t i = 0; i < PROBE; i++)
        out[i] = (unsigned char)(i * 7 + i / 251 + number);
    send_all(f, out, PROBE);
    receive(f->backend, in, PROBE);
    if (memcmp(in, out, PROBE) != 0)
        die("bytes to the backend arrived altered");
    if (send(f->backend, out, PROBE, 0) != PROBE)
        die("the backend could not send");
    memset(in, 0, PROBE);
    for (size_t at = 0; at < PROBE;) {
        int n = SSL_read(f->ssl, in + at, (int)(PROBE - at));
        if (n <= 0)
            die_ssl("receiving", f->ssl, n);
        at += (size_t)n;
    }
    if (memcmp(in, out, PROBE) != 0)
        die("bytes from the backend arrived altered");
}

struct flow net_session(const struct options *o, SSL_CTX *ctx, size_t number)
{
    struct flow f = net_connect(o, ctx, NULL);

    if (o->n_heads) {
        int status = net_ask(&f, o->heads[number % o->n_heads]);
        if (status != 101)
            die("session %zu: status %d instead of 101", number, status);
    }
    f.backend = net_accept(o);
    probe(&f, number);
    return f;
}

void net_close(struct flow *f)
{
    SSL_free(f->ssl);
    close(f->fd);
    if (f->backend >= 0)
        close(f->backend);
}
