// SPDX-License-Identifier: GPL-3.0-or-later
/* A session's object: its setter, its limit, its answer. What the steps do is in step-*.c, which
 * step follows in table.c. */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

static enum session_event step_gone(struct session *s);
/* The claim's answer is still to come: it brings the event. */
static enum session_event step_unclaim(struct session *s)
{
    return SESSION_EV_NONE;
}
static enum session_event step_later(struct session *s)
{
    return SESSION_EV_NONE;
}

static enum session_event (*const enter[SESSION_STEP_MAX])(struct session *s) = {
    [SESSION_AUTH] = step_auth,         [SESSION_HOOK] = step_hook,
    [SESSION_TOKEN] = step_token,       [SESSION_HOST] = step_host,
    [SESSION_LIST] = step_list,         [SESSION_STOP] = step_stop,
    [SESSION_STOPPING] = step_stopping, [SESSION_CLAIM] = step_claim,
    [SESSION_UNCLAIM] = step_unclaim,   [SESSION_TAKEOVER] = step_takeover,
    [SESSION_WAIT] = step_wait,         [SESSION_PREPARE] = step_prepare,
    [SESSION_ASK] = step_ask,           [SESSION_DIAL] = step_dial,
    [SESSION_SWITCH] = step_switch,     [SESSION_CONNECTED] = step_connected,
    [SESSION_CUT] = step_cut,           [SESSION_RESET] = step_reset,
    [SESSION_CLOSE] = step_close,       [SESSION_LATER] = step_later,
    [SESSION_GONE] = step_gone,
};

const char *session_prefix(const struct session *s, char *dst)
{
    (void)snprintf(dst, BROKER_ID_PREFIX_MAX, "[s:%llu u:%llu vm:%llu]", (unsigned long long)s->id,
                   (unsigned long long)s->user_id, (unsigned long long)s->vm_id);
    return dst;
}

int64_t session_step_ms(const struct session *s)
{
    return clock_ms() - s->step_began;
}

/* The answer ------------------------------------------------------------------------------------
 */

static void set_answer(struct session *s, uint32_t status, const char *type, char *text)
{
    if (s->text || s->answered) {
        free(text);
        return;
    }
    s->status = text ? status : 500;
    s->type = type;
    s->text = text;
}

static enum session_event refuse(struct session *s, uint32_t status, uint32_t retry_after,
                                 const char *text)
{
    if (!s->text && !s->answered) {
        set_answer(s, status, "text/plain", str_printf("%s\r\n", text));
        s->retry_after = retry_after;
        session_set_reason(s, text);
    }
    return SESSION_EV_REFUSED;
}

enum session_event session_refuse(struct session *s, uint32_t status, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return refuse(s, status, status == 503 ? 5 : 0, text);
}

void session_set_reason(struct session *s, const char *reason)
{
    if (!s->reason)
        s->reason = str_printf("%.250s", reason);
}

enum session_event session_unavailable(struct session *s, const char *fmt, ...)
{
    char why[200], text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    session_set_reason(s, why);
    if (s->id)
        (void)snprintf(text, sizeof text,
                       "The requested virtual machine is not available: %s. Retry later"
                       " (reference %llu)",
                       why, (unsigned long long)s->id);
    else
        (void)snprintf(text, sizeof text,
                       "The requested virtual machine is not available: %s. Retry later", why);
    return refuse(s, 503, 5, text);
}

enum session_event session_answer(struct session *s, const char *type, char *body)
{
    set_answer(s, 200, type, body);
    return SESSION_EV_ANSWERED;
}

void session_send_answer(struct session *s)
{
    size_t len = s->text ? strlen(s->text) : 0, at = 0;

    if (s->answered || !s->text || !s->conn || !s->link)
        return;
    s->answered = true;
    do {
        size_t n = len - at < L7R_BODY_MAX ? len - at : L7R_BODY_MAX;
        struct l7r_answer a = {
            .conn = s->conn,
            .status = s->status,
            .type = s->type,
            .retry_after = s->retry_after,
            .authenticated = s->authenticated,
            .last = at + n == len,
            .body = {s->text + at, n}
        };
        int r = ipc_send(s->link->channel, &l7r_answer_msg, &a, -EBADF);
        if (r < 0) {
            /* The worker's limit of a request ends it. */
            log_warning("worker %u takes no answers, one is lost: %s", s->link->slot, strerror(-r));
            return;
        }
        at += n;
    } while (at < len);
}

