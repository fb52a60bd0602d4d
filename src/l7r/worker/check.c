// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-l7r-worker --check: would this certificate do? For the master, which reads no PEM itself.
 * Standard input: "CERT KEY CA CRL REQUIRE V13 CIPHERS\n" (lengths in bytes; the two in the middle
 * 0 or 1), then these texts. Standard output: "ok NOT_AFTER CRL_NEXT SUBJECT", or why not. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "l7r/worker/worker-internal.h"

#define LINE_MAX 128
#define INPUT_MAX (4 * (size_t)L7R_CERTIFICATE_MAX + 4096)

struct question {
    size_t len[4];
    int require, v13;
    size_t ciphers_len;
    char *text[4], *ciphers;
};

static must_check int read_all(struct buf *in)
{
    char piece[65536];
    ssize_t n;

    while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0) {
        int r = buf_append(in, piece, (size_t)n);
        if (r < 0)
            return r;
    }
    return n < 0 ? -errno : 0;
}

/* NUL-ended, as the texts of an authority have to be; "" as NULL. */
static must_check int take(struct buf *in, size_t len, char **ret_text)
{
    if (len > in->len)
        return -EBADMSG;
    if (!len)
        return 0;
    *ret_text = strndup((const char *)in->data, len);
    if (!*ret_text)
        return -ENOMEM;
    bool whole = strlen(*ret_text) == len;
    buf_consume(in, len);
    return whole ? 0 : -EINVAL;
}

static must_check int parse(struct buf *in, struct question *q)
{
    const char *text = buf_cstr(in), *end = text ? strchr(text, '\n') : NULL;
    int r = 0;

    if (!end || end - text > LINE_MAX ||
        sscanf(text, "%zu %zu %zu %zu %d %d %zu", &q->len[0], &q->len[1], &q->len[2], &q->len[3],
               &q->require, &q->v13, &q->ciphers_len) != 7)
        return -EBADMSG;
    buf_consume(in, (size_t)(end - text) + 1);
    for (int i = 0; r == 0 && i < 4; i++)
        r = take(in, q->len[i], &q->text[i]);
    return r < 0 ? r : take(in, q->ciphers_len, &q->ciphers);
}

static int refuse(const char *why)
{
    printf("%s\n", why);
    return 1;
}

static int judge(const struct question *q)
{
    const struct tls_server_spec spec = {.cert_pem = q->text[0],
                                         .cert_len = q->len[0],
                                         .key_pem = q->text[1],
                                         .key_len = q->len[1],
                                         .min_version = q->v13 ? "TLSv1.3" : "TLSv1.2",
                                         .ciphers = q->ciphers,
                                         .client_ca_pem = q->require ? q->text[2] : NULL,
                                         .crl_pem = q->require ? q->text[3] : NULL};
    struct tls_server_facts facts;
    struct tls_context *tls = NULL;
    struct qvd_error err = {0};

    if (!q->text[0])
        return refuse("there is no certificate");
    if (!q->text[1])
        return refuse("there is no private key");
    if (q->require && !q->text[2])
        return refuse("l7r.client.cert.require = 1 needs the authority of the clients' certificates"
                      " (path.l7r.ssl.ca, or qa config ssl ca=)");
    if (q->ciphers_len > L7R_CIPHERS_MAX)
        return refuse("l7r.ssl.ciphers is too long");
    if (tls_server_new(&spec, &tls, &err) < 0)
        return refuse(err.text);
    tls_server_facts(tls, &facts);
    printf("ok %lld %lld %s\n", (long long)facts.not_after, (long long)facts.crl_next,
           facts.subject);
    tls = tls_context_unref(tls);
    return 0;
}

int check_main(const char *user)
{
    static struct question q; /* the texts are not freed: we end */
    struct buf in;

    buf_init(&in, INPUT_MAX);
    tls_init();
    if (worker_enter_sandbox(user) < 0)
        return 1;
    int r = read_all(&in);
    if (r == 0)
        r = parse(&in, &q);
    if (r == -EINVAL)
        return refuse("a NUL byte is in it");
    return r < 0 ? refuse(strerror(-r)) : judge(&q);
}
