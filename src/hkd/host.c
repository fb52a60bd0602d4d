// SPDX-License-Identifier: GPL-3.0-or-later
/* The node's own life, as one table of steps: its settings and row in the database, its network and
 * storage, adoption of what runs, running, the end. And its heartbeat. */
#include "hkd/hkd-internal.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/table.h"
#include "ev/service.h"
#include "model/node-life.h"
#include "store/config.h"
#include "store/host.h"

#define RETRY_MS 1000
/* A clock that is further off from the database's is worth a line. */
#define CLOCK_VALID_MS 500

struct host {
    char address[64]; /* of the node's row */
    struct hkd *d;
    enum life_step step;
    bool stop_vms; /* the VMs are stopped too */
    bool told_missing;
    int code; /* of the program */
    struct ev_timer *timer, *beat;
    struct db_request *request, *beating, *mending;
    bool clock_told, away;
    int64_t away_since, beat_ms;
};

static void enter_schema(struct host *h);
static void enter_settings(struct host *h);
static void enter_find(struct host *h);
static void enter_enter(struct host *h);
static void enter_node(struct host *h);
static void enter_adopt(struct host *h);
static void enter_run(struct host *h);
static void enter_stop_vms(struct host *h);
static void enter_tidy(struct host *h);
static void enter_leave(struct host *h);
static void reload(struct host *h);
static void kill_vms(struct host *h);
static void leave_loop(struct host *h);

static void (*const enter[LIFE_STEP_MAX])(struct host *h) = {
    [LIFE_SCHEMA] = enter_schema, [LIFE_SETTINGS] = enter_settings, [LIFE_FIND] = enter_find,
    [LIFE_ENTER] = enter_enter,   [LIFE_NODE] = enter_node,         [LIFE_ADOPT] = enter_adopt,
    [LIFE_RUN] = enter_run,       [LIFE_STOP_VMS] = enter_stop_vms, [LIFE_TIDY] = enter_tidy,
    [LIFE_LEAVE] = enter_leave,
};

/* The only place that assigns ->step. */
static void set_step(struct host *h, enum life_step step)
{
    db_cancel(h->request);
    h->request = NULL;
    h->step = step;
    if (life_limit_key(step))
        ev_timer_arm(h->timer, (uint64_t)conf_ms(h->d->conf, life_limit_key(step)));
    else
        ev_timer_disarm(h->timer);
    /* Last: it may go on to the next. */
    enter[step](h);
}

/* By the table of model/node-life.h. */
static void event(struct host *h, enum life_event e)
{
    const struct life_row *row = life_row(h->step, e);

    if (!row)
        return;
    /* With the cells of docs/vm-states.md: the tests count them. */
    log_debug("node: row %s | %s | %s", life_step_to_string(h->step), life_event_to_string(e),
              row->action == LIFE_DO_END ? "" : life_step_to_string(row->next));
    switch (row->action) {
    case LIFE_DO_ENTER:
        set_step(h, row->next);
        break;
    case LIFE_DO_RELOAD:
        reload(h);
        break;
    case LIFE_DO_KILL_VMS:
        kill_vms(h);
        break;
    case LIFE_DO_END:
    case LIFE_DO_MAX:
        leave_loop(h);
        break;
    }
}

static void on_timer(void *arg)
{
    struct host *h = arg;

    if (life_limit_key(h->step))
        log_warning("node: %s: time is over", life_step_to_string(h->step));
    if (h->step == LIFE_NODE)
        h->code = 1;
    event(h, life_limit_key(h->step) ? LIFE_EV_LIMIT : LIFE_EV_AGAIN);
}

static void again_later(struct host *h, const char *why)
{
    log_warning("trying again: %s", why);
    /* However long it takes: a service manager shall not think that it hangs. */
    if (h->step < LIFE_RUN)
        service_notify("READY=1\nSTATUS=waiting for the database");
    ev_timer_arm_jittered(h->timer, RETRY_MS, 20);
}

static bool db_failed(struct host *h, const char *what, const struct db_result *r)
{
    struct qvd_error err = {0};

    h->request = NULL;
    if (db_status(r) == DB_OK)
        return false;
    (void)db_fail(r, &err, what);
    again_later(h, err.text);
    return true;
}

