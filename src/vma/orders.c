// SPDX-License-Identifier: GPL-3.0-or-later
/* The queue of orders: serials, repeats, overtaking; each order's way to its result. */
#include "vma/orders.h"

#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "ev/child.h"
#include "vma/hook.h"

/* Fresh agents that one x_start may use up: one may end because a former dial was given up. */
#define TRIES_MAX 4
#define WAITING_MAX 64
#define POWEROFF_MS 20000
/* For the answer to a poweroff to leave, should the listener not say so. */
#define ANSWER_MS 1000
/* An expire hook may wait for the person; the asker does not wait with it. */
#define EXPIRE_ANSWER_MS 2000
#define INIT "/sbin/init"
/* The last serial and what of it was done: a later monitor refuses what this one has refused. */
#define SERIAL_FILE QVD_RUNDIR "/vma/serial"

struct waiting {
    struct list node;
    uint64_t id;
};

/* One order of the present serial. */
struct task {
    bool known, done;
    unsigned status; /* when done */
    char text[WIRE_VMA_TEXT_MAX + 1];
    struct list waiting;
    struct wire_params *params;
    int tries;
    bool hooked; /* its action hook has run */
    struct hook *hook;
    struct orders *orders;
};

struct orders {
    struct ev_loop *loop;
    const struct conf *conf;
    const struct orders_ops *ops;
    void *owner;
    struct session *session;
    uint64_t last;
    struct task tasks[WIRE_VMA_FUNCTION_MAX]; /* all of serial `last` */
    enum wire_vma_function current;           /* the one about the desktop under way, or INVALID */
    struct hook *expire;                      /* runs on over later orders; one at a time */
    struct ev_timer *expire_answer;
    struct ev_command *poweroff;
    struct ev_timer *power_off;
    uint64_t last_answer; /* the order whose answer is waited for before the system goes down */
    bool ending;          /* the system goes down: nothing new is begun */
    struct ev_deferred drive;
};

enum orders_serial orders_serial(uint64_t last, uint64_t serial)
{
    return serial > last ? SERIAL_NEW : serial == last ? SERIAL_SAME : SERIAL_OLD;
}

struct session *orders_session(struct orders *o)
{
    return o->session;
}

static void answer(struct orders *o, uint64_t id, unsigned status, const char *text)
{
    const struct vma_result result = {.id = id,
                                      .status = status,
                                      .state = nx_to_x_state(session_state(o->session)),
                                      .text = text};

    o->ops->result(o->owner, &result);
}

static bool about_desktop(enum wire_vma_function f)
{
    return f == WIRE_VMA_X_START || f == WIRE_VMA_X_SUSPEND || f == WIRE_VMA_X_STOP ||
           f == WIRE_VMA_POWEROFF;
}

static void task_clear(struct task *t)
{
    QVD_LIST_FOREACH (w, &t->waiting, struct waiting, node) {
        list_remove(&w->node);
        free(w);
    }
    t->hook = hook_cancel(t->hook);
    t->params = wire_params_free(t->params);
    t->known = t->done = t->hooked = false;
    t->tries = 0;
}

static void save_serial(const struct orders *o)
{
    unsigned long done = 0;
    char text[64];
    int r = fs_mkdirs(QVD_RUNDIR "/vma", 0711);

    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++)
        if (o->tasks[i].done && o->tasks[i].status == 200)
            done |= 1UL << i;
    snprintf(text, sizeof text, "%llu %lu\n", (unsigned long long)o->last, done);
    if (r == 0)
        r = fs_write_atomic(SERIAL_FILE, text, strlen(text), 0600);
    if (r < 0)
        log_warning(SERIAL_FILE ": %s", strerror(-r));
}

static void load_serial(struct orders *o)
{
    _cleanup_(free_p) char *text = NULL;
    uint64_t last, done;
    size_t len;

    if (fs_read(SERIAL_FILE, 64, &text, &len) < 0)
        return;
    char *blank = strchr(text, ' ');
    if (!blank)
        return;
    *blank = '\0';
    if (str_to_u64(text, UINT64_MAX, &last) < 0 ||
        str_to_u64(str_trim(blank + 1), UINT64_MAX, &done) < 0)
        return;
    o->last = last;
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++)
        if (done & (1UL << i)) {
            o->tasks[i].known = o->tasks[i].done = true;
            o->tasks[i].status = 200;
        }
    log_info("orders up to %llu are known from before", (unsigned long long)last);
}

