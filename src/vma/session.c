// SPDX-License-Identifier: GPL-3.0-or-later
/* One setter of the state, one function for each action of the table. */
#include "vma/session.h"

#include <signal.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "config.h"
#include "vma/agent.h"
#include "vma/hook.h"
#include "vma/options.h"
#include "vma/user.h"

#define OPTIONS_DIR QVD_RUNDIR "/vma"
#define OPTIONS_FILE OPTIONS_DIR "/nxagent.conf"
#define LOG_FILE QVD_LOGDIR "/qvd-nxagent.log"
#define LOG_MAX (4 << 20)
#define PREPARING_MS 120000
#define FRESH_MS 300
#define SETTLING_MS 500
#define STATE_HOOKS_MAX 4

struct session {
    struct ev_loop *loop;
    const struct conf *conf;
    const struct session_ops *ops;
    void *owner;
    enum nx_state state;
    struct ev_timer *limit;
    unsigned display;
    struct wire_params *params;
    struct user user;
    struct agent *agent;
    struct hook *hook; /* of the preparation under way */
    struct user_job *user_job;
    bool hup_out;            /* a HUP was sent and nothing has shown that it was taken */
    bool stream_lost;        /* the agent has noticed by itself that its stream is over */
    char complaint[200];     /* the last error line of the agent */
    struct ev_deferred bury; /* frees the agent outside of its callbacks */
    struct state_hook {
        struct session *session;
        struct hook *hook;
    } state_hooks[STATE_HOOKS_MAX];
};

enum nx_state session_state(const struct session *s)
{
    return s->state;
}

void session_set_params(struct session *s, struct wire_params *params)
{
    wire_params_free(s->params);
    s->params = params;
}

bool session_is_free(const struct session *s)
{
    return (s->state == NX_LISTENING || s->state == NX_RELISTENING) &&
           agent_port(s->display + 4000) == AGENT_PORT_FREE;
}

static uint64_t limit_ms(const struct session *s, enum nx_state state)
{
    switch (nx_limit_of(state)) {
    case NX_LIMIT_PREPARING:
        return PREPARING_MS;
    case NX_LIMIT_INITIATING:
        return conf_ms(s->conf, "vma.timeout.initiating");
    case NX_LIMIT_LISTENING:
        return conf_ms(s->conf, "vma.timeout.listening");
    case NX_LIMIT_SUSPENDING:
        return conf_ms(s->conf, "vma.timeout.suspending");
    case NX_LIMIT_FRESH:
        return FRESH_MS;
    case NX_LIMIT_SETTLING:
        return SETTLING_MS;
    case NX_LIMIT_STOPPING:
        return conf_ms(s->conf, "vma.timeout.stopping");
    default:
        return 0;
    }
}

static void on_state_hook(void *arg, const struct qvd_error *err)
{
    struct state_hook *h = arg;

    h->hook = NULL;
}

/* Nobody waits for these; more than a few at once are left out. */
static void run_state_hook(struct session *s, const char *name)
{
    struct qvd_error err;
    char key[64];

    snprintf(key, sizeof key, "vma.on_state.%s", name);
    for (int i = 0; i < STATE_HOOKS_MAX; i++) {
        struct state_hook *h = &s->state_hooks[i];
        if (h->hook)
            continue;
        h->session = s;
        if (hook_run(s->loop, s->conf, key, s->params, "qvd.hook.on_state", name, on_state_hook, h,
                     &h->hook, &err) < 0)
            log_warning("%s", err.text);
        return;
    }
    log_warning("hook %s left out: %d state hooks still run", key, STATE_HOOKS_MAX);
}

/* The only place that assigns ->state. */
static void set_state(struct session *s, enum nx_state state, enum nx_event event)
{
    enum nx_state old = s->state;

    log_info("session: %s -> %s (%s)", nx_state_to_string(old), nx_state_to_string(state),
             nx_event_to_string(event));
    s->state = state;
    uint64_t ms = limit_ms(s, state);
    if (ms)
        ev_timer_arm(s->limit, ms);
    else
        ev_timer_disarm(s->limit);
    if (state == NX_STOPPED) {
        s->hup_out = s->stream_lost = false;
        ev_defer(s->loop, &s->bury);
    }
    if (old != state && state == NX_FRESH)
        run_state_hook(s, "connected");
    if (old != state && state == NX_SUSPENDED && old != NX_WAKING)
        run_state_hook(s, "suspended");
    if (old != state && state == NX_STOPPED && old != NX_PREPARING)
        run_state_hook(s, "disconnected");
    s->ops->changed(s->owner);
}

static void fail(struct session *s, const struct qvd_error *err)
{
    log_warning("session: %s", err->text);
    s->ops->failed(s->owner, err);
}

static void stop_preparing(struct session *s)
{
    s->hook = hook_cancel(s->hook);
    s->user_job = user_cancel(s->user_job);
}

/* ---- preparation: pre-connect hook, account (fresh only), connect hook ---- */

