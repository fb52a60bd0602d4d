// SPDX-License-Identifier: GPL-3.0-or-later
/* What is asked of the server, and what its answers mean to the person. */
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "client/client-internal.h"
#include "http/uri.h"

#define LIST_MS 30000
#define ASK_END_MS 5000
#define WAIT_MS 330000 /* the server tells progress within its own limit of a start, 270 s */

static const enum qvdclient_state state_of_goal[] = {
    [GOAL_LIST] = QVDCLIENT_LISTING,
    [GOAL_STOP] = QVDCLIENT_STOPPING_VM,
    [GOAL_CONNECT] = QVDCLIENT_WAITING,
    [GOAL_ASK_END] = QVDCLIENT_RECONNECTING,
};

/* The first line of a body, fit to be shown: at most size - 1 bytes. */
static void first_line(const char *body, char *dst, size_t size)
{
    size_t n = 0;

    for (; *body && *body != '\r' && *body != '\n' && n + 1 < size; body++)
        dst[n++] = (unsigned char)*body < ' ' || *body == 0x7f ? '?' : *body;
    dst[n] = '\0';
}

static char *authorization(struct qvdclient *c)
{
    const char *token = client_option(c, QVDCLIENT_TOKEN);
    _cleanup_(free_p) char *code = NULL;

    if (!*token)
        return http_auth_basic(client_option(c, QVDCLIENT_USER), c->password);
    code = base64_encode(token, strlen(token));
    return code ? str_printf("Bearer %s", code) : NULL;
}

static must_check int put_target(struct qvdclient *c, struct buf *out)
{
    switch (c->goal) {
    case GOAL_LIST:
        return buf_append_str(out, WIRE_L7R_LIST_VM);
    case GOAL_STOP:
        return buf_printf(out, WIRE_L7R_STOP "?id=%llu", (unsigned long long)c->vm_id);
    case GOAL_CONNECT:
    case GOAL_ASK_END:
        return client_connect_target(c, out);
    }
    return -EINVAL;
}

static uint64_t limit_of(enum client_goal goal)
{
    return goal == GOAL_LIST ? LIST_MS : goal == GOAL_ASK_END ? ASK_END_MS : WAIT_MS;
}

/* The headers of a request and what they point to. */
struct headers {
    struct http_header v[5 + CLIENT_SHARED_MAX];
    char *texts[1 + 2 * CLIENT_SHARED_MAX];
    size_t n, n_texts;
};

/* Takes text over; NULL: out of memory. */
static const char *keep(struct headers *h, char *text)
{
    if (text)
        h->texts[h->n_texts++] = text;
    return text;
}

static void headers_done(struct headers *h)
{
    for (size_t i = 0; i < h->n_texts; i++) {
        explicit_bzero(h->texts[i], strlen(h->texts[i]));
        free(h->texts[i]);
    }
}

/* Auth-<hex of the name>: base64 of the value (l7r-protocol 2). */
static must_check int put_shared(struct qvdclient *c, struct headers *h)
{
    char hex[2 * 64 + 1];

    for (size_t i = 0; i < c->n_shared; i++) {
        const struct client_shared *v = &c->shared[i];
        hex_encode((const uint8_t *)v->name, strlen(v->name), hex);
        const char *name = keep(h, str_printf(WIRE_L7R_ENV_PREFIX "%s", hex));
        const char *value = keep(h, base64_encode(v->value, strlen(v->value)));
        if (!name || !value)
            return -ENOMEM;
        h->v[h->n++] = (struct http_header){name, value};
    }
    return 0;
}

static must_check int put_headers(struct qvdclient *c, struct headers *h, const char *agent)
{
    const char *auth = keep(h, authorization(c));

    if (!auth)
        return -ENOMEM;
    h->v[h->n++] = (struct http_header){"Authorization", auth};
    h->v[h->n++] = (struct http_header){"Accept", "application/json"};
    h->v[h->n++] = (struct http_header){"User-Agent", agent};
    if (c->goal == GOAL_CONNECT || c->goal == GOAL_ASK_END) {
        h->v[h->n++] = (struct http_header){"Connection", "Upgrade"};
        h->v[h->n++] = (struct http_header){"Upgrade", WIRE_L7R_UPGRADE};
    }
    return put_shared(c, h);
}