/* Out of memory at asking: as if the database were away. */
static void asked(struct host *h, struct db_request *request)
{
    h->request = request;
    if (!request)
        ev_timer_arm_jittered(h->timer, RETRY_MS, 20);
}

static void on_schema(void *arg, int r, const struct qvd_error *err)
{
    struct host *h = arg;

    h->request = NULL;
    if (r == -EPROTO) {
        log_error("%s", err->text);
        h->code = 1;
        event(h, LIFE_EV_REFUSED);
    } else if (r < 0) {
        again_later(h, err->text);
    } else {
        event(h, LIFE_EV_DONE);
    }
}

static void enter_schema(struct host *h)
{
    asked(h, store_schema_check(h->d->db, on_schema, h));
}

static void on_settings(void *arg, int r, const struct qvd_error *err)
{
    struct host *h = arg;

    h->request = NULL;
    if (r < 0) {
        again_later(h, err->text);
        return;
    }
    line_look(h->d->line);
    /* Times that the rows are compared with may be others now. */
    if (h->step == LIFE_RUN)
        orders_sweep(h->d->orders, NULL, NULL);
    event(h, LIFE_EV_DONE);
}

static void enter_settings(struct host *h)
{
    asked(h, store_config_load(h->d->db, h->d->conf, on_settings, h));
}

/* One more while one is under way: it is the later that counts. */
static void reload(struct host *h)
{
    db_cancel(h->request);
    asked(h, store_config_load(h->d->db, h->d->conf, on_settings, h));
}

static void on_config_changed(void *arg, const char *channel, const char *payload)
{
    struct host *h = arg;

    /* Before that its own step reads them. */
    if (h->step == LIFE_RUN)
        reload(h);
}

static void on_found(void *arg, const struct db_result *r)
{
    struct host *h = arg;
    const char *name = conf_str(h->d->conf, "nodename");
    struct store_host host;

    if (db_failed(h, "the node's row", r))
        return;
    if (!store_host_read(r, &host)) {
        if (!h->told_missing)
            log_warning("no node named %s is known; add it: qa host add name=%s address=ADDRESS "
                        "(waiting)",
                        name, name);
        h->told_missing = true;
        /* All that it can do by itself is done; somebody may wait for that to add the row. */
        service_notify("READY=1\nSTATUS=waiting for the node's row (qa host add)");
        /* The notification of "hosts" comes first; this is for a lost one. */
        ev_timer_arm_jittered(h->timer, (uint64_t)conf_ms(h->d->conf, "hkd.sweep.interval"), 20);
        return;
    }
    h->d->host_id = host.id;
    memcpy(h->address, host.address, sizeof h->address);
    log_info("node %s is host %lld, %s", name, (long long)host.id, host.address);
    event(h, LIFE_EV_DONE);
}

static void enter_find(struct host *h)
{
    asked(h, store_host_find(h->d->db, conf_str(h->d->conf, "nodename"), on_found, h));
}

static void on_hosts_changed(void *arg, const char *channel, const char *payload)
{
    struct host *h = arg;

    if (h->step == LIFE_FIND && !h->request)
        event(h, LIFE_EV_AGAIN);
}

static void on_entered(void *arg, const struct db_result *r)
{
    struct host *h = arg;

    if (db_failed(h, "state starting", r))
        return;
    if (db_rows(r) == 0) {
        event(h, LIFE_EV_REFUSED); /* deleted meanwhile */
        return;
    }
    if (orders_listen(h->d->orders) < 0) {
        ev_timer_arm_jittered(h->timer, RETRY_MS, 20);
        return;
    }
    ev_timer_arm(h->beat, 0);
    event(h, LIFE_EV_DONE);
}

static void enter_enter(struct host *h)
{
    asked(h, store_host_enter(h->d->db, h->d->host_id, (int)getpid(), on_entered, h));
}

static void node_log(void *arg, const char *text)
{
    log_warning("%s", text);
}

static void on_node(void *arg, int result, const struct qvd_error *err)
{
    struct host *h = arg;

    if (h->step != LIFE_NODE && h->step != LIFE_TIDY)
        return;
    if (result < 0) {
        log_error("the node cannot work: %s", err->text);
        h->code = 1;
    }
    event(h, result < 0 ? LIFE_EV_REFUSED : LIFE_EV_DONE);
}