static void finish(struct orders *o, enum wire_vma_function f, unsigned status, const char *text)
{
    struct task *t = &o->tasks[f];

    if (o->current == f)
        o->current = WIRE_VMA_FUNCTION_INVALID;
    t->hook = hook_cancel(t->hook);
    t->done = true;
    t->status = status;
    (void)!snprintf(t->text, sizeof t->text, "%s", text);
    save_serial(o);
    if (status != 200)
        log_warning("%s %llu: %u %s", wire_vma_function_to_string(f), (unsigned long long)o->last,
                    status, text);
    QVD_LIST_FOREACH (w, &t->waiting, struct waiting, node) {
        answer(o, w->id, status, text);
        list_remove(&w->node);
        free(w);
    }
}

static void on_hook(void *arg, const struct qvd_error *err)
{
    struct task *t = arg;
    struct orders *o = t->orders;
    enum wire_vma_function f = t - o->tasks;

    t->hook = NULL;
    t->hooked = true;
    if (err->code)
        finish(o, f, 503, err->text);
    else
        ev_defer(o->loop, &o->drive);
}

/* true: the order's action hook has run, or there is none. */
static bool hook_first(struct orders *o, enum wire_vma_function f, const char *name)
{
    struct task *t = &o->tasks[f];
    struct qvd_error err;
    char key[64];

    if (t->hooked)
        return true;
    if (t->hook)
        return false;
    const struct hook_spec spec = {.key = key,
                                   .state = nx_to_x_state(session_state(o->session)),
                                   .name = "qvd.hook.on_action",
                                   .value = name};
    (void)!snprintf(key, sizeof key, "vma.on_action.%s", name);
    int r = hook_run(o->loop, o->conf, &spec, on_hook, t, &t->hook, &err);
    if (r < 0) {
        finish(o, f, 503, err.text);
        return false;
    }
    t->hooked = r > 0;
    return t->hooked;
}

static void drive_start(struct orders *o)
{
    struct task *t = &o->tasks[WIRE_VMA_X_START];
    enum nx_state state = session_state(o->session);

    if (state == NX_LISTENING || state == NX_RELISTENING) {
        /* Not free: a former dial is on its way through the agent, whose next line will tell. */
        if (session_invite(o->session))
            finish(o, WIRE_VMA_X_START, 200, "");
        return;
    }
    if (state == NX_STOPPED || state == NX_SUSPENDED) {
        if (++t->tries > TRIES_MAX) {
            finish(o, WIRE_VMA_X_START, 503, "the desktop ended several times while it started");
            return;
        }
        struct wire_params *params = wire_params_new();
        for (size_t i = 0; params && i < wire_params_count(t->params); i++)
            if (wire_params_set(params, wire_params_name(t->params, i),
                                wire_params_value(t->params, i)) < 0)
                params = wire_params_free(params);
        if (!params) {
            finish(o, WIRE_VMA_X_START, 503, "out of memory");
            return;
        }
        session_set_params(o->session, params);
    }
    session_event(o->session, NX_EV_START);
}

static void drive_suspend(struct orders *o)
{
    enum nx_state state = session_state(o->session);

    if (!hook_first(o, WIRE_VMA_X_SUSPEND, "suspend"))
        return;
    if (state == NX_SUSPENDED || state == NX_STOPPED)
        finish(o, WIRE_VMA_X_SUSPEND, 200, "");
    else
        session_event(o->session, NX_EV_CUT);
}

static void drive_stop(struct orders *o)
{
    if (!hook_first(o, WIRE_VMA_X_STOP, "stop"))
        return;
    if (session_state(o->session) == NX_STOPPED)
        finish(o, WIRE_VMA_X_STOP, 200, "");
    else
        session_event(o->session, NX_EV_END);
}

static void on_poweroff(void *arg, const struct ev_command_result *result)
{
    struct orders *o = arg;
    char status[32];

    o->poweroff = NULL;
    if (result->status == 0)
        return;
    log_error("init 0 failed (%s): %.200s",
              ev_child_status_text(result->status, status, sizeof status), result->errors);
    o->ending = false;
}

static void power_off(void *arg)
{
    /* Both sysvinit and systemd know this one. */
    static const char *const argv[] = {INIT, "0", NULL};
    struct orders *o = arg;
    struct qvd_error err;

    if (ev_command_run(o->loop, argv, NULL, 0, 1024, POWEROFF_MS, on_poweroff, o, &o->poweroff,
                       &err) < 0) {
        log_error("%s", err.text);
        o->ending = false;
    }
}

static uint64_t first_waiting(const struct task *t)
{
    return list_empty(&t->waiting) ? 0 : QVD_CONTAINER(t->waiting.next, struct waiting, node)->id;
}