static must_check int send_request(struct qvdclient *c)
{
    _cleanup_(buf_done_p) struct buf target = {0};
    struct headers h = {0};
    char agent[64];

    (void)snprintf(agent, sizeof agent, "qvdclient/%.30s (%s)", qvdclient_version(), c->run);
    int r = put_headers(c, &h, agent);
    if (r >= 0)
        r = put_target(c, &target);
    const char *path = r < 0 ? NULL : buf_cstr(&target);
    struct http_client_request request = {.method = "GET",
                                          .target = path,
                                          .host = c->host_port,
                                          .headers = h.v,
                                          .n_headers = h.n,
                                          .timeout_ms = limit_of(c->goal)};
    if (r >= 0)
        r = path ? http_client_send(c->http, &request) : -ENOMEM;
    headers_done(&h);
    return r;
}

void client_ask(struct qvdclient *c)
{
    if (client_over(c))
        return;
    if (!c->http || !http_client_reusable(c->http)) {
        client_connect(c);
        return;
    }
    client_set_state(c, state_of_goal[c->goal]);
    int r = send_request(c);
    /* EPIPE: the connection has just broken; closed() tells why. */
    if (r < 0 && r != -EPIPE)
        client_end(c, QVDCLIENT_FAILED, "asking %s: %s", c->host_port, strerror(-r));
}

void client_connected(struct qvdclient *c)
{
    client_ask(c);
}

/* --- choosing --------------------------------------------------------------------------------- */

static void on_display(void *arg, const char *name, const char *why)
{
    struct qvdclient *c = arg;

    if (!name)
        client_end(c, QVDCLIENT_FAILED, "%s", why);
    else if (str_copy(c->display_name, sizeof c->display_name, name) < 0)
        client_end(c, QVDCLIENT_FAILED, "the name of the X display is too long");
    if (!client_over(c)) {
        client_step(c, QVDCLIENT_STEP_DISPLAY, "%s", name);
        client_later(c, client_ask);
    }
}

/* A size that was asked for counts for a desktop that is come back to as well. */
static void fit_window(struct qvdclient *c)
{
    unsigned width, height;

    if (c->options[QVDCLIENT_GEOMETRY] && !client_flag(c, QVDCLIENT_FULLSCREEN) &&
        sscanf(c->options[QVDCLIENT_GEOMETRY], "%5ux%5u", &width, &height) == 2)
        client_display_fit(c->display, width, height);
}

/* Before the server is asked: a desktop that nobody can see must not be started. */
static void want(struct qvdclient *c, const struct wire_vm *vm)
{
    const char *display = client_option(c, QVDCLIENT_DISPLAY);

    if (!*display && getenv("DISPLAY"))
        display = getenv("DISPLAY");
    client_step(c, QVDCLIENT_STEP_VM, "%s, %s", vm->name, vm->state);
    if (client_over(c))
        return;
    c->vm_id = vm->id;
    c->goal = client_flag(c, QVDCLIENT_RESTART) ? GOAL_STOP : GOAL_CONNECT;
    if (!*display) {
        client_end(c, QVDCLIENT_FAILED, "no X display: DISPLAY is not set");
    } else if (!client_session_possible(c)) {
        client_end(c, QVDCLIENT_FAILED,
                   "%s is not there: install the package nxproxy, or name the program by --nxproxy "
                   "(command.nxproxy)",
                   client_option(c, QVDCLIENT_NXPROXY));
    } else {
        c->display = client_display_free(c->display);
        int r = client_display_open(c->loop, display, on_display, c, &c->display);
        if (r >= 0)
            fit_window(c);
        else
            client_end(c, QVDCLIENT_FAILED, "the X display %s cannot be used: %s; " DISPLAY_MEND,
                       display, r == -EINVAL ? "no such name of a display" : strerror(-r));
    }
}