void session_progress(struct session *s, const char *text)
{
    struct l7r_progress p = {.conn = s->conn, .text = text};

    if (s->conn && s->link && !s->answered &&
        ipc_send(s->link->channel, &l7r_progress_msg, &p, -EBADF) < 0)
        log_debug("a progress text was not sent");
}

/* Names -----------------------------------------------------------------------------------------
 */

int session_register(struct session *s)
{
    struct broker *b = s->broker;
    int r = map_put_u64(b->by_id, s->id, s);

    if (r == 0) {
        s->vm_next = map_get_u64(b->by_vm, s->vm_id);
        r = map_put_u64(b->by_vm, s->vm_id, s);
    }
    return r;
}

void session_unregister(struct session *s)
{
    struct broker *b = s->broker;
    struct session *first = s->id ? map_get_u64(b->by_vm, s->vm_id) : NULL;

    if (!s->id)
        return;
    if (map_get_u64(b->by_id, s->id) == s)
        (void)map_take_u64(b->by_id, s->id);
    if (first == s) {
        (void)map_take_u64(b->by_vm, s->vm_id);
        if (s->vm_next && map_put_u64(b->by_vm, s->vm_id, s->vm_next) < 0)
            log_error("out of memory");
    }
    for (; first; first = first->vm_next)
        if (first->vm_next == s)
            first->vm_next = s->vm_next;
    if (s->former && map_get_u64(b->heirs, s->former) == s)
        (void)map_take_u64(b->heirs, s->former);
}

/* Steps -----------------------------------------------------------------------------------------
 */

static void limit_over(void *arg)
{
    struct session *s = arg;
    const char *why = session_steps[s->step].why;

    if (s->step == SESSION_STOPPING)
        (void)session_refuse(s, 408, "Timeout: %s", why);
    else if (why)
        (void)session_unavailable(s, "%s", why);
    session_event(s, SESSION_EV_LIMIT);
}

/* A session that cannot be limited (no memory) does not wait. */
static must_check bool arm_limit(struct session *s)
{
    const struct session_step_row *row = &session_steps[s->step];

    if (row->kind == SESSION_WAITING) {
        if (!s->limit && ev_timer_new(s->broker->loop, limit_over, s, &s->limit) < 0)
            return false;
        ev_timer_arm(s->limit, row->setting
                                   ? (uint64_t)conf_ms(s->broker->conf, row->setting) * row->times
                                   : row->limit_ms);
    } else if (s->limit) {
        ev_timer_disarm(s->limit);
    }
    return true;
}

/* What the step that is left has under way is of no more use; only UNCLAIM waits for it. */
static void drop_calls(struct session *s)
{
    s->call = store_call_drop(s->call);
    if (s->auth_call)
        auth_client_cancel(s->broker->auth, s->auth_call);
    s->auth_call = 0;
    s->rpc = rpc_request_cancel(s->rpc);
    s->io = ev_io_free(s->io);
    if (s->retry)
        ev_timer_disarm(s->retry);
}

/* False: the limit of the step is over already. */
static must_check bool set_step(struct session *s, enum session_step step)
{
    if (step != SESSION_UNCLAIM)
        drop_calls(s);
    if (s->step == SESSION_STOPPING)
        step_stopping_left(s);
    s->step = step;
    s->step_began = clock_ms();
    bool limited = arm_limit(s);
    if (session_steps[step].progress)
        session_progress(s, session_steps[step].progress);
    /* From here on nobody tries to serve the client any more. */
    if (step == SESSION_GONE || step == SESSION_CLOSE || step == SESSION_RESET ||
        step == SESSION_UNCLAIM)
        session_send_answer(s);
    return limited;
}

void session_event(struct session *s, enum session_event event)
{
    char prefix[BROKER_ID_PREFIX_MAX];

    if (s->busy) {
        s->pending = event;
        return;
    }
    s->busy = true;
    while (event != SESSION_EV_NONE) {
        enum session_step next = session_next(s->step, event);
        if (next == SESSION_STEP_INVALID)
            log_error("%s event %s is not expected in step %s, ignoring it",
                      session_prefix(s, prefix), session_event_to_string(event),
                      session_step_to_string(s->step));
        if (next == SESSION_STEP_INVALID)
            break;
        /* One line for each row taken, with the cells of docs/session-steps.md: tests count them.
         */
        log_debug("%s row %s | %s | %s", session_prefix(s, prefix), session_step_to_string(s->step),
                  session_event_to_string(event),
                  next == s->step ? "stays" : session_step_to_string(next));
        if (next == s->step)
            break;
        bool limited = set_step(s, next);
        s->pending = SESSION_EV_NONE;
        event = limited ? enter[next](s) : SESSION_EV_LIMIT;
        if (event == SESSION_EV_NONE)
            event = s->pending;
    }
    s->pending = SESSION_EV_NONE;
    s->busy = false;
}