static void enter_node(struct host *h)
{
    struct hkd *d = h->d;
    struct node_settings settings;
    struct qvd_error err = {0};
    int r;

    node_settings_from_conf(d->conf, &settings);
    if (conf_bool(d->conf, "internal.hkd.address_check.enabled"))
        settings.address = h->address;
    r = node_new(d->loop, &settings, node_log, h, &d->node, &err);
    if (r == 0) {
        log_info("containers are limited by %s, their roots made writable by %s",
                 node_cgroup_text(d->node), conf_str(d->conf, "vm.lxc.unionfs.type"));
        r = node_start(d->node, on_node, h, &err);
    }
    if (r < 0)
        on_node(h, r, &err);
}

static void on_adopted(void *arg)
{
    struct host *h = arg;

    if (h->step == LIFE_ADOPT)
        event(h, LIFE_EV_DONE);
}

static void enter_adopt(struct host *h)
{
    orders_sweep(h->d->orders, on_adopted, h);
}

static void on_mended(void *arg, const struct db_result *r)
{
    struct host *h = arg;

    h->mending = NULL; /* the next beat's answer tells whether it was */
}

static void show(struct host *h)
{
    if (!h->mending)
        h->mending =
            store_host_set_state(h->d->db, h->d->host_id, life_shown(h->step), on_mended, h);
}

static void enter_run(struct host *h)
{
    log_info("node %s runs with %zu VMs", conf_str(h->d->conf, "nodename"), map_count(h->d->vms));
    show(h);
    line_look(h->d->line);
    orders_run(h->d->orders);
    service_notify("READY=1\nSTATUS=running");
}

/* VMs leave the map later, so that the walk may go on. */
static void all_vms(struct host *h, enum vm_event e, const char *why)
{
    size_t at = 0;
    struct vm *vm;

    while ((vm = map_next(h->d->vms, &at, NULL)))
        vm_event(vm, e, "%s", why);
}

static void enter_stop_vms(struct host *h)
{
    service_notify("STOPPING=1");
    show(h);
    if (!h->stop_vms && map_count(h->d->vms)) {
        log_info("%zu VMs run on", map_count(h->d->vms));
        event(h, LIFE_EV_REFUSED);
        return;
    }
    all_vms(h, VM_EV_STOP, "the node stops");
    host_vm_gone(h);
}

static void kill_vms(struct host *h)
{
    log_warning("%zu VMs have not stopped in time: killed", map_count(h->d->vms));
    ev_timer_arm(h->timer, (uint64_t)conf_ms(h->d->conf, "hkd.vm.kill.timeout"));
    all_vms(h, VM_EV_ABORT, "the node stops");
}

void host_vm_gone(struct host *h)
{
    if (h && h->step == LIFE_STOP_VMS && map_count(h->d->vms) == 0)
        event(h, LIFE_EV_DONE);
}

static void enter_tidy(struct host *h)
{
    struct qvd_error err = {0};
    int r = node_stop(h->d->node, on_node, h, &err);

    if (r < 0)
        on_node(h, r, &err);
}

static void on_left(void *arg, const struct db_result *r)
{
    struct host *h = arg;

    h->request = NULL;
    event(h, LIFE_EV_DONE);
}

/* Behind all that was sent before on the one connection. */
static void enter_leave(struct host *h)
{
    ev_timer_disarm(h->beat);
    db_cancel(h->beating);
    h->beating = NULL;
    h->request = store_host_set_state(h->d->db, h->d->host_id, HOST_STOPPED, on_left, h);
}

static void leave_loop(struct host *h)
{
    ev_loop_stop(h->d->loop, h->code);
}

void host_stop(struct host *h, bool vms)
{
    h->stop_vms = h->stop_vms || vms || conf_bool(h->d->conf, "hkd.stop.vms");
    event(h, LIFE_EV_STOP);
}

bool host_runs(const struct host *h)
{
    return h->step == LIFE_RUN;
}

