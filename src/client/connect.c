// SPDX-License-Identifier: GPL-3.0-or-later
/* From a host's name to a connection whose other end is known to be the right one. A certificate
 * that has to be asked about costs the connection: the person may think as long as he likes, and
 * the next one must show the same. */
#include <string.h>

#include "base/str.h"
#include "client/client-internal.h"

#define CONNECT_MS 20000
#define ASK_END_MS 3000 /* a word more at the end is not worth a longer wait */
#define ANSWER_MAX (4 * 1024 * 1024)

static void try_next_address(struct qvdclient *c);

void client_disconnect(struct qvdclient *c)
{
    c->resolver = resolver_free(c->resolver);
    if (c->addresses)
        freeaddrinfo(c->addresses);
    c->addresses = c->next_address = NULL;
    c->stream = stream_free(c->stream);
    c->http = http_client_free(c->http);
    c->reused = false;
}

static void on_open(void *owner)
{
    struct qvdclient *c = owner;
    struct stream *s = TAKE_PTR(c->stream);

    client_debug(c, "connected to %s, %s", c->host_port, stream_protocol(s));
    if (http_client_new(c->loop, s, ANSWER_MAX, &client_http_ops, c, &c->http) < 0)
        client_end(c, QVDCLIENT_FAILED, "out of memory");
    else
        client_connected(c);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct qvdclient *c = owner;

    client_debug(c, "%s", why->text);
    c->stream = stream_free(c->stream);
    if (why->code == -EPROTO) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s: %s", c->host_port, why->text);
    } else if (!c->next_address) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s cannot be reached: %s", c->host_port, why->text);
    } else {
        try_next_address(c);
    }
}

/* --- the certificate ------------------------------------------------------------------------- */

static void keep_cert(struct qvdclient *c, const struct tls_peer *peer)
{
    struct client_cert *k = &c->cert;

    *k = (struct client_cert){.n_faults = peer->n_faults};
    memcpy(k->fingerprint, peer->fingerprint, sizeof k->fingerprint);
    memcpy(k->faults, peer->faults, sizeof k->faults);
    memcpy(k->subject, peer->subject, sizeof k->subject);
    memcpy(k->issuer, peer->issuer, sizeof k->issuer);
    memcpy(k->not_before, peer->not_before, sizeof k->not_before);
    memcpy(k->not_after, peer->not_after, sizeof k->not_after);
}

static void reject_cert(struct qvdclient *c)
{
    client_end(c, QVDCLIENT_CERTIFICATE, "the certificate of %s is not trusted: %s (sha256 %s)",
               c->host_port, tls_fault_text(c->cert.faults[0]), c->cert.fingerprint);
}

static void ask_person(struct qvdclient *c, bool changed)
{
    const char *texts[TLS_FAULTS_MAX];
    struct qvdclient_certificate q = {.host = c->host_port,
                                      .subject = c->cert.subject,
                                      .issuer = c->cert.issuer,
                                      .not_before = c->cert.not_before,
                                      .not_after = c->cert.not_after,
                                      .fingerprint = c->cert.fingerprint,
                                      .changed = changed,
                                      .n_faults = c->cert.n_faults,
                                      .faults = c->cert.faults,
                                      .fault_texts = texts};

    for (size_t i = 0; i < c->cert.n_faults; i++)
        texts[i] = tls_fault_text(c->cert.faults[i]);
    client_set_state(c, QVDCLIENT_ASKING_CERTIFICATE);
    if (c->cb->certificate)
        c->cb->certificate(c->arg, &q);
    else
        reject_cert(c);
}

static void on_verify(void *owner, const struct tls_peer *peer)
{
    struct qvdclient *c = owner;

    keep_cert(c, peer);
    enum client_trust trust = client_trust_check(c, &c->cert);
    if (trust == TRUST_YES) {
        client_debug(c, "certificate %s accepted in spite of: %s", c->cert.fingerprint,
                     tls_fault_text(c->cert.faults[0]));
        stream_tls_accept(c->stream, true);
        return;
    }
    client_disconnect(c);
    ask_person(c, trust == TRUST_CHANGED);
}