/* init ends us as one of the first, so the answer goes out before it is told. */
static void drive_poweroff(struct orders *o)
{
    if (!hook_first(o, WIRE_VMA_POWEROFF, "poweroff"))
        return;
    if (access(INIT, X_OK) < 0) {
        finish(o, WIRE_VMA_POWEROFF, 503, "the system has no " INIT);
        return;
    }
    o->ending = true;
    o->last_answer = first_waiting(&o->tasks[WIRE_VMA_POWEROFF]);
    finish(o, WIRE_VMA_POWEROFF, 200, "");
    ev_timer_arm(o->power_off, ANSWER_MS);
}

void orders_sent(struct orders *o, uint64_t id)
{
    if (o->last_answer == id && ev_timer_armed(o->power_off))
        ev_timer_arm(o->power_off, 0);
}

/* ---- expire: its hook asks the person, so it outlives orders and their answers ---- */

static bool expire_waits(const struct orders *o)
{
    return o->tasks[WIRE_VMA_EXPIRE].known && !o->tasks[WIRE_VMA_EXPIRE].done;
}

static void on_expire_answer(void *arg)
{
    struct orders *o = arg;

    if (expire_waits(o))
        finish(o, WIRE_VMA_EXPIRE, 200, "");
}

static void on_expire_hook(void *arg, const struct qvd_error *err)
{
    struct orders *o = arg;

    o->expire = NULL;
    ev_timer_disarm(o->expire_answer);
    if (expire_waits(o))
        finish(o, WIRE_VMA_EXPIRE, err->code ? 503 : 200, err->code ? err->text : "");
}

/* The reference's names, with and without "qvd.". */
static must_check int expire_params(const struct wire_params *given, struct wire_params *ret)
{
    static const char *const names[] = {"vm.expiration.soft", "vm.expiration.hard"};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
        char full[64];
        snprintf(full, sizeof full, "qvd.%s", names[i]);
        const char *value = wire_params_get(given, full);
        if (!value)
            value = wire_params_get(given, names[i]);
        r = value ? wire_params_set(ret, names[i], value) : 0;
    }
    return r;
}

static void drive_expire(struct orders *o)
{
    _cleanup_(wire_params_free_p) struct wire_params *params = wire_params_new();
    const struct hook_spec spec = {.key = "vma.on_action.expire",
                                   .params = params,
                                   .state = nx_to_x_state(session_state(o->session)),
                                   .name = "qvd.hook.on_action",
                                   .value = "expire",
                                   .limit = "vma.hook.expire.timeout",
                                   .stays = true};
    struct qvd_error err;

    if (!expire_waits(o) || ev_timer_armed(o->expire_answer))
        return;
    if (o->expire) { /* the person has not answered the last one yet */
        finish(o, WIRE_VMA_EXPIRE, 200, "");
        return;
    }
    int r = params ? expire_params(o->tasks[WIRE_VMA_EXPIRE].params, params) : -ENOMEM;
    if (r == 0)
        r = hook_run(o->loop, o->conf, &spec, on_expire_hook, o, &o->expire, &err);
    else
        r = qvd_error_errno(&err, r, "hook vma.on_action.expire");
    if (r < 0)
        finish(o, WIRE_VMA_EXPIRE, 503, err.text);
    else if (r > 0)
        finish(o, WIRE_VMA_EXPIRE, 200, "");
    else
        ev_timer_arm(o->expire_answer, EXPIRE_ANSWER_MS);
}

static void drive(void *arg)
{
    struct orders *o = arg;

    switch (o->current) {
    case WIRE_VMA_X_START:
        drive_start(o);
        break;
    case WIRE_VMA_X_SUSPEND:
        drive_suspend(o);
        break;
    case WIRE_VMA_X_STOP:
        drive_stop(o);
        break;
    case WIRE_VMA_POWEROFF:
        drive_poweroff(o);
        break;
    default:
        break;
    }
    drive_expire(o);
}

static void on_changed(void *owner)
{
    struct orders *o = owner;

    ev_defer(o->loop, &o->drive);
}

static void on_failed(void *owner, const struct qvd_error *err)
{
    struct orders *o = owner;

    if (o->current == WIRE_VMA_X_START)
        finish(o, WIRE_VMA_X_START, err->code == -EPERM ? 403 : 503, err->text);
}

static const struct session_ops session_ops = {.changed = on_changed, .failed = on_failed};

static void overtake(struct orders *o)
{
    if (o->current != WIRE_VMA_FUNCTION_INVALID && o->current != WIRE_VMA_POWEROFF)
        finish(o, o->current, 409, "overtaken by a later order");
}