/* By id, else by name. */
static const struct wire_vm *find_vm(const struct qvdclient *c, const char *wanted)
{
    uint64_t id = 0;
    bool number = str_to_u64(wanted, UINT64_MAX, &id) == 0;

    for (size_t i = 0; number && i < c->n_vms; i++)
        if (c->vms[i].id == id)
            return &c->vms[i];
    for (size_t i = 0; i < c->n_vms; i++)
        if (strcasecmp(c->vms[i].name, wanted) == 0)
            return &c->vms[i];
    return NULL;
}

static void choose(struct qvdclient *c)
{
    const char *wanted = client_option(c, QVDCLIENT_VM);
    const struct wire_vm *vm;

    client_set_state(c, QVDCLIENT_CHOOSING);
    if (*wanted || !c->cb->vms) {
        vm = *wanted ? find_vm(c, wanted) : c->n_vms > 0 ? &c->vms[0] : NULL;
        if (vm)
            want(c, vm);
        else if (*wanted)
            client_end(c, QVDCLIENT_NO_VM,
                       "%s is none of your virtual machines; qvdclient -l lists them", wanted);
        else
            client_end(c, QVDCLIENT_NO_VM, "you have no virtual machine; ask your administrator");
        return;
    }
    struct qvdclient_vm *list = calloc(c->n_vms + 1, sizeof *list);
    if (!list) {
        client_end(c, QVDCLIENT_FAILED, "out of memory");
        return;
    }
    for (size_t i = 0; i < c->n_vms; i++)
        list[i] = (struct qvdclient_vm){.id = c->vms[i].id,
                                        .name = c->vms[i].name,
                                        .state = c->vms[i].state,
                                        .blocked = c->vms[i].blocked,
                                        .is_application = c->vms[i].is_application};
    c->cb->vms(c->arg, list, c->n_vms);
    free(list);
}

int qvdclient_choose_vm(struct qvdclient *c, uint64_t id)
{
    if (c->state != QVDCLIENT_CHOOSING)
        return -ENOENT;
    for (size_t i = 0; i < c->n_vms; i++) {
        if (c->vms[i].id == id) {
            want(c, &c->vms[i]);
            return 0;
        }
    }
    return -ENOENT;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* What a refusal means, a row a status; %s is the server's own line. */
static const struct {
    int status;
    enum qvdclient_result result;
    const char *text;
    bool server_text;
} refusals[] = {
    {400, QVDCLIENT_FAILED,      "the server did not understand the request",                   true },
    {401, QVDCLIENT_LOGIN,       "login refused: wrong user or password, or a blocked account", false},
    {403, QVDCLIENT_REFUSED,     "refused",                                                     true },
    {404, QVDCLIENT_NO_VM,       "the virtual machine is not there any more",                   false},
    {408, QVDCLIENT_UNAVAILABLE, "the virtual machine took too long",                           true },
    {409, QVDCLIENT_TAKEN,       "your session was taken over by another connection",           false},
    {410, QVDCLIENT_OK,          "the session has ended",                                       true },
    {422, QVDCLIENT_FAILED,      "the server misses a parameter",                               true },
    {426, QVDCLIENT_FAILED,      "the server wants another version of this client",             true },
    {429, QVDCLIENT_UNAVAILABLE, "too many attempts; try again later",                          false},
    {503, QVDCLIENT_UNAVAILABLE, "not available now",                                           true },
};

static void refused(struct qvdclient *c, int status, const char *body)
{
    char line[320];

    first_line(body, line, sizeof line);
    if (status == 404 && c->goal == GOAL_LIST) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s is not a QVD server", c->host_port);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        if (refusals[i].status != status)
            continue;
        if (status == 401 && *client_option(c, QVDCLIENT_TOKEN))
            client_end(c, QVDCLIENT_LOGIN,
                       "login refused: the token is unknown, used or out of date, or its user is "
                       "blocked (401)");
        else if (status == 409 || status == 410)
            client_end(c, refusals[i].result, "%s",
                       status == 410 && line[0] ? line : refusals[i].text);
        else if (refusals[i].server_text && line[0])
            client_end(c, refusals[i].result, "%s: %s (%d)", refusals[i].text, line, status);
        else
            client_end(c, refusals[i].result, "%s (%d)", refusals[i].text, status);
        return;
    }
    client_end(c, status >= 500 ? QVDCLIENT_UNAVAILABLE : QVDCLIENT_FAILED,
               "the server answered %d: %s", status, line);
}

