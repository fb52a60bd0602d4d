// SPDX-License-Identifier: GPL-3.0-or-later
/* One setter of the state, one function for each action of the table. */
#include "vma/session.h"

#include <signal.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "vma/agent.h"
#include "vma/hook.h"
#include "vma/line-log.h"
#include "vma/options.h"
#include "vma/prepare.h"
#include "vma/session-file.h"
#include "vma/user.h"

#define OPTIONS_DIR QVD_RUNDIR "/vma"
#define OPTIONS_FILE OPTIONS_DIR "/nxagent.conf"
#define STATE_FILE OPTIONS_DIR "/session"
#define LOG_NAME "qvd-nxagent.log"
#define LOG_MAX (4 << 20)
#define FRESH_MS 300
#define SETTLING_MS 500
#define NUDGE_MS 2 /* the first; then ever twice as long */
/* After an adoption: time for the lines that nxagent wrote meanwhile. */
#define ADOPTED_MS 1000
#define STATE_HOOKS_MAX 8

struct session {
    struct ev_loop *loop;
    const struct conf *conf;
    const struct session_ops *ops;
    void *owner;
    enum nx_state state;
    struct ev_timer *limit;
    struct ev_timer *nudge; /* armed until the agent has taken a HUP that shall resume */
    uint64_t nudge_ms;
    unsigned display;
    struct wire_params *params;
    struct user user;
    unsigned depth; /* of the display that the desktop was begun on; 0: nobody has told it */
    struct agent *agent;
    struct prepare *prepare;  /* under way */
    struct ev_timer *adopted; /* armed for a moment after an adoption */
    bool hup_out;             /* a HUP was sent and nothing has shown that it was taken */
    bool stream_lost;         /* the agent has noticed by itself that its stream is over */
    bool invited;             /* somebody was told that this listening agent may be dialled */
    char complaint[200];      /* the last error line of the agent */
    struct line_log log;      /* all lines of the agents */
    struct ev_deferred bury;  /* frees the agent outside of its callbacks */
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

static bool is_listening(enum nx_state state)
{
    return state == NX_LISTENING || state == NX_RELISTENING;
}

bool session_invite(struct session *s)
{
    unsigned port = s->display + 4000;
    bool free = is_listening(s->state) &&
                (s->invited ? agent_port(port) == AGENT_PORT_FREE : agent_port_waits(port));

    s->invited |= free;
    return free;
}

static uint64_t limit_ms(const struct session *s, enum nx_state state)
{
    switch (nx_limit_of(state)) {
    case NX_LIMIT_PREPARING:
        return conf_ms(s->conf, "vma.timeout.preparing");
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
static void run_detached(struct session *s, const char *group, const char *name, const char *value)
{
    struct qvd_error err;
    char key[64], what[64];
    const struct hook_spec spec = {.key = key,
                                   .params = s->params,
                                   .state = nx_to_x_state(s->state),
                                   .name = what,
                                   .value = value,
                                   .stays = true};

    snprintf(key, sizeof key, "vma.%s.%s", group, name);
    snprintf(what, sizeof what, "qvd.hook.%s", group);
    for (int i = 0; i < STATE_HOOKS_MAX; i++) {
        struct state_hook *h = &s->state_hooks[i];
        if (h->hook)
            continue;
        if (hook_run(s->loop, s->conf, &spec, on_state_hook, h, &h->hook, &err) < 0)
            log_warning("%s", err.text);
        return;
    }
    log_warning("hook %s left out: %d such hooks still run", key, STATE_HOOKS_MAX);
}

/* The key of the end is named otherwise than the state. */
static void run_state_hooks(struct session *s, const char *state)
{
    run_detached(s, "on_state", strcmp(state, "stopped") == 0 ? "disconnected" : state, state);
    run_detached(s, "on_printing", state, state);
}

static bool is_shown(enum nx_state state)
{
    return state == NX_FRESH || state == NX_CONNECTED;
}

static bool is_suspending(enum nx_state state)
{
    return state == NX_CUTTING || state == NX_SUSPENDING || state == NX_SUSPENDED;
}

/* What follows from a change, whatever brought it. */
static void run_hooks(struct session *s, enum nx_state old, enum nx_event event)
{
    if (old == s->state)
        return;
    /* The order x_suspend has asked its hook already. */
    if (is_shown(old) && is_suspending(s->state) && event != NX_EV_CUT)
        run_detached(s, "on_action", "suspend", "suspend");
    if (s->state == NX_FRESH)
        run_state_hooks(s, "connected");
    if (s->state == NX_SUSPENDED && old != NX_WAKING)
        run_state_hooks(s, "suspended");
    if (s->state == NX_STOPPED && old != NX_PREPARING)
        run_state_hooks(s, "stopped");
}

static void save(struct session *s)
{
    const struct session_saved saved = {.state = s->state,
                                        .hup_out = s->hup_out,
                                        .stream_lost = s->stream_lost,
                                        .depth = s->depth,
                                        .user = s->user,
                                        .agent = agent_save(s->agent),
                                        .params = s->params};
    int r = fs_mkdirs(OPTIONS_DIR, 0711);

    if (r == 0)
        r = session_file_write(STATE_FILE, &saved);
    if (r < 0)
        log_warning("the session's state cannot be kept (%s): a new agent would not find it",
                    strerror(-r));
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
    if (is_listening(state))
        s->invited = false;
    if (state == NX_STOPPED) {
        s->hup_out = s->stream_lost = false;
        ev_defer(s->loop, &s->bury);
    }
    save(s);
    run_hooks(s, old, event);
    s->ops->changed(s->owner);
}

static void fail(struct session *s, const struct qvd_error *err)
{
    log_warning("session: %s", err->text);
    s->ops->failed(s->owner, err);
}

static void stop_preparing(struct session *s)
{
    s->prepare = prepare_cancel(s->prepare);
}

static void on_prepared(void *arg, const struct user *user, const struct qvd_error *err)
{
    struct session *s = arg;

    s->prepare = NULL;
    if (err->code) {
        fail(s, err);
        session_event(s, NX_EV_FAILED);
        return;
    }
    s->user = *user;
    session_event(s, NX_EV_PREPARED);
}

/* Bits a pixel of the client's display; 0: it does not tell. */
static unsigned wanted_depth(const struct session *s)
{
    const char *text = wire_params_get(s->params, "qvd.client.depth");
    uint64_t depth;

    return text && str_to_u64(text, 255, &depth) == 0 ? depth : 0;
}

/* nxagent shows a desktop only on displays with the visuals of the first, and otherwise falls
 * asleep again without a word to the person. */
static must_check int check_depth(const struct session *s, struct qvd_error *err)
{
    unsigned wanted = wanted_depth(s);

    if (s->state != NX_WAKING || !s->depth || !wanted || s->depth == wanted)
        return 0;
    return qvd_error_set(err, -EPERM,
                         "it was begun on a display of colour depth %u and cannot be shown on one "
                         "of %u; its windows are kept: connect from a display like the first, or "
                         "restart the virtual machine",
                         s->depth, wanted);
}

/* Runs after the state was entered, so that what fails at once finds it. */
static void begin_preparing(struct session *s)
{
    const struct user *present = s->state == NX_WAKING ? &s->user : NULL;
    struct qvd_error err;
    int r = check_depth(s, &err);

    if (r == 0 &&
        prepare_begin(s->loop, s->conf, s->params, present, on_prepared, s, &s->prepare) < 0)
        r = qvd_error_set(&err, -ENOMEM, "cannot prepare the desktop: out of memory");
    if (r < 0) {
        fail(s, &err);
        session_event(s, NX_EV_FAILED);
    }
}

/* ---- the agent ---- */

static void on_dropped(void *arg, const char *name, const char *why)
{
    log_warning("session: client's option %s left out: %s", name, why);
}

static must_check int write_options(struct session *s, bool resumed, struct qvd_error *err)
{
    struct buf b;

    buf_init(&b, 8192);
    int r = options_write(s->conf, s->params, s->display, resumed, &b, on_dropped, s);
    if (r == 0)
        r = fs_mkdirs(OPTIONS_DIR, 0711);
    if (r == 0)
        r = fs_write_atomic(OPTIONS_FILE, b.data, b.len, 0644);
    buf_done(&b);
    return r < 0 ? qvd_error_errno(err, r, "cannot write " OPTIONS_FILE) : 0;
}

/* The agent's log, for those who look for its faults; begun anew when it is too long. */
static void keep_line(struct session *s, const char *line)
{
    _cleanup_(free_p) char *path = str_printf("%s/" LOG_NAME, conf_str(s->conf, "path.log"));

    if (path)
        line_log_put(&s->log, path, LOG_MAX, line);
}

static void on_line(void *owner, const char *line)
{
    struct session *s = owner;
    enum nx_event event = nx_event_of_line(line);

    keep_line(s, line);
    if (str_starts(line, "nxagentInitAndCheckVisuals: New visuals don't match"))
        log_warning("session: this client's display has another colour depth than the desktop, "
                    "which nxagent cannot show there; its windows are kept");
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
    if (event == NX_EV_UP) {
        s->stream_lost = false;
        if (!s->depth)
            s->depth = wanted_depth(s);
    }
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
    s->depth = 0;
    int r = write_options(s, false, &err);
    if (r == 0)
        r = agent_start(s->loop, s->conf, &s->user, s->params, s->display, OPTIONS_FILE, &agent_ops,
                        s, &s->agent, &err);
    if (r < 0) {
        fail(s, &err);
        session_event(s, NX_EV_FAILED);
        return;
    }
    save(s);
}

static void hup(struct session *s)
{
    s->hup_out = true;
    agent_signal(s->agent, SIGHUP);
}

/* nxagent looks for a HUP, then sleeps until an X client or a signal wakes it up: one that comes
 * in between (it has just written that it is suspended) would wait for the desktop's next clock
 * tick. A second HUP could end what the first has begun, and a CHLD kill it while it listens. */
static void on_nudge(void *arg)
{
    struct session *s = arg;

    if (s->state != NX_RESUMING)
        return;
    agent_nudge(s->display);
    ev_timer_arm(s->nudge, s->nudge_ms);
    s->nudge_ms *= 2;
}

static void nudge_soon(struct session *s)
{
    s->nudge_ms = NUDGE_MS;
    ev_timer_arm(s->nudge, s->nudge_ms);
}

static void wake(struct session *s)
{
    struct qvd_error err;

    /* With the old options the desktop still comes back. */
    if (write_options(s, true, &err) < 0)
        log_warning("%s, ignoring it", err.text);
    s->hup_out = s->stream_lost = false;
    agent_signal(s->agent, SIGHUP);
    nudge_soon(s);
}

/* A stream that has ended suspends the agent without us; a HUP then would wake it up. */
static void cut(struct session *s)
{
    int r = s->stream_lost ? 0 : agent_cut(s->display + 4000);

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
        return;
    }
    save(s);
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

/* ---- what an earlier monitor has left ---- */

/* The word of the port against a line that got lost between two monitors. */
static void on_adopted(void *arg)
{
    struct session *s = arg;
    enum agent_port port = agent_port(s->display + 4000);

    if ((is_shown(s->state) || s->state == NX_CUTTING || s->state == NX_SUSPENDING) &&
        port == AGENT_PORT_CLOSED)
        session_event(s, NX_EV_SUSPENDED);
}

static enum nx_state state_to_adopt(enum nx_state state)
{
    /* Hooks died with their monitor. */
    return state == NX_WAKING ? NX_SUSPENDED : state;
}

static must_check int adopt(struct session *s, struct session_saved *saved)
{
    struct qvd_error err;
    int r = agent_adopt(s->loop, s->conf, &saved->user, saved->params, s->display, &saved->agent,
                        &agent_ops, s, &s->agent, &err);

    if (r < 0) {
        log_warning("the desktop that ran here is lost: %s", err.text);
        return r;
    }
    session_set_params(s, TAKE_PTR(saved->params));
    s->user = saved->user;
    s->hup_out = saved->hup_out;
    s->stream_lost = saved->stream_lost;
    s->depth = saved->depth;
    s->invited = true; /* for all we know */
    s->state = state_to_adopt(saved->state);
    uint64_t ms = limit_ms(s, s->state);
    if (ms)
        ev_timer_arm(s->limit, ms);
    if (s->state == NX_RESUMING)
        nudge_soon(s);
    ev_timer_arm(s->adopted, ADOPTED_MS);
    log_info("session: adopted nxagent %d of user %s in state %s", (int)saved->agent.pid,
             s->user.name, nx_state_to_string(s->state));
    if (s->state == NX_STOPPING || s->state == NX_KILLING)
        agent_signal(s->agent, SIGTERM);
    if (is_shown(s->state) && !saved->agent.session_pid)
        login(s); /* its monitor died just before */
    return 0;
}

void session_adopt(struct session *s)
{
    struct session_saved saved = {0};
    int r = session_file_read(STATE_FILE, &saved);

    if (r < 0 && r != -ENOENT)
        log_warning(STATE_FILE ": %s, ignoring it", strerror(-r));
    if (r < 0 || !saved.agent.pid || saved.state == NX_STOPPED || saved.state == NX_PREPARING ||
        !saved.user.uid || adopt(s, &saved) < 0)
        agent_sweep();
    wire_params_free(saved.params);
}

int session_new(struct ev_loop *loop, const struct conf *conf, const struct session_ops *ops,
                void *owner, struct session **ret_session)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    *s = (struct session){
        .loop = loop, .conf = conf, .ops = ops, .owner = owner, .log = LINE_LOG_CLOSED};
    s->display = conf_int(conf, "vma.display");
    if (fs_mkdirs(conf_str(conf, "path.log"), 0755) < 0)
        log_warning("cannot make %s: the agent's log is not kept", conf_str(conf, "path.log"));
    ev_deferred_init(&s->bury, bury, s);
    for (int i = 0; i < STATE_HOOKS_MAX; i++)
        s->state_hooks[i].session = s;
    s->params = wire_params_new();
    if (!s->params || ev_timer_new(loop, on_limit, s, &s->limit) < 0 ||
        ev_timer_new(loop, on_nudge, s, &s->nudge) < 0 ||
        ev_timer_new(loop, on_adopted, s, &s->adopted) < 0) {
        session_free(s);
        return -ENOMEM;
    }
    *ret_session = s;
    return 0;
}

/* State hooks run on: nobody waits for them. */
static void forget(struct session *s)
{
    stop_preparing(s);
    for (int i = 0; i < STATE_HOOKS_MAX; i++)
        hook_forget(s->state_hooks[i].hook);
    ev_deferred_cancel(&s->bury);
    ev_timer_free(s->limit);
    ev_timer_free(s->nudge);
    ev_timer_free(s->adopted);
    wire_params_free(s->params);
    line_log_close(&s->log);
    free(s);
}

struct session *session_free(struct session *s)
{
    if (s) {
        agent_free(s->agent);
        forget(s);
    }
    return NULL;
}

struct session *session_leave(struct session *s)
{
    if (s) {
        agent_leave(s->agent);
        forget(s);
    }
    return NULL;
}
