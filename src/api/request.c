// SPDX-License-Identifier: GPL-3.0-or-later
/* Connections and requests: from the head and body to a route, and back to an answer. */
#include <arpa/inet.h>
#include <string.h>

#include "api/api-internal.h"
#include "base/log.h"
#include "base/str.h"

#define PREFIX "/api/1/"

void api_request_free(struct api_request *q)
{
    if (!q)
        return;
    if (q->conn)
        q->conn->request = NULL;
    for (size_t i = 0; i < q->n_texts; i++) {
        if (q->texts[i])
            explicit_bzero(q->texts[i], strlen(q->texts[i]));
        free(q->texts[i]);
    }
    free(q->hash);
    free(q->path_room);
    http_target_free(q->target);
    filter_free(q->filter);
    json_decref(q->body);
    free(q);
}

const char *api_keep(struct api_request *q, char *take)
{
    if (!take || q->n_texts >= ARRAY_SIZE(q->texts)) {
        free(take);
        return NULL;
    }
    q->texts[q->n_texts++] = take;
    return take;
}

void api_answer_raw(struct api_request *q, int status, const char *body, size_t len)
{
    static const struct http_header headers[] = {
        {"Cache-Control",             "no-store"        },
        {"X-Content-Type-Options",    "nosniff"         },
        {"Strict-Transport-Security", "max-age=31536000"},
        {"WWW-Authenticate",          "Bearer"          },
    };

    if (q->conn && http_server_answer(q->conn->http, status, "application/json", headers,
                                      status == 401 ? 4 : 3, body, len) < 0)
        log_debug("answer not sent");
    api_request_free(q);
}

void api_answer_json(struct api_request *q, int status, json_t *take)
{
    _cleanup_(free_p) char *text = take ? json_dumps(take, JSON_COMPACT) : NULL;

    json_decref(take);
    if (text)
        api_answer_raw(q, status, text, strlen(text));
    else
        api_answer_raw(q, 503, "{}", 2);
}

void api_answer_text_error(struct api_request *q, int http_status, const char *code,
                           const char *text)
{
    char clean[512];
    size_t n = strnlen(text, sizeof clean - 1);

    memcpy(clean, text, n);
    clean[n] = '\0';
    while (n && !utf8_valid(clean, n)) /* a cut within a character */
        clean[--n] = '\0';
    api_answer_json(q, http_status,
                    json_pack("{s:{s:s,s:s}}", "error", "code", code, "message", clean));
}

void api_answer_error(struct api_request *q, enum admin_status status, const struct qvd_error *err)
{
    static const struct {
        int status;
        const char *code;
    } table[] = {
        [ADMIN_OK] = {500, "internal"   },
          [ADMIN_BAD] = {400, "bad-request"},
        [ADMIN_FORBIDDEN] = {403, "forbidden"  },
          [ADMIN_NOT_FOUND] = {404, "not-found"  },
        [ADMIN_CONFLICT] = {409, "conflict"   },
          [ADMIN_INVALID] = {422, "invalid"    },
        [ADMIN_AWAY] = {503, "unavailable"},
          [ADMIN_BROKEN] = {500, "internal"   },
    };

    if (status == ADMIN_BROKEN)
        log_error("%s %s: %s", q->method, q->target ? q->target->path : "", err->text);
    api_answer_text_error(q, table[status].status, table[status].code,
                          status == ADMIN_BROKEN ? "internal error; see the log of qvd-api"
                                                 : err->text);
}

void api_answer_id(struct api_request *q, int status, int64_t id)
{
    api_answer_json(q, status, json_pack("{s:I}", "id", (json_int_t)id));
}

bool api_began(struct api_request *q, enum admin_status status, const struct qvd_error *err)
{
    if (status != ADMIN_OK)
        api_answer_error(q, status, err);
    return status == ADMIN_OK;
}

void api_log(const struct api_request *q, const char *what, int64_t id, const char *outcome)
{
    log_info("[admin:%lld %s@%s] %s %s %lld: %s", (long long)q->who.id, q->admin_name,
             q->admin_tenant, what, q->resource ? q->resource->name : "", (long long)id, outcome);
}

void api_answer_done(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;
    const char *what = q->n_path > 2 ? q->path[2] : q->method;

    if (done->status != ADMIN_OK) {
        api_log(q, what, q->id, done->err.text);
        api_answer_error(q, done->status, &done->err);
        return;
    }
    api_log(q, what, done->id, "done");
    api_answer_id(q, 200, done->id);
}

/* Fills *ret with the words of the path that "*" stands for being any. */
static bool path_fits(const struct api_request *q, const char *pattern)
{
    for (size_t i = 0; i < q->n_path; i++) {
        size_t n = strcspn(pattern, "/");
        bool any = n == 1 && *pattern == '*';
        if (n == 0 || (!any && (strncmp(pattern, q->path[i], n) != 0 || q->path[i][n])))
            return false;
        pattern += n + (pattern[n] == '/');
    }
    return *pattern == '\0';
}

static must_check int split_path(struct api_request *q)
{
    const char *path = q->target->path;
    char *at;

    if (!str_starts(path, PREFIX))
        return -ENOENT;
    q->path_room = strdup(path + strlen(PREFIX));
    if (!q->path_room)
        return -ENOMEM;
    for (char *word = strtok_r(q->path_room, "/", &at); word; word = strtok_r(NULL, "/", &at)) {
        if (q->n_path >= ARRAY_SIZE(q->path))
            return -ENOENT;
        q->path[q->n_path++] = word;
    }
    return q->n_path ? 0 : -ENOENT;
}