static void take_list(struct qvdclient *c, const char *body, size_t len)
{
    free(c->vms);
    c->vms = NULL;
    c->n_vms = 0;
    int r = wire_vm_list_parse(body, len, &c->vms, &c->n_vms);
    if (r < 0)
        client_end(c, QVDCLIENT_UNREACHABLE, "%s: its list of machines cannot be read: %s",
                   c->host_port, strerror(-r));
    else
        choose(c);
}

static void on_answer(void *owner, const struct http_head *head, const char *body, size_t len)
{
    struct qvdclient *c = owner;

    c->reused = true;
    client_debug(c, "answer %d %s, %zu bytes", head->status, head->reason, len);
    if (client_over(c))
        return;
    if (c->goal == GOAL_LIST && head->status == 200) {
        client_step(c, QVDCLIENT_STEP_LOGIN, "%s",
                    *client_option(c, QVDCLIENT_TOKEN) ? "by token"
                                                       : client_option(c, QVDCLIENT_USER));
        take_list(c, body, len);
    } else if (c->goal == GOAL_STOP && head->status != 401 && head->status != 404) {
        /* Stopped or not, the next answer tells (l7r-protocol 10: the clients do the same). */
        c->goal = GOAL_CONNECT;
        client_later(c, client_ask);
    } else if (head->status == 200) {
        client_end(c, QVDCLIENT_UNREACHABLE, "%s did not switch to the desktop", c->host_port);
    } else {
        refused(c, head->status, body);
    }
}

static void on_interim(void *owner, const struct http_head *head)
{
    struct qvdclient *c = owner;
    const char *info = http_head_get(head, WIRE_L7R_INFO);
    char line[160];

    if (client_over(c) || !info)
        return;
    c->retried = true; /* the server is at it: no second try */
    first_line(info, line, sizeof line);
    if (c->cb->progress)
        c->cb->progress(c->arg, line);
}

static void on_upgraded(void *owner, const struct http_head *head, struct stream *s)
{
    struct qvdclient *c = owner;

    if (client_over(c) || c->goal != GOAL_CONNECT) {
        stream_free(s);
        client_end(c, QVDCLIENT_UNREACHABLE, "%s switched protocols unasked", c->host_port);
        return;
    }
    const char *number = http_head_get(head, WIRE_L7R_SESSION);
    if (!number || str_to_u64(number, INT64_MAX, &c->again.session) < 0)
        c->again.session = 0;
    client_step(c, QVDCLIENT_STEP_START, "session %llu", (unsigned long long)c->again.session);
    client_session_start(c, s);
}

static void on_closed(void *owner, const struct qvd_error *why)
{
    struct qvdclient *c = owner;
    bool was_idle = c->reused && !c->retried;

    client_debug(c, "%s", why->text);
    client_disconnect(c);
    if (client_over(c) || c->state == QVDCLIENT_CHOOSING)
        return;
    if (was_idle && why->code != -ETIMEDOUT) {
        /* The server had enough of the idle connection while the request was on its way. */
        c->retried = true;
        client_later(c, client_connect);
        return;
    }
    client_end(c, why->code == -ETIMEDOUT ? QVDCLIENT_UNAVAILABLE : QVDCLIENT_UNREACHABLE, "%s: %s",
               c->host_port, why->text);
}

const struct http_client_ops client_http_ops = {
    .interim = on_interim, .answer = on_answer, .upgraded = on_upgraded, .closed = on_closed};
