// SPDX-License-Identifier: GPL-3.0-or-later
/* From a host's name to a connection whose other end is known to be the right one. A certificate
 * that has to be asked about costs the connection: the person may think as long as he likes, and
 * the next one must show the same. */
#include <netinet/in.h>
#include <string.h>

#include "base/str.h"
#include "client/client-internal.h"
#include "ev/resolve.h"

#define CONNECT_MS 20000
#define ASK_END_MS 3000 /* a word more at the end is not worth a longer wait */
#define ANSWER_MAX (4 * 1024 * 1024)

static void try_next_address(struct qvdclient *c);

void client_disconnect(struct qvdclient *c)
{
    c->resolver = ev_resolve_free(c->resolver);
    if (c->addresses)
        freeaddrinfo(c->addresses);
    c->addresses = c->next_address = NULL;
    c->stream = stream_free(c->stream);
    c->http = http_client_free(c->http);
    c->reused = false;
}

static void on_dialled(void *owner)
{
    struct qvdclient *c = owner;
    char peer[STREAM_NAME_MAX];

    client_step(c, QVDCLIENT_STEP_PORT, "%s", stream_peer_name(c->stream, peer));
}

static void on_open(void *owner)
{
    struct qvdclient *c = owner;
    struct stream *s = TAKE_PTR(c->stream);
    char peer[STREAM_NAME_MAX], subject[256];

    client_debug(c, "connected to %s, %s", c->host_port, stream_protocol(s));
    if (!c->tls) {
        client_step(c, QVDCLIENT_STEP_PORT, "%s", stream_peer_name(s, peer));
    } else if (!c->cert.fingerprint[0]) {
        client_step(c, QVDCLIENT_STEP_TLS, "%s", stream_protocol(s));
        client_step(c, QVDCLIENT_STEP_CERTIFICATE, "%s",
                    stream_peer_subject(s, subject, sizeof subject));
    } else {
        client_step(c, QVDCLIENT_STEP_CERTIFICATE, "accepted in spite of: %s",
                    tls_fault_text(c->cert.faults[0]));
    }
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

/* All that is wrong with it, in one line. */
static void reject_cert(struct qvdclient *c)
{
    const struct client_cert *k = &c->cert;
    char faults[240] = "";
    size_t len = 0;

    for (size_t i = 0; i < k->n_faults && len < sizeof faults; i++) {
        const char *more = k->faults[i] == TLS_FAULT_EXPIRED   ? k->not_after
                           : k->faults[i] == TLS_FAULT_NOT_YET ? k->not_before
                                                               : "";
        len += snprintf(faults + len, sizeof faults - len, "%s%s%s%s%s", i ? ", " : "",
                        tls_fault_text(k->faults[i]), *more ? " (" : "", more, *more ? ")" : "");
    }
    if (k->changed && len < sizeof faults)
        (void)snprintf(faults + len, sizeof faults - len,
                       "%sit is another than the one that was accepted", len ? ", " : "");
    client_end(c, QVDCLIENT_CERTIFICATE, "the certificate of %.100s is not trusted: %s (sha256 %s)",
               c->host_port, faults, k->fingerprint);
}

static void ask_person(struct qvdclient *c)
{
    const char *texts[TLS_FAULTS_MAX];
    struct qvdclient_certificate q = {.host = c->host_port,
                                      .subject = c->cert.subject,
                                      .issuer = c->cert.issuer,
                                      .not_before = c->cert.not_before,
                                      .not_after = c->cert.not_after,
                                      .fingerprint = c->cert.fingerprint,
                                      .changed = c->cert.changed,
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

    client_step(c, QVDCLIENT_STEP_TLS, "%s", stream_protocol(c->stream));
    keep_cert(c, peer);
    enum client_trust trust = client_trust_check(c, &c->cert);
    if (trust == TRUST_YES) {
        client_debug(c, "certificate %s accepted in spite of: %s", c->cert.fingerprint,
                     tls_fault_text(c->cert.faults[0]));
        stream_tls_accept(c->stream, true);
        return;
    }
    client_disconnect(c);
    c->cert.changed = trust == TRUST_CHANGED;
    ask_person(c);
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

/* --- without TLS ---------------------------------------------------------------------------------
 */

static bool is_private_v4(const uint8_t *a)
{
    return a[0] == 127 || a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) ||
           (a[0] == 192 && a[1] == 168) || (a[0] == 169 && a[1] == 254);
}

/* A password in plain text stays on this machine or in its private network. */
static bool may_be_plain(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET)
        return is_private_v4((const uint8_t *)&((const struct sockaddr_in *)addr)->sin_addr);
    if (addr->sa_family != AF_INET6)
        return false;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_LINKLOCAL(a) || (a->s6_addr[0] & 0xfe) == 0xfc ||
           (IN6_IS_ADDR_V4MAPPED(a) && is_private_v4(a->s6_addr + 12));
}

/* --- addresses ----------------------------------------------------------------------------------
 */

static const struct stream_handlers handlers = {
    .dialled = on_dialled, .open = on_open, .verify = on_verify, .closed = on_closed};

static void try_next_address(struct qvdclient *c)
{
    struct addrinfo *a = c->next_address;
    struct stream_target target = {.addr = a->ai_addr,
                                   .addr_len = a->ai_addrlen,
                                   .tls = c->tls,
                                   .host = client_option(c, QVDCLIENT_HOST),
                                   .limit_ms = c->goal == GOAL_ASK_END ? ASK_END_MS : CONNECT_MS};

    c->next_address = a->ai_next;
    c->cert = (struct client_cert){0};
    if (!c->tls && !may_be_plain(a->ai_addr)) {
        client_end(c, QVDCLIENT_USAGE,
                   "%s is not in a private network: without TLS everybody on the way could read "
                   "the password; leave --no-ssl (client.use_ssl = 0) out",
                   c->host_port);
        return;
    }
    client_set_state(c, QVDCLIENT_CONNECTING);
    int r = stream_connect(c->loop, &target, &handlers, c, &c->stream);
    if (r < 0)
        client_end(c, QVDCLIENT_UNREACHABLE, "%s cannot be reached: %s", c->host_port,
                   strerror(-r));
}

static void on_resolved(void *arg, struct addrinfo *list, const char *why)
{
    struct qvdclient *c = arg;
    unsigned n = 0;

    c->resolver = ev_resolve_free(c->resolver);
    if (!list) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s: %s", client_option(c, QVDCLIENT_HOST),
                   why ? why : "no address");
        return;
    }
    c->addresses = c->next_address = list;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        n++;
    client_step(c, QVDCLIENT_STEP_NAME, "%u address%s", n, n == 1 ? "" : "es");
    try_next_address(c);
}