static void prepared(struct session *s)
{
    session_event(s, NX_EV_PREPARED);
}

static void not_prepared(struct session *s, const struct qvd_error *err)
{
    fail(s, err);
    session_event(s, NX_EV_FAILED);
}

static void on_connect_hook(void *arg, const struct qvd_error *err)
{
    struct session *s = arg;

    s->hook = NULL;
    if (err->code)
        not_prepared(s, err);
    else
        prepared(s);
}

static void run_connect_hook(struct session *s)
{
    struct qvd_error err;
    int r = hook_run(s->loop, s->conf, "vma.on_action.connect", s->params, "qvd.hook.on_action",
                     "connect", on_connect_hook, s, &s->hook, &err);

    if (r < 0)
        not_prepared(s, &err);
    else if (r > 0)
        prepared(s);
}

static void on_user(void *arg, const struct user *user, const struct qvd_error *err)
{
    struct session *s = arg;

    s->user_job = NULL;
    if (err->code) {
        not_prepared(s, err);
        return;
    }
    s->user = *user;
    log_info("session: user %s, uid %u, home %s", user->name, (unsigned)user->uid, user->home);
    run_connect_hook(s);
}

static void after_pre_connect(struct session *s)
{
    struct qvd_error err;

    if (s->state == NX_WAKING) {
        run_connect_hook(s);
        return;
    }
    if (user_prepare(s->loop, s->conf, s->params, on_user, s, &s->user_job) < 0) {
        (void)qvd_error_set(&err, -ENOMEM, "cannot prepare the account: out of memory");
        not_prepared(s, &err);
    }
}

static void on_pre_connect(void *arg, const struct qvd_error *err)
{
    struct session *s = arg;

    s->hook = NULL;
    if (err->code)
        not_prepared(s, err);
    else
        after_pre_connect(s);
}

/* Runs after the state was entered, so that what fails at once finds it. */
static void begin_preparing(struct session *s)
{
    struct qvd_error err;
    int r = hook_run(s->loop, s->conf, "vma.on_action.pre-connect", s->params, "qvd.hook.on_action",
                     "pre_connect", on_pre_connect, s, &s->hook, &err);

    if (r < 0)
        not_prepared(s, &err);
    else if (r > 0)
        after_pre_connect(s);
}

/* ---- the agent ---- */

static void on_dropped(void *arg, const char *name, const char *why)
{
    log_warning("session: client's option %s left out: %s", name, why);
}

static must_check int write_options(struct session *s, struct qvd_error *err)
{
    struct buf b;

    buf_init(&b, 8192);
    int r = options_write(s->conf, s->params, s->display, &b, on_dropped, s);
    if (r == 0)
        r = fs_mkdirs(OPTIONS_DIR, 0711);
    if (r == 0)
        r = fs_write_atomic(OPTIONS_FILE, b.data, b.len, 0644);
    buf_done(&b);
    return r < 0 ? qvd_error_errno(err, r, "cannot write " OPTIONS_FILE) : 0;
}

/* The agent's log, for those who look for its faults; begun anew when it is too long. */
static void keep_line(const char *line)
{
    FILE *f = fopen(LOG_FILE, "ae");

    if (!f)
        return;
    if (fseek(f, 0, SEEK_END) == 0 && ftell(f) > LOG_MAX && rename(LOG_FILE, LOG_FILE ".1") < 0)
        log_debug("cannot rename " LOG_FILE);
    fprintf(f, "%s\n", line);
    fclose(f);
}

static void on_line(void *owner, const char *line)
{
    struct session *s = owner;
    enum nx_event event = nx_event_of_line(line);

    keep_line(line);
    if (strncmp(line, "Error: ", 7) == 0 || strncmp(line, "Fatal ", 6) == 0)
        (void)!snprintf(s->complaint, sizeof s->complaint, "%s", line);
    if (strncmp(line, "Info: Aborting the procedure due to signal", 42) == 0)
        s->hup_out = false;
    if (event == NX_EV_LOST)
        s->stream_lost = true;
    if (event == NX_EV_SUSPENDED) {
        if (s->hup_out && s->stream_lost)
            event = NX_EV_STRAY;
        s->hup_out = s->stream_lost = false;
    }
    if (event == NX_EV_UP)
        s->stream_lost = false;
    if (event != NX_EV_MAX)
        session_event(s, event);
}

static void on_gone(void *owner, const char *how)
{
    struct session *s = owner;
    struct qvd_error err;

    log_info("session: nxagent ended (%s)%s%s", how, s->complaint[0] ? "; " : "", s->complaint);
    if (s->state == NX_STARTING) {
        (void)qvd_error_set(&err, -EIO, "nxagent ended before it listened (%s)%s%s", how,
                            s->complaint[0] ? ": " : "", s->complaint);
        fail(s, &err);
    }
    session_event(s, NX_EV_GONE);
}

static void on_logged_out(void *owner)
{
    session_event(owner, NX_EV_END);
}

