// SPDX-License-Identifier: GPL-3.0-or-later
/* A VM's row: orders are taken from it, states told to it. The state here goes on whether or not
 * the database can be reached; what could not be told is told, as it then is, when it can. */
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"
#include "store/store.h"

/* How long until what the database did not take is sent again, when nothing tells us earlier. */
#define RETRY_MS 1000

static bool away(const struct db_result *r)
{
    enum db_status s = db_status(r);

    return s == DB_GONE || s == DB_FULL || s == DB_TIMEOUT || s == DB_CONFLICT;
}

static void complain(const struct vm *vm, const char *what, const struct db_result *r)
{
    if (away(r))
        log_debug("[vm:%lld] %s: %s", (long long)vm->id, what, db_error(r));
    else
        log_error("[vm:%lld] %s: %s", (long long)vm->id, what, db_error(r));
}

static void forget(struct vm *vm)
{
    struct host *h = vm->d->host;

    vm_free(vm);
    host_vm_gone(h);
}

/* An order is on its row: the VM is what it says. */
static void begin(struct vm *vm)
{
    struct store_vm_start *s = &vm->start;

    vm->has_vma = strcmp(s->hypervisor, "nothing") != 0;
    vm->has_secret = true;
    memcpy(vm->ip, s->ip, sizeof vm->ip);
    store_tell_api_later(vm->d->db, "vm", vm->id);
    if (vm->retakes) {
        vm_event(vm, VM_EV_GONE, "was not launched before the restart");
    } else {
        vm_event(vm, VM_EV_START, "ordered");
    }
    if (host_stops_vms(vm->d->host))
        vm_event(vm, VM_EV_STOP, "the node stops");
    else if (!s->di_id)
        vm_event(vm, VM_EV_STOP, "no published image of its OSF has the tag %s", s->tag);
}

static void on_taken(void *arg, const struct db_result *r)
{
    struct vm *vm = arg;
    struct qvd_error err = {0};
    int n;

    vm->taking = NULL;
    if (db_status(r) != DB_OK) {
        /* Whether or not it was taken: the sweep finds the row. */
        complain(vm, "taking an order", r);
        orders_sweep_soon(vm->d->orders);
        forget(vm);
        return;
    }
    n = store_vm_read_start(r, &vm->start, &err);
    if (n == 0 && vm->look_again && !vm->retakes) {
        vm->look_again = false;
        vm_row_take_start(vm, false);
    } else if (n == 0) {
        forget(vm);
    } else if (n < 0) {
        vm_event(vm, vm->retakes ? VM_EV_GONE : VM_EV_START, "ordered");
        vm_event(vm, VM_EV_FAILED, "%s", err.text);
    } else {
        begin(vm);
        if (vm->look_again && vm->state != VM_STOPPED) {
            vm->look_again = false;
            vm_row_look(vm);
        }
    }
}

void vm_row_take_start(struct vm *vm, bool retake)
{
    struct hkd *d = vm->d;
    struct store_vm_ports ports = {(unsigned)conf_int(d->conf, "vm.port.vma"),
                                   (unsigned)conf_int(d->conf, "vm.port.x"), 22};

    if (random_bytes(vm->secret, sizeof vm->secret) < 0) {
        log_error("[vm:%lld] no random bytes for its key", (long long)vm->id);
        forget(vm);
        return;
    }
    vm->retakes = retake;
    vm->taking = (retake ? store_vm_retake_start : store_vm_take_start)(
        d->db, d->host_id, vm->id, &ports, vm->secret, on_taken, vm);
    if (!vm->taking)
        forget(vm);
}

static void on_seen(void *arg, const struct db_result *r)
{
    struct vm *vm = arg;
    struct store_vm_seen seen;

    vm->stopping = NULL;
    if (db_status(r) != DB_OK) {
        complain(vm, "looking for an order", r);
        orders_sweep_soon(vm->d->orders);
        return;
    }
    if (!store_vm_read_look(r, &seen))
        seen = (struct store_vm_seen){.wish = STORE_VM_STAYS};
    if (seen.wish != STORE_VM_STAYS)
        vm->stop_serial = seen.stop_serial;
    switch (seen.wish) {
    case STORE_VM_ORDERED:
        vm_event(vm, VM_EV_STOP, "ordered");
        return;
    case STORE_VM_EXPIRED:
        if (seen.due.hard[0])
            vm_event(vm, VM_EV_STOP, "its hard expiration was %s", seen.due.hard);
        else
            vm_event(vm, VM_EV_STOP, "its restart had begun");
        return;
    case STORE_VM_IDLE:
        vm_event(vm, VM_EV_STOP, "its user has stayed away");
        return;
    case STORE_VM_STAYS:
        break;
    }
    if (seen.due.serial)
        due_expire(vm, &seen.due);
    if (db_rows(r))
        due_set(vm, &seen.due);
    if (vm->look_again) {
        vm->look_again = false;
        vm_row_look(vm);
    }
}