void session_abort(struct session *s, const char *reason)
{
    session_set_reason(s, reason);
    if (s->step == SESSION_GONE)
        return;
    if (s->step == SESSION_STOPPING || s->step < SESSION_CLAIM)
        (void)session_refuse(s, 503, "%s", reason);
    else
        (void)session_unavailable(s, "%s", reason);
    session_event(s, SESSION_EV_ABORT);
}

void session_look(struct session *s)
{
    if (s->look) {
        s->look_again = true;
        return;
    }
    s->look_again = false;
    s->look = store_session_look(s->broker->db, s->vm_id, s->former, session_looked, s);
    if (!s->look)
        log_error("out of memory: VM %llu is looked at with the next sweep",
                  (unsigned long long)s->vm_id);
}

/* Birth and death -------------------------------------------------------------------------------
 */

static void wipe(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void session_forget_env(struct session *s)
{
    if (s->env)
        explicit_bzero(s->env, s->env_len);
    free(s->env);
    free(s->file_name);
    s->env = s->file_name = NULL;
    s->env_len = 0;
}

void session_slim(struct session *s)
{
    session_forget_env(s);
    s->limit = ev_timer_free(s->limit);
    s->retry = ev_timer_free(s->retry);
    wipe(&s->login);
    wipe(&s->secret);
    wipe(&s->x_start);
    wipe(&s->text);
    explicit_bzero(s->slave_key, sizeof s->slave_key);
    free(s->client);
    free(s->flaw_text);
    free(s->params);
    free(s->user_params);
    free(s->user_login);
    free(s->asked_params);
    free(s->listed);
    s->client = s->flaw_text = s->params = s->user_params = NULL;
    s->user_login = s->asked_params = NULL;
    s->listed = NULL;
    s->params_len = 0;
}

static void session_free(void *arg)
{
    struct session *s = arg;
    struct broker *b = s->broker;

    ev_deferred_cancel(&s->reap);
    drop_calls(s);
    s->look = store_call_drop(s->look);
    session_unregister(s);
    list_remove(&s->node);
    list_remove(&s->stop_node);
    s->fd = fd_close(s->fd);
    session_slim(s);
    free(s->reason);
    explicit_bzero(s->vm_secret, sizeof s->vm_secret);
    free(s);
    broker_end_if_idle(b);
}

static enum session_event step_gone(struct session *s)
{
    struct conn *c = s->conn && s->link ? link_conn(s->link, s->conn) : NULL;

    if (c && c->session == s)
        c->session = NULL;
    if (s->unsure)
        reconcile_now(s->broker);
    ev_defer(s->broker->loop, &s->reap);
    return SESSION_EV_NONE;
}

static void retry_over(void *arg)
{
    struct session *s = arg;

    if (s->step == SESSION_PREPARE) {
        s->busy = true;
        enum session_event event = step_prepare(s);
        s->busy = false;
        session_event(s, event);
    } else if (s->step == SESSION_STOPPING) {
        session_look(s);
        ev_timer_arm(s->retry, 5000);
    }
}

struct session *session_new(struct broker *b, struct link *l, uint64_t conn, enum l7r_kind kind)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->broker = b;
    s->link = l;
    s->conn = conn;
    s->kind = kind;
    s->fd = -EBADF;
    s->began = s->step_began = clock_ms();
    s->phases = (struct store_phases){-1, -1, -1, -1, -1, -1, -1};
    s->type = "text/plain";
    list_init(&s->stop_node);
    list_append(&b->sessions, &s->node);
    ev_deferred_init(&s->reap, session_free, s);
    if (ev_timer_new(b->loop, limit_over, s, &s->limit) < 0 ||
        ev_timer_new(b->loop, retry_over, s, &s->retry) < 0) {
        session_free(s);
        return NULL;
    }
    return s;
}
