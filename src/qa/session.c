// SPDX-License-Identifier: GPL-3.0-or-later
#include "qa/session.h"

#include <netdb.h>
#include <string.h>

#include "base/str.h"
#include "ev/ev.h"
#include "http/client.h"
#include "stream/tls.h"

#define TIMEOUT_MS 30000
#define ANSWER_MAX (64u << 20)
#define DEFAULT_PORT "3000"

struct session {
    struct ev_loop *loop;
    struct tls_context *tls;
    struct stream *stream; /* until it is open; then http's */
    struct http_client *http;
    char host[256], port[8];
    char authorization[160]; /* "Bearer TICKET", "" before the login */
    bool insecure, faults_told;
    /* of the present request */
    bool done;
    int status;
    json_t *answer;
    struct qvd_error closed;
};

static void on_answer(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct session *s = owner;

    s->status = head->status;
    s->answer = len ? json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL) : json_object();
    s->done = true;
    ev_loop_stop(s->loop, 0);
}

static void fail(struct session *s, const struct qvd_error *why)
{
    s->closed = *why;
    if (!s->closed.text[0])
        qvd_error_set(&s->closed, -EPIPE, "the server closed the connection");
    s->done = true;
    ev_loop_stop(s->loop, 0);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct session *s = owner;

    s->http = http_client_free(s->http);
    fail(s, why);
}

static void on_stream_closed(void *owner, const struct qvd_error *why)
{
    struct session *s = owner;

    s->stream = stream_free(s->stream);
    fail(s, why);
}

static void on_open(void *owner)
{
    struct session *s = owner;

    ev_loop_stop(s->loop, 0);
}

/* What is wrong with the certificate becomes the text of the failure; --insecure goes on. */
static void on_verify(void *owner, const struct tls_peer *peer)
{
    struct session *s = owner;
    bool accept = s->insecure;

    if (!s->faults_told) {
        fprintf(stderr, "qa: the certificate of %s (SHA-256 %s):\n", peer->host, peer->fingerprint);
        for (size_t i = 0; i < peer->n_faults; i++)
            fprintf(stderr, "qa:   %s\n", tls_fault_text(peer->faults[i]));
        fprintf(stderr, accept ? "qa: accepted by --insecure\n"
                               : "qa: name its authority by --ca FILE, QA_CA or qa.ca\n");
    }
    s->faults_told = true;
    stream_tls_accept(s->stream, accept);
}

static const struct http_client_ops ops = {.answer = on_answer, .closed = on_closed};

/* https://HOST[:PORT][/...]; IPv6 in brackets. */
static must_check int parse_url(struct session *s, const char *url, struct qvd_error *err)
{
    const char *at = url, *end, *port;

    if (!str_starts(url, "https://"))
        return qvd_error_set(err, -EINVAL, "%s: the API speaks https:// only", url);
    at += strlen("https://");
    end = at + strcspn(at, "/");
    if (*at == '[') {
        const char *close_at = memchr(at, ']', end - at);
        if (!close_at)
            return qvd_error_set(err, -EINVAL, "%s: no ] after the address", url);
        port = close_at + 1;
        at++;
        if (str_copy_n(s->host, sizeof s->host, at, close_at - at) < 0)
            return qvd_error_set(err, -EINVAL, "%s: the address is too long", url);
    } else {
        port = memchr(at, ':', end - at);
        port = port ? port : end;
        if (str_copy_n(s->host, sizeof s->host, at, port - at) < 0)
            return qvd_error_set(err, -EINVAL, "%s: the name is too long", url);
    }
    bool given = *port == ':' && port + 1 < end;
    if (str_copy_n(s->port, sizeof s->port, given ? port + 1 : DEFAULT_PORT,
                   given ? (size_t)(end - port - 1) : strlen(DEFAULT_PORT)) < 0 ||
        !*s->host || (port != end && *port != ':'))
        return qvd_error_set(err, -EINVAL, "%s is no https://HOST:PORT", url);
    return 0;
}

static must_check int connect_to(struct session *s, const struct addrinfo *ai,
                                 struct qvd_error *err)
{
    static const struct stream_handlers handlers = {
        .open = on_open, .verify = on_verify, .closed = on_stream_closed};
    struct stream_target target = {.addr = ai->ai_addr,
                                   .addr_len = ai->ai_addrlen,
                                   .tls = s->tls,
                                   .host = s->host,
                                   .limit_ms = TIMEOUT_MS};
    int r = stream_connect(s->loop, &target, &handlers, s, &s->stream);

    if (r < 0)
        return qvd_error_errno(err, r, "%s:%s", s->host, s->port);
    ev_loop_run(s->loop);
    if (!s->stream)
        return qvd_error_set(err, -ECONNREFUSED, "%s:%s: %s", s->host, s->port, s->closed.text);
    r = http_client_new(s->loop, TAKE_PTR(s->stream), ANSWER_MAX, &ops, s, &s->http);
    return r < 0 ? qvd_error_errno(err, r, "%s:%s", s->host, s->port) : 0;
}