void vm_row_look(struct vm *vm)
{
    if (vm->state == VM_STOPPED || vm->taking || vm->stopping) {
        vm->look_again = true;
        return;
    }
    if (!vm->lost) {
        const struct conf *c = vm->d->conf;
        struct store_vm_rules rules = {
            .idle_minutes = due_idle_minutes(vm->d),
            .restart = strcmp(conf_str(c, "hkd.vm.expire.hard.action"), "restart") == 0,
        };

        vm->stopping = store_vm_look(vm->d->db, vm->d->host_id, vm->id, &rules, on_seen, vm);
    }
}

/* The run is over and the row knows it. */
static void over(struct vm *vm, bool look)
{
    struct hkd *d = vm->d;
    int64_t id = vm->id;
    unsigned early_reboots = vm->reboots ? vm->early_reboots : 0;
    struct vm *next;

    vm_free(vm);
    if (look && host_runs(d->host)) {
        next = vm_new(d, id);
        if (next) {
            next->early_reboots = early_reboots;
            vm_row_take_start(next, false);
        }
    }
    host_vm_gone(d->host);
}

static void on_told(void *arg, const struct db_result *r)
{
    struct vm *vm = arg;
    int64_t instance = 0;
    enum vm_cmd order = VM_CMD_NONE;
    bool found;

    vm->telling = NULL;
    if (db_status(r) != DB_OK) {
        complain(vm, "telling its state", r);
        vm->untold = true;
        ev_timer_arm_jittered(vm->retry, away(r) ? RETRY_MS : 10 * RETRY_MS, 20);
        return;
    }
    found = store_vm_read_told(r, &instance, &order);
    if (found && vm->told == VM_STARTING_2) /* a session waits for its VM to run or to end */
        store_tell_api_later(vm->d->db, "vm", vm->id);
    else if (found)
        store_vm_notify(vm->d->db, vm->id, instance);
    if (vm->told == VM_STOPPED) {
        /* No row: it was told before, or is not ours; an order may wait in both cases. */
        over(vm, !found || order == VM_CMD_START || vm->look_again);
        return;
    }
    if (!found) {
        vm_disown(vm, "not this node's any more");
        return;
    }
    vm->alive = false;
    if (vm->told == VM_RUNNING && !vm->untold) {
        struct store_vm_due due;

        store_vm_told_due(r, &due);
        due_set(vm, &due);
    }
    if (!vm->untold)
        vm->reason[0] = 0; /* told once: whoever unblocks it meanwhile has the last word */
    if (order == VM_CMD_STOP)
        vm_row_look(vm);
    if (vm->untold)
        vm_row_resend(vm);
}

void vm_row_resend(struct vm *vm)
{
    struct hkd *d = vm->d;
    struct store_vm_news news = {
        .state = vm->state,
        .pid = vm->run ? node_vm_pid(vm->run) : 0,
        .alive = vm->alive,
        .reason = vm->reason[0] ? vm->reason : NULL,
        .idle_minutes = due_idle_minutes(d),
    };

    if (vm->lost && vm->state == VM_STOPPED) {
        forget(vm);
        return;
    }
    if (vm->telling || !vm->untold)
        return;
    vm->told = vm->state;
    if (vm->state == VM_STOPPED)
        vm->telling =
            store_vm_stopped(d->db, d->host_id, vm->id, vm->restart, news.reason, on_told, vm);
    else
        vm->telling = store_vm_tell(d->db, d->host_id, vm->id, &news, on_told, vm);
    vm->untold = !vm->telling;
    if (vm->untold)
        ev_timer_arm_jittered(vm->retry, RETRY_MS, 20);
}

void vm_row_tell(struct vm *vm)
{
    if (vm->lost) {
        /* Freed by the timer, as this may be one of its own callbacks. */
        if (vm->state == VM_STOPPED)
            ev_timer_arm(vm->retry, 0);
        return;
    }
    /* Taking the order has written it. */
    if (vm->state == VM_STARTING_1)
        return;
    vm->untold = true;
    vm_row_resend(vm);
}

bool vm_row_busy(const struct vm *vm)
{
    return vm->taking || vm->telling || vm->untold;
}

void vm_row_done(struct vm *vm)
{
    db_cancel(vm->taking);
    db_cancel(vm->telling);
    db_cancel(vm->stopping);
    vm->taking = vm->telling = vm->stopping = NULL;
}