bool host_stops_vms(const struct host *h)
{
    return h->step == LIFE_STOP_VMS;
}

/* The beat
 * ----------------------------------------------------------------------------------------- */

static void look_at_clock(struct host *h, double diff)
{
    bool off = fabs(diff) * 1000 > (double)conf_ms(h->d->conf, "hkd.clock.difference");

    if (off && !h->clock_told)
        log_warning("this node's clock differs from the database's by %.1f s; set it (NTP)", diff);
    h->clock_told = off;
}

static void on_beat(void *arg, const struct db_result *r)
{
    struct host *h = arg;
    struct store_beat_answer a;

    h->beating = NULL;
    if (db_status(r) != DB_OK) {
        if (!h->away)
            log_warning("heartbeat: %s", db_error(r));
        return;
    }
    if (!store_host_read_beat(r, &a)) {
        log_error("host %lld is no more: somebody has deleted this node", (long long)h->d->host_id);
        h->code = 1;
        leave_loop(h);
        return;
    }
    /* One that had to wait tells nothing about clocks. */
    if (clock_ms() - h->beat_ms < CLOCK_VALID_MS)
        look_at_clock(h, a.clock_diff);
    /* Also what could not be told while the database was away. */
    if (a.state != life_shown(h->step) && life_shown(h->step) != HOST_STATE_INVALID)
        show(h);
}

static void beat(void *arg)
{
    struct host *h = arg;
    struct node_load load = {0};
    struct store_beat b = {.pid = (int)getpid()};

    ev_timer_arm(h->beat, (uint64_t)conf_ms(h->d->conf, "hkd.heartbeat.interval"));
    if (h->beating)
        return;
    if (h->d->node && node_load_read(h->d->node, &load) < 0)
        log_debug("the node's load cannot be read");
    b.usable_ram = load.usable_ram_mb;
    b.usable_cpu = load.usable_cpu;
    b.free_ram = load.free_ram;
    b.free_cpu = load.free_cpu;
    b.wall_us = clock_wall_us();
    h->beat_ms = clock_ms();
    h->beating = store_host_beat(h->d->db, h->d->host_id, &b, on_beat, h);
}

void host_db_changed(struct host *h, bool up)
{
    size_t at = 0;
    struct vm *vm;

    if (up == !h->away)
        return;
    h->away = !up;
    if (!up) {
        h->away_since = clock_ms();
        log_warning("the database is away: VMs run on, orders wait");
        return;
    }
    log_info("the database is back after %.1f s", (double)(clock_ms() - h->away_since) / 1000);
    while ((vm = map_next(h->d->vms, &at, NULL)))
        if (vm->untold && !vm->lost)
            vm_row_resend(vm);
    if (life_shown(h->step) != HOST_STATE_INVALID)
        ev_timer_arm(h->beat, 0);
    if (h->step == LIFE_RUN)
        orders_sweep(h->d->orders, NULL, NULL);
}

void host_listening(struct host *h)
{
    /* Whatever was notified before was not heard. */
    if (h->step == LIFE_RUN) {
        orders_run(h->d->orders);
        on_config_changed(h, NULL, NULL);
    } else if (h->step == LIFE_FIND) {
        on_hosts_changed(h, NULL, NULL);
    }
}

int host_new(struct hkd *d, struct host **ret_host)
{
    struct host *h = calloc(1, sizeof *h);

    if (!h)
        return -ENOMEM;
    h->d = d;
    if (ev_timer_new(d->loop, on_timer, h, &h->timer) < 0 ||
        ev_timer_new(d->loop, beat, h, &h->beat) < 0 ||
        db_listen(d->db, "hosts", on_hosts_changed, h) < 0 ||
        db_listen(d->db, "config", on_config_changed, h) < 0) {
        host_free(h);
        return -ENOMEM;
    }
    *ret_host = h;
    return 0;
}

void host_begin(struct host *h)
{
    set_step(h, LIFE_SCHEMA);
}

struct host *host_free(struct host *h)
{
    if (!h)
        return NULL;
    db_cancel(h->request);
    db_cancel(h->beating);
    db_cancel(h->mending);
    ev_timer_free(h->timer);
    ev_timer_free(h->beat);
    free(h);
    return NULL;
}