/* Whoever waits for the former serial's orders will hear no more of them. */
static void new_serial(struct orders *o, uint64_t serial, enum wire_vma_function f)
{
    if (about_desktop(f) || f == WIRE_VMA_X_RESET)
        overtake(o);
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++) {
        /* An x_start goes on while an expire hook runs; its task stays until it is done. */
        if ((int)o->current == i)
            continue;
        if (o->tasks[i].known && !o->tasks[i].done)
            finish(o, i, 409, "overtaken by a later order");
        task_clear(&o->tasks[i]);
    }
    ev_timer_disarm(o->expire_answer);
    o->last = serial;
    save_serial(o);
}

static void begin(struct orders *o, enum wire_vma_function f, struct wire_params *params)
{
    struct task *t = &o->tasks[f];

    t->known = true;
    t->params = params;
    log_info("%s %llu: begun in state %s", wire_vma_function_to_string(f),
             (unsigned long long)o->last, nx_state_to_string(session_state(o->session)));
    if (f == WIRE_VMA_X_RESET) {
        overtake(o);
        session_event(o->session, NX_EV_RESET);
        finish(o, f, 200, "");
        return;
    }
    if (o->ending || o->current == WIRE_VMA_POWEROFF) {
        finish(o, f, 503, "the desktop's system is shutting down");
        return;
    }
    if (about_desktop(f)) {
        overtake(o);
        o->current = f;
    }
    ev_defer(o->loop, &o->drive);
}

static bool enqueue(struct task *t, uint64_t id)
{
    size_t n = 0;

    QVD_LIST_FOREACH (w, &t->waiting, struct waiting, node)
        n++;
    struct waiting *w = n < WAITING_MAX ? calloc(1, sizeof *w) : NULL;
    if (!w)
        return false;
    w->id = id;
    list_init(&w->node);
    list_append(&t->waiting, &w->node);
    return true;
}

void orders_take(struct orders *o, uint64_t id, enum wire_vma_function f, uint64_t serial,
                 struct wire_params *params)
{
    _cleanup_(wire_params_free_p) struct wire_params *mine = params;
    struct task *t = &o->tasks[f];

    if (!wire_vma_is_order(f)) {
        answer(o, id, 200, "");
        return;
    }
    enum orders_serial kind = orders_serial(o->last, serial);
    if (kind == SERIAL_OLD) {
        log_warning("%s %llu refused: the last order was %llu", wire_vma_function_to_string(f),
                    (unsigned long long)serial, (unsigned long long)o->last);
        answer(o, id, 409, "a later order was obeyed already");
        return;
    }
    if (kind == SERIAL_NEW)
        new_serial(o, serial, f);
    if (t->known && t->done) {
        answer(o, id, t->status, t->text);
        return;
    }
    if (!enqueue(t, id)) {
        answer(o, id, 503, "too many wait for this order");
        return;
    }
    if (!t->known)
        begin(o, f, TAKE_PTR(mine));
}

void orders_forget_waiting(struct orders *o)
{
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++)
        QVD_LIST_FOREACH (w, &o->tasks[i].waiting, struct waiting, node) {
            list_remove(&w->node);
            free(w);
        }
}

int orders_new(struct ev_loop *loop, const struct conf *conf, const struct orders_ops *ops,
               void *owner, struct orders **ret_orders)
{
    struct orders *o = calloc(1, sizeof *o);

    if (!o)
        return -ENOMEM;
    *o = (struct orders){.loop = loop,
                         .conf = conf,
                         .ops = ops,
                         .owner = owner,
                         .current = WIRE_VMA_FUNCTION_INVALID};
    ev_deferred_init(&o->drive, drive, o);
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++) {
        list_init(&o->tasks[i].waiting);
        o->tasks[i].orders = o;
    }
    int r = ev_timer_new(loop, power_off, o, &o->power_off);
    if (r == 0)
        r = ev_timer_new(loop, on_expire_answer, o, &o->expire_answer);
    if (r == 0)
        r = session_new(loop, conf, &session_ops, o, &o->session);
    if (r < 0) {
        orders_free(o);
        return r;
    }
    load_serial(o);
    session_adopt(o->session);
    *ret_orders = o;
    return 0;
}

static void forget(struct orders *o)
{
    ev_deferred_cancel(&o->drive);
    ev_command_cancel(o->poweroff);
    hook_forget(o->expire);
    ev_timer_free(o->power_off);
    ev_timer_free(o->expire_answer);
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++)
        task_clear(&o->tasks[i]);
    free(o);
}

struct orders *orders_free(struct orders *o)
{
    if (o) {
        session_free(o->session);
        forget(o);
    }
    return NULL;
}

struct orders *orders_leave(struct orders *o)
{
    if (o) {
        session_leave(o->session);
        forget(o);
    }
    return NULL;
}