void qvdclient_answer_certificate(struct qvdclient *c, enum qvdclient_answer answer)
{
    if (c->state != QVDCLIENT_ASKING_CERTIFICATE)
        return;
    if (answer == QVDCLIENT_REJECT) {
        reject_cert(c);
        return;
    }
    c->accepted_now = c->cert;
    if (answer == QVDCLIENT_ACCEPT_ALWAYS) {
        int r = client_trust_add(c, &c->cert);
        if (r < 0) {
            client_end(c, QVDCLIENT_FAILED, "the certificate cannot be remembered: %s",
                       strerror(-r));
            return;
        }
    }
    client_later(c, client_connect);
}

/* --- addresses ----------------------------------------------------------------------------------
 */

static const struct stream_handlers handlers = {
    .open = on_open, .verify = on_verify, .closed = on_closed};

static void try_next_address(struct qvdclient *c)
{
    struct addrinfo *a = c->next_address;
    struct stream_target target = {.addr = a->ai_addr,
                                   .addr_len = a->ai_addrlen,
                                   .tls = c->tls,
                                   .host = client_option(c, QVDCLIENT_HOST),
                                   .limit_ms = c->goal == GOAL_ASK_END ? ASK_END_MS : CONNECT_MS};

    c->next_address = a->ai_next;
    client_set_state(c, QVDCLIENT_CONNECTING);
    int r = stream_connect(c->loop, &target, &handlers, c, &c->stream);
    if (r < 0)
        client_end(c, QVDCLIENT_UNREACHABLE, "%s cannot be reached: %s", c->host_port,
                   strerror(-r));
}

static void on_resolved(void *arg, struct addrinfo *list, const char *why)
{
    struct qvdclient *c = arg;

    c->resolver = resolver_free(c->resolver);
    if (!list) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s: %s", client_option(c, QVDCLIENT_HOST),
                   why ? why : "no address");
        return;
    }
    c->addresses = c->next_address = list;
    try_next_address(c);
}

static must_check int make_tls(struct qvdclient *c)
{
    _cleanup_(free_p) char *home_dir = client_home_path(".qvd/certs");
    const char *file = client_option(c, QVDCLIENT_CA_FILE),
               *dir = client_option(c, QVDCLIENT_CA_DIR);
    const char *files[] = {*file ? file : NULL, NULL};
    const char *dirs[] = {*dir ? dir : home_dir, NULL};
    const char *cert = client_option(c, QVDCLIENT_CERT_FILE);
    const char *key = client_option(c, QVDCLIENT_KEY_FILE);
    struct tls_client_spec spec = {.system = client_flag(c, QVDCLIENT_CA_SYSTEM),
                                   .ca_files = files,
                                   .ca_dirs = dirs,
                                   .cert_file = *cert ? cert : NULL,
                                   .key_file = *key ? key : NULL};
    struct qvd_error err;

    if (tls_client_new(&spec, &c->tls, &err) < 0) {
        client_end(c, QVDCLIENT_FAILED, "%s", err.text);
        return -EINVAL;
    }
    return 0;
}

void client_connect(struct qvdclient *c)
{
    client_disconnect(c);
    if (!c->tls && client_flag(c, QVDCLIENT_USE_SSL) && make_tls(c) < 0)
        return;
    client_set_state(c, QVDCLIENT_RESOLVING);
    int r = resolver_start(c->loop, client_option(c, QVDCLIENT_HOST),
                           client_option(c, QVDCLIENT_PORT), on_resolved, c, &c->resolver);
    if (r < 0)
        client_end(c, QVDCLIENT_FAILED, "looking up the server's name: %s", strerror(-r));
}