static void find_route(struct api_request *q, const char *authorization)
{
    bool path_known = false;

    for (size_t i = 0; i < api_n_routes; i++) {
        if (!path_fits(q, api_routes[i].path))
            continue;
        q->resource = admin_resource_find(q->path[0]);
        if (str_starts(api_routes[i].path, "*") && !q->resource)
            continue;
        path_known = true;
        if (strcmp(api_routes[i].method, q->method) != 0)
            continue;
        q->route = &api_routes[i];
        if (q->route->open)
            q->route->fn(q);
        else
            api_authenticate(q, authorization);
        return;
    }
    if (path_known)
        api_answer_text_error(q, 405, "method", "this method is not possible here");
    else
        api_answer_text_error(q, 404, "not-found",
                              "there is nothing at this path; see docs/api.md");
}

/* The number of an object in the path. */
static must_check int take_id(struct api_request *q)
{
    if (!q->resource || q->n_path < 2)
        return 0;
    if (str_to_i64(q->path[1], 1, INT64_MAX, &q->id) < 0)
        return -EINVAL;
    return 0;
}

static must_check int take_body(struct api_request *q, const char *body, size_t len)
{
    json_error_t err;

    if (len == 0)
        return 0;
    q->body = json_loadb(body, len, JSON_REJECT_DUPLICATES, &err);
    if (q->body && json_is_object(q->body))
        return 0;
    char text[300];
    snprintf(text, sizeof text, "the body is no JSON object: %s (line %d)",
             q->body ? "another type" : err.text, q->body ? 1 : err.line);
    api_answer_text_error(q, 400, "bad-request", text);
    return -EINVAL;
}

static void begin(struct api_request *q, const struct http_head *head, const char *body, size_t len)
{
    const char *authorization = http_head_get(head, "Authorization");
    int r = http_target_parse(head->target, &q->target);

    if (r < 0 || str_copy(q->method, sizeof q->method, head->method) < 0) {
        api_answer_text_error(q, 400, "bad-request", "the request's target cannot be read");
        return;
    }
    r = split_path(q);
    if (r == 0) {
        q->resource = admin_resource_find(q->path[0]);
        r = take_id(q);
    }
    if (r == -ENOMEM)
        api_answer_text_error(q, 503, "unavailable", "out of memory");
    else if (r < 0)
        api_answer_text_error(q, 404, "not-found",
                              "there is nothing at this path; see docs/api.md");
    else if (take_body(q, body, len) == 0)
        find_route(q, authorization);
}

static void on_request(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct api_conn *c = owner;
    struct api_request *q = calloc(1, sizeof *q);

    if (!q) {
        if (http_server_answer_text(c->http, 503, "out of memory") < 0)
            log_debug("answer not sent");
        return;
    }
    q->api = c->api;
    q->conn = c;
    c->request = q;
    if (store_schema_fits(c->api->schema))
        begin(q, head, body, len);
    else
        api_answer_text_error(q, 503, "unavailable",
                              "the database's schema is not the one of this qvd-api; its log tells"
                              " what to do");
}

/* Without a ticket only a login may have a body, and a small one: strangers fill no memory. */
static int64_t on_head(void *owner, const struct http_head *head)
{
    struct api_conn *c = owner;

    return http_head_get(head, "Authorization") ? conf_int(c->api->conf, "api.limit.body") : 8192;
}

void api_conn_free(struct api_conn *c)
{
    if (c->request)
        c->request->conn = NULL;
    list_remove(&c->node);
    c->api->n_conns--;
    http_server_free(c->http);
    free(c);
}

static void on_hangup(void *owner)
{
    api_conn_free(owner);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    api_conn_free(owner);
}

static const struct http_server_ops ops = {
    .request = on_request, .head = on_head, .hangup = on_hangup, .closed = on_closed};

static void name_source(struct api_conn *c, const struct sockaddr_in6 *peer)
{
    const struct sockaddr_in *v4 = (const void *)peer;

    if (peer->sin6_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, c->source, sizeof c->source);
    else if (peer->sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr))
        inet_ntop(AF_INET, peer->sin6_addr.s6_addr + 12, c->source, sizeof c->source);
    else if (peer->sin6_family == AF_INET6)
        inet_ntop(AF_INET6, &peer->sin6_addr, c->source, sizeof c->source);
}

void api_accept(struct api *api, int fd, const struct sockaddr_in6 *peer)
{
    struct http_server_limits limits = http_server_limits_default;
    struct api_conn *c = NULL;
    struct stream *s;

    if (!api->tls || api->n_conns >= (size_t)conf_int(api->conf, "api.limit.connections") ||
        !(c = calloc(1, sizeof *c))) {
        fd_close(fd);
        return;
    }
    c->api = api;
    list_init(&c->node);
    list_append(&api->conns, &c->node);
    api->n_conns++;
    name_source(c, peer);
    limits.idle_ms = (uint64_t)conf_ms(api->conf, "api.limit.idle");
    limits.body_max = (size_t)conf_int(api->conf, "api.limit.body");
    if (stream_new(api->loop, fd, api->tls, 10000, NULL, NULL, &s) < 0 ||
        http_server_new(api->loop, s, &limits, &ops, c, &c->http) < 0)
        api_conn_free(c);
}
