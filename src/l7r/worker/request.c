// SPDX-License-Identifier: GPL-3.0-or-later
/* What a request says: its path, credentials, VM and parameters, put into the broker's message. The
 * only reader of strangers' texts; it decides nothing but what is malformed. */
#include <string.h>

#include "base/str.h"
#include "http/uri.h"
#include "l7r/worker/worker-internal.h"
#include "wire/l7r.h"

static const struct {
    const char *path;
    enum l7r_kind kind;
} endpoints[] = {
    {WIRE_L7R_PING,         L7R_PING     },
    {WIRE_L7R_AUTHENTICATE, L7R_AUTH     },
    {WIRE_L7R_TOKEN,        L7R_TOKEN    },
    {WIRE_L7R_LIST_VM,      L7R_LIST     },
    {WIRE_L7R_LIST_APP,     L7R_LIST_APPS},
    {WIRE_L7R_CONNECT,      L7R_CONNECT  },
    {WIRE_L7R_STOP,         L7R_STOP_VM  },
};

static int find(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(endpoints); i++)
        if (strcmp(endpoints[i].path, path) == 0)
            return (int)endpoints[i].kind;
    return -1;
}

static void wipe(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void request_done(struct request_memory *m)
{
    m->target = http_target_free(m->target);
    wipe(&m->login);
    wipe(&m->secret);
    buf_done(&m->params);
    if (m->env.len)
        explicit_bzero(m->env.data, m->env.len);
    buf_done(&m->env);
}

/* Credentials that cannot be are none: 401 as any other. */
static void read_credentials(const struct http_head *head, struct request_memory *m,
                             struct l7r_request *q)
{
    struct http_auth a = {0};
    size_t len = 0;

    if (http_auth_parse(http_head_get(head, "Authorization"), &a) < 0) {
        http_auth_done(&a);
        return;
    }
    if (a.scheme == HTTP_AUTH_BASIC && strlen(a.user) <= 512 && strlen(a.password) <= 1024) {
        m->login = TAKE_PTR(a.user);
        m->secret = TAKE_PTR(a.password);
        q->credentials = L7R_BASIC;
    } else if (a.scheme == HTTP_AUTH_BEARER &&
               base64_decode(a.token, strlen(a.token), (uint8_t **)&m->secret, &len) == 0) {
        if (len > 0 && len <= 512 && strlen(m->secret) == len)
            q->credentials = L7R_BEARER;
        else
            wipe(&m->secret);
    }
    q->login = m->login;
    q->secret = m->secret;
    http_auth_done(&a);
}

static void set_flaw(struct l7r_request *q, uint32_t status, const char *text)
{
    if (!q->flaw) {
        q->flaw = status;
        q->flaw_text = text;
    }
}

static must_check int add_param(struct request_memory *m, const struct http_param *p)
{
    int r = buf_append(&m->params, p->key, strlen(p->key) + 1);

    return r < 0 ? r : buf_append(&m->params, p->value, strlen(p->value) + 1);
}

/* "Auth-<hex of the name>: <base64 of the value>" (auth-plugins 8). 0; -EINVAL: it is not of that
 * kind; -ENOBUFS, -ENOMEM. */
static must_check int read_variable(const struct http_header *h, struct buf *env)
{
    const char *hex = h->name + strlen(WIRE_L7R_ENV_PREFIX);
    size_t n = strlen(hex), len = 0;
    char name[L7R_ENV_NAME_MAX + 1];
    _cleanup_(free_p) uint8_t *value = NULL;

    if (n == 0 || n % 2 || n / 2 > L7R_ENV_NAME_MAX || hex_decode(hex, n, name, n / 2) < 0)
        return -EINVAL;
    name[n / 2] = 0;
    if (strlen(name) != n / 2)
        return -EINVAL;
    int r = base64_decode(h->value, strlen(h->value), &value, &len);
    if (r == 0 && strlen((const char *)value) != len)
        r = -EINVAL;
    if (r == 0)
        r = buf_append(env, name, n / 2 + 1);
    if (r == 0)
        r = buf_append(env, value, len + 1);
    if (value)
        explicit_bzero(value, len);
    return r;
}

/* What is of another shape is another header. false: too long, or no memory. */
static bool read_env(const struct http_head *head, struct request_memory *m, struct l7r_request *q)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        const struct http_header *h = &head->headers[i];
        if (!str_starts(h->name, WIRE_L7R_ENV_PREFIX))
            continue;
        int r = read_variable(h, &m->env);
        if (r < 0 && r != -EINVAL)
            return false;
    }
    q->env = (struct ipc_bytes){m->env.data, m->env.len};
    return true;
}

/* In the order of l7r-protocol 4: upgrade, id, forbidden parameters. */
static void read_connect(const struct http_head *head, struct request_memory *m,
                         struct l7r_request *q)
{
    if (!head->upgrade || !http_head_has(head, "Upgrade", WIRE_L7R_UPGRADE))
        set_flaw(q, 426, "Upgrade to " WIRE_L7R_UPGRADE " is required");
    if (!q->vm_id)
        set_flaw(q, 422, "The parameter id is missing");
    for (size_t i = 0; i < m->target->n_params; i++) {
        const struct http_param *p = &m->target->params[i];
        if (strcmp(p->key, "id") == 0)
            continue;
        if (!wire_l7r_client_key(p->key))
            set_flaw(q, 403, "Parameters must begin with qvd.client. or custom.");
        else if (add_param(m, p) < 0)
            set_flaw(q, 403, "The parameters are too long");
    }
    /* Refused in any case: and half a pair is no message. */
    if (q->flaw)
        buf_done(&m->params);
    q->params = (struct ipc_bytes){m->params.data, m->params.len};
}

static bool is_true(const char *text)
{
    return text && strcmp(text, "0") != 0 && text[0];
}

static size_t given(const struct http_target *t, const char *key)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_params; i++)
        n += strcmp(t->params[i].key, key) == 0;
    return n;
}

int request_read(const struct http_head *head, struct request_memory *m, struct l7r_request *q,
                 const char **ret_why)
{
    memset(m, 0, sizeof *m);
    memset(q, 0, sizeof *q);
    buf_init(&m->params, L7R_PARAMS_MAX);
    buf_init(&m->env, L7R_ENV_MAX);
    if (http_target_parse(head->target, &m->target) < 0) {
        *ret_why = "The request's target is malformed";
        return 400;
    }
    int kind = find(m->target->path);
    if (kind < 0) {
        *ret_why = "Not found";
        return 404;
    }
    if (strcmp(head->method, "GET") != 0) {
        *ret_why = "Only GET is possible here";
        return 405;
    }
    q->kind = (uint32_t)kind;
    if (!read_env(head, m, q)) {
        *ret_why = "The shared environment is too long";
        return 431;
    }
    if (given(m->target, "id") > 1) {
        *ret_why = "The parameter id is given twice";
        return 400;
    }
    const char *id = http_target_get(m->target, "id");
    const char *agent = http_head_get(head, "User-Agent");
    const char *file = http_target_get(m->target, "file_name");
    q->client = agent && strlen(agent) <= 256 ? agent : "";
    q->file_name = file && strlen(file) <= 1024 ? file : "";
    q->store_auth = is_true(http_target_get(m->target, "store_auth"));
    if (id && str_to_u64(id, INT64_MAX, &q->vm_id) < 0)
        q->vm_id = 0;
    read_credentials(head, m, q);
    if (kind == L7R_CONNECT)
        read_connect(head, m, q);
    else if (kind == L7R_STOP_VM && !q->vm_id)
        set_flaw(q, 422, "The parameter id is missing");
    return 0;
}