static const struct agent_ops agent_ops = {
    .line = on_line, .gone = on_gone, .logged_out = on_logged_out};

static void bury(void *arg)
{
    struct session *s = arg;

    if (s->state == NX_STOPPED)
        s->agent = agent_free(s->agent);
}

static void spawn(struct session *s)
{
    struct qvd_error err;

    ev_deferred_cancel(&s->bury);
    s->agent = agent_free(s->agent);
    s->complaint[0] = '\0';
    int r = write_options(s, &err);
    if (r == 0)
        r = agent_start(s->loop, s->conf, &s->user, s->params, s->display, OPTIONS_FILE, &agent_ops,
                        s, &s->agent, &err);
    if (r < 0) {
        fail(s, &err);
        session_event(s, NX_EV_FAILED);
    }
}

static void hup(struct session *s)
{
    s->hup_out = true;
    agent_signal(s->agent, SIGHUP);
}

static void wake(struct session *s)
{
    struct qvd_error err;

    /* With the old options the desktop still comes back. */
    if (write_options(s, &err) < 0)
        log_warning("%s, ignoring it", err.text);
    s->hup_out = s->stream_lost = false;
    agent_signal(s->agent, SIGHUP);
}

/* A stream that has ended suspends the agent without us; a HUP then would wake it up. */
static void cut(struct session *s)
{
    unsigned port = s->display + 4000;

    if (s->stream_lost || agent_port(port) != AGENT_PORT_BUSY)
        return;
    int r = agent_cut(port);
    if (r < 0) {
        log_debug("the stream cannot be reset (%s): HUP", strerror(-r));
        hup(s);
    }
}

static void login(struct session *s)
{
    struct qvd_error err;

    if (agent_login(s->agent, &err) < 0) {
        fail(s, &err);
        session_event(s, NX_EV_END);
    }
}

/* What must be done before the next state is entered. */
static void act_before(struct session *s, enum nx_action action)
{
    switch (action) {
    case NX_DO_ABORT:
        stop_preparing(s);
        break;
    case NX_DO_TERM:
        stop_preparing(s);
        agent_signal(s->agent, SIGTERM);
        break;
    case NX_DO_KILL:
        agent_signal(s->agent, SIGKILL);
        break;
    case NX_DO_CUT:
        cut(s);
        break;
    case NX_DO_HUP:
        hup(s);
        break;
    case NX_DO_WAKE:
        wake(s);
        break;
    default:
        break;
    }
}

/* What may bring the next event at once. */
static void act_after(struct session *s, enum nx_action action)
{
    switch (action) {
    case NX_DO_PREPARE:
    case NX_DO_HOOKS:
        begin_preparing(s);
        break;
    case NX_DO_SPAWN:
        spawn(s);
        break;
    case NX_DO_LOGIN:
        login(s);
        break;
    default:
        break;
    }
}

static void tell_limit(struct session *s)
{
    struct qvd_error err;

    (void)qvd_error_set(&err, -ETIMEDOUT, "the desktop stayed too long in state %s%s%s",
                        nx_state_to_string(s->state), s->complaint[0] ? ": " : "", s->complaint);
    fail(s, &err);
}

void session_event(struct session *s, enum nx_event event)
{
    enum nx_action action;
    enum nx_state next;

    if (nx_step(s->state, event, &action, &next) > 0)
        return;
    if (event == NX_EV_LIMIT && nx_limit_of(s->state) != NX_LIMIT_LISTENING &&
        nx_limit_of(s->state) != NX_LIMIT_SETTLING && nx_limit_of(s->state) != NX_LIMIT_FRESH)
        tell_limit(s);
    act_before(s, action);
    set_state(s, next, event);
    act_after(s, action);
}

static void on_limit(void *arg)
{
    session_event(arg, NX_EV_LIMIT);
}

int session_new(struct ev_loop *loop, const struct conf *conf, const struct session_ops *ops,
                void *owner, struct session **ret_session)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    *s = (struct session){.loop = loop, .conf = conf, .ops = ops, .owner = owner};
    s->display = conf_int(conf, "vma.display");
    if (fs_mkdirs(QVD_LOGDIR, 0755) < 0)
        log_warning("cannot make " QVD_LOGDIR ": the agent's log is not kept");
    ev_deferred_init(&s->bury, bury, s);
    s->params = wire_params_new();
    if (!s->params || ev_timer_new(loop, on_limit, s, &s->limit) < 0) {
        session_free(s);
        return -ENOMEM;
    }
    *ret_session = s;
    return 0;
}

struct session *session_free(struct session *s)
{
    if (s) {
        stop_preparing(s);
        for (int i = 0; i < STATE_HOOKS_MAX; i++)
            hook_cancel(s->state_hooks[i].hook);
        ev_deferred_cancel(&s->bury);
        agent_free(s->agent);
        ev_timer_free(s->limit);
        wire_params_free(s->params);
        free(s);
    }
    return NULL;
}