#define CA_DIRS_MAX 16

/* "SYSTEM_DEFAULT" and nothing are where OpenSSL looks. */
static const char *system_place(struct qvdclient *c, enum qvdclient_option o)
{
    const char *value = client_option(c, o);

    return strcmp(value, "SYSTEM_DEFAULT") == 0 ? "" : value;
}

static const char *or_null(const char *s)
{
    return *s ? s : NULL;
}

static must_check int make_tls(struct qvdclient *c)
{
    _cleanup_(free_p) char *home_dir = client_home_path(".qvd/certs");
    _cleanup_(free_p) char *path = strdup(system_place(c, QVDCLIENT_CA_SYSTEM_PATH));
    const char *own_dir = client_option(c, QVDCLIENT_CA_DIR);
    const char *system_file = system_place(c, QVDCLIENT_CA_SYSTEM_FILE);
    const char *dirs[CA_DIRS_MAX + 2] = {*own_dir ? own_dir : home_dir};
    const char *files[3] = {or_null(client_option(c, QVDCLIENT_CA_FILE))};
    bool system = client_flag(c, QVDCLIENT_CA_SYSTEM), placed = *system_file || (path && *path);
    size_t n_dirs = dirs[0] != NULL, n_files = files[0] != NULL;
    char *rest = path, *dir;
    struct qvd_error err;

    if (system && *system_file)
        files[n_files++] = system_file;
    while (system && rest && (dir = strsep(&rest, ":")) && n_dirs < CA_DIRS_MAX)
        if (strcmp(dir, "SYSTEM_DEFAULT") == 0)
            placed = false; /* both */
        else if (*dir)
            dirs[n_dirs++] = dir;
    struct tls_client_spec spec = {.system = system && !placed,
                                   .ca_files = files,
                                   .ca_dirs = dirs,
                                   .crl_file = or_null(client_option(c, QVDCLIENT_CRL_FILE)),
                                   .cert_file = or_null(client_option(c, QVDCLIENT_CERT_FILE)),
                                   .key_file = or_null(client_option(c, QVDCLIENT_KEY_FILE))};
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
    int r = ev_resolve_new(c->loop, client_option(c, QVDCLIENT_HOST),
                           client_option(c, QVDCLIENT_PORT), on_resolved, c, &c->resolver);
    if (r < 0)
        client_end(c, QVDCLIENT_FAILED, "looking up the server's name: %s", strerror(-r));
}