/* Sends and waits. 0, or -errno with s->closed. */
static must_check int exchange(struct session *s, const char *method, const char *target,
                               const json_t *body)
{
    _cleanup_(free_p) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    _cleanup_(free_p) char *path = str_printf("/api/1/%s", target);
    struct http_header headers[] = {
        {"Content-Type",  "application/json"},
        {"Authorization", s->authorization  }
    };
    struct http_client_request request = {.method = method,
                                          .target = path,
                                          .host = s->host,
                                          .headers = headers,
                                          .n_headers = s->authorization[0] ? 2 : 1,
                                          .body = text,
                                          .body_len = text ? strlen(text) : 0,
                                          .timeout_ms = TIMEOUT_MS};

    if (!path || (body && !text))
        return -ENOMEM;
    s->done = false;
    int r = http_client_send(s->http, &request);
    if (r < 0)
        return qvd_error_errno(&s->closed, r, "the request cannot be sent");
    if (!s->done)
        ev_loop_run(s->loop);
    if (text)
        explicit_bzero(text, strlen(text)); /* a login's password stands in it */
    return s->http ? 0 : -EPIPE;
}

static int result_of(int status)
{
    switch (status) {
    case 400:
    case 405:
    case 413:
    case 422:
        return SESSION_BAD;
    case 404:
        return SESSION_NOT_FOUND;
    case 401:
    case 403:
    case 409:
    case 429:
        return SESSION_REFUSED;
    default:
        return status >= 200 && status < 300 ? SESSION_OK : SESSION_FAILED;
    }
}

int session_call(struct session *s, const char *method, const char *target, const json_t *body,
                 json_t **ret_answer, struct qvd_error *err)
{
    const char *message = NULL;

    if (!s->http)
        return qvd_error_set(err, -EPIPE, "%s:%s: the connection is lost", s->host, s->port);
    if (exchange(s, method, target, body) < 0)
        return qvd_error_set(err, -EPIPE, "%s:%s: %s", s->host, s->port, s->closed.text);
    json_t *answer = TAKE_PTR(s->answer);
    int r = result_of(s->status);
    if (!answer)
        r = qvd_error_set(err, -EBADMSG, "%s:%s: the answer is no JSON; is it QVD's API?", s->host,
                          s->port);
    else if (r != SESSION_OK && json_unpack(answer, "{s:{s:s}}", "error", "message", &message) < 0)
        r = qvd_error_set(err, r, "%s:%s: status %d", s->host, s->port, s->status);
    else if (r != SESSION_OK)
        qvd_error_set(err, r, "%s", message);
    if (r == SESSION_OK && ret_answer)
        *ret_answer = answer;
    else
        json_decref(answer);
    return r;
}

static must_check int log_in(struct session *s, const struct session_settings *settings,
                             struct qvd_error *err)
{
    json_t *body = json_pack("{s:s,s:s,s:s}", "login", settings->login, "password",
                             settings->password, "tenant", settings->tenant);
    json_t *answer = NULL;
    const char *ticket = "";

    if (!body)
        return qvd_error_set(err, -EINVAL, "login, tenant and password must be UTF-8");
    int r = session_call(s, "POST", "login", body, &answer, err);
    json_decref(body);
    if (r == SESSION_OK &&
        (json_unpack(answer, "{s:s}", "ticket", &ticket) < 0 ||
         str_format(s->authorization, sizeof s->authorization, "Bearer %s", ticket) < 0))
        r = qvd_error_set(err, -EBADMSG, "%s:%s: the login's answer has no ticket", s->host,
                          s->port);
    json_decref(answer);
    return r;
}

static must_check int make_tls(struct session *s, const struct session_settings *settings,
                               struct qvd_error *err)
{
    const char *files[] = {settings->ca, NULL};
    struct tls_client_spec spec = {.system = true,
                                   .ca_files = settings->ca && *settings->ca ? files : NULL};

    return tls_client_new(&spec, &s->tls, err);
}

/* Tries the name's addresses one after the other, as far as the login's answer. */
static must_check int try_all(struct session *s, const struct session_settings *settings,
                              struct qvd_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    int r = getaddrinfo(s->host, s->port, &hints, &all);

    if (r != 0)
        return qvd_error_set(err, -EHOSTUNREACH, "%s: %s", s->host, gai_strerror(r));
    r = -EHOSTUNREACH;
    for (struct addrinfo *ai = all; ai && r < 0; ai = ai->ai_next) {
        s->http = http_client_free(s->http);
        r = connect_to(s, ai, err);
        if (r == 0)
            r = log_in(s, settings, err);
    }
    freeaddrinfo(all);
    return r;
}

int session_open(const struct session_settings *settings, struct session **ret_session,
                 struct qvd_error *err)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return qvd_error_errno(err, ENOMEM, "cannot connect");
    s->insecure = settings->insecure;
    int r = parse_url(s, settings->url, err);
    if (r == 0)
        r = make_tls(s, settings, err);
    if (r == -EINVAL)
        r = SESSION_BAD; /* what we were told, not the server */
    if (r == 0 && ev_loop_new(&s->loop) < 0)
        r = qvd_error_errno(err, ENOMEM, "cannot connect");
    if (r == 0)
        r = try_all(s, settings, err);
    explicit_bzero(settings->password, strlen(settings->password));
    if (r != 0)
        session_close(s);
    else
        *ret_session = s;
    return r;
}

struct session *session_close(struct session *s)
{
    struct qvd_error ignored;

    if (s) {
        if (s->authorization[0] && s->http)
            (void)!session_call(s, "POST", "logout", NULL, NULL, &ignored);
        explicit_bzero(s->authorization, sizeof s->authorization);
        http_client_free(s->http);
        stream_free(s->stream);
        tls_context_unref(s->tls);
        ev_loop_free(s->loop);
        free(s);
    }
    return NULL;
}
