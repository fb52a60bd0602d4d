// SPDX-License-Identifier: GPL-3.0-or-later
/* One VM: its state, events through the table of model/vm-state.h, the one setter. What the actions
 * do stands in vm-run.c, vma.c, vm-row.c and line.c. */
#include "hkd/hkd-internal.h"

#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"

static void limit(void *arg)
{
    struct vm *vm = arg;

    vm_event(vm, VM_EV_LIMIT, "time is over");
}

static void resend(void *arg)
{
    vm_row_resend(arg);
}

struct vm *vm_new(struct hkd *d, int64_t id)
{
    struct vm *vm = calloc(1, sizeof *vm);

    if (!vm)
        return NULL;
    vm->d = d;
    vm->id = id;
    list_init(&vm->in_line);
    if (ev_timer_new(d->loop, limit, vm, &vm->limit) < 0 ||
        ev_timer_new(d->loop, resend, vm, &vm->retry) < 0 ||
        map_put_u64(d->vms, (uint64_t)id, vm) < 0)
        return vm_free(vm);
    return vm;
}

struct vm *vm_free(struct vm *vm)
{
    if (!vm)
        return NULL;
    line_leave(vm->d->line, vm);
    vma_leave(vm);
    due_leave(vm);
    vm_row_done(vm);
    node_vm_free(vm->run);
    ev_timer_free(vm->limit);
    ev_timer_free(vm->retry);
    if (map_get_u64(vm->d->vms, (uint64_t)vm->id) == vm)
        map_take_u64(vm->d->vms, (uint64_t)vm->id);
    explicit_bzero(vm->secret, sizeof vm->secret);
    free(vm);
    return NULL;
}

static unsigned holds(const struct vm *vm)
{
    bool reboots = vm->reboots && vm->early_reboots < VM_EARLY_REBOOTS_MAX;

    return (vm->has_vma ? VM_IF_HAS_VMA : 0) | (vm->run ? VM_IF_LAUNCHED : 0) |
           (vm->ready ? VM_IF_READY : 0) | (reboots ? VM_IF_REBOOTS : 0);
}

void vm_rearm(struct vm *vm, const char *key)
{
    ev_timer_arm(vm->limit, (uint64_t)conf_ms(vm->d->conf, key));
}

/* The only place that assigns ->state. */
static void set_state(struct vm *vm, enum vm_state state)
{
    if (state == vm->state)
        return;
    log_info("[vm:%lld] %s -> %s%s%s%s", (long long)vm->id, vm_state_to_string(vm->state),
             vm_state_to_string(state), vm->why[0] ? " (" : "", vm->why, vm->why[0] ? ")" : "");
    vm->state = state;
    if (vm_state_limit_key(state))
        vm_rearm(vm, vm_state_limit_key(state));
    else
        ev_timer_disarm(vm->limit);
    if (state != VM_STARTING_1 && state != VM_STARTING_2)
        line_leave(vm->d->line, vm);
    if (state != VM_STARTING_2 && state != VM_RUNNING)
        vma_leave(vm);
    if (state != VM_RUNNING)
        due_leave(vm);
    vm_row_tell(vm);
}

/* One line for each row taken, with the cells of docs/vm-states.md: the tests count them. */
static void tell_row(const struct vm *vm, const struct vm_transition *t)
{
    log_debug("[vm:%lld] row %s | %s | %s | %s", (long long)vm->id, vm_state_to_string(t->in),
              vm_event_to_string(t->event), vm_guard_to_string(t->guard),
              vm_state_to_string(t->next));
}

static void block(struct vm *vm, unsigned actions)
{
    struct conf *c = vm->d->conf;

    if (actions & VM_DO_BLOCK_BOOT)
        snprintf(vm->reason, sizeof vm->reason, "no boot: %s",
                 vm->why[0] ? vm->why : "it did not start");
    else if (actions & VM_DO_BLOCK_NETWORK)
        snprintf(vm->reason, sizeof vm->reason,
                 "no network: its agent reported, but could not be reached at %s:%lld for %lld s",
                 vm->ip, (long long)conf_int(c, "vm.port.vma"),
                 (long long)conf_ms(c, "hkd.vm.start.network.timeout") / 1000);
    else
        snprintf(vm->reason, sizeof vm->reason, "no VMA: its agent did not report within %lld s",
                 (long long)conf_ms(c, "hkd.vm.start.vma.timeout") / 1000);
    vm->restart = false;
    log_warning("[vm:%lld] blocked: %s", (long long)vm->id, vm->reason);
}

static void term(struct vm *vm)
{
    int r = node_vm_term(vm->run);

    if (r < 0)
        log_warning("[vm:%lld] TERM: %s", (long long)vm->id, strerror(-r));
}

static void kill_run(struct vm *vm)
{
    int r = node_vm_kill(vm->run);

    if (r < 0)
        log_error("[vm:%lld] KILL: %s", (long long)vm->id, strerror(-r));
}

/* Bit by bit in the order of their values, after the state was set: what an action finds out comes
 * as an event of its own. */
static void act(struct vm *vm, unsigned actions)
{
    struct hkd *d = vm->d;

    if (actions & VM_DO_QUEUE)
        line_enter(d->line, vm);
    if (actions & VM_DO_PING)
        vma_ping(vm);
    if (actions & VM_DO_PING_LATER)
        vma_ping_later(vm);
    if (actions & VM_DO_WATCH)
        vma_watch(vm);
    if (actions & VM_DO_POWEROFF)
        vma_poweroff(vm);
    if (actions & VM_DO_TERM && vm->run)
        term(vm);
    if (actions & VM_DO_KILL && vm->run)
        kill_run(vm);
    /* Last: a refused launch brings an event at once. */
    if (actions & VM_DO_LAUNCH)
        vm_run_launch(vm);
}

void vm_event(struct vm *vm, enum vm_event event, const char *why, ...)
{
    const struct vm_transition *t = vm_transition(vm->state, event, holds(vm));
    va_list args;

    if (!t) {
        log_debug("[vm:%lld] %s: nothing to do in %s", (long long)vm->id, vm_event_to_string(event),
                  vm_state_to_string(vm->state));
        return;
    }
    if (why) {
        va_start(args, why);
        vsnprintf(vm->why, sizeof vm->why, why, args);
        va_end(args);
    } else {
        snprintf(vm->why, sizeof vm->why, "%s", vm_event_to_string(event));
    }
    if (event == VM_EV_READY) {
        vm->ready = true;
        vm_rearm(vm, "hkd.vm.start.network.timeout");
    }
    if (event == VM_EV_ALIVE) {
        vm->alive = true;
        vm->early_reboots = 0;
    }
    if (vm->run && (event == VM_EV_ALIVE || event == VM_EV_STOP || event == VM_EV_ABORT))
        node_vm_settle(vm->run);
    tell_row(vm, t);
    if (t->actions & VM_DO_BLOCK)
        block(vm, t->actions);
    /* Killed again in the same state: its limit begins anew. */
    if (t->next == t->in && event == VM_EV_LIMIT)
        vm_rearm(vm, vm_state_limit_key(t->in));
    set_state(vm, t->next);
    act(vm, t->actions);
}

void vm_disown(struct vm *vm, const char *why)
{
    if (!vm->lost)
        log_error("[vm:%lld] its row is no longer this node's: it is ended here",
                  (long long)vm->id);
    vm->lost = true;
    vm_event(vm, VM_EV_ABORT, "%s", why);
}

/* The rest of a run that no row tells of. */
void vm_restore(struct vm *vm, const struct store_vm_row *row)
{
    int r;

    vm->state = row->state;
    vm->has_vma = strcmp(row->hypervisor, "nothing") != 0;
    vm->has_secret = row->has_secret;
    /* The order that is being obeyed; an older one the agent would refuse. */
    vm->stop_serial = row->state == VM_STOPPING_1 ? row->order_id : 0;
    memcpy(vm->secret, row->secret, sizeof vm->secret);
    if (str_copy(vm->ip, sizeof vm->ip, row->ip) < 0)
        vm->ip[0] = 0;
    if (vm_state_limit_key(vm->state))
        vm_rearm(vm, vm_state_limit_key(vm->state));
    r = vm_run_adopt(vm);
    if (r > 0) {
        log_info("[vm:%lld] adopted in %s", (long long)vm->id, vm_state_to_string(vm->state));
        vm_event(vm, VM_EV_FOUND, "its guard lives");
        due_set(vm, &row->due);
        /* Its hard expiration had come: the order is for after its end. */
        if (vm->state == VM_RUNNING && row->order == VM_CMD_START)
            vm_event(vm, VM_EV_STOP, "its restart had begun");
    } else if (r == 0 && vm->state == VM_STARTING_1) {
        vm_row_take_start(vm, true);
    } else if (r == 0) {
        char why[sizeof vm->why];

        memcpy(why, vm->why, sizeof why);
        vm_event(vm, VM_EV_GONE, "%s", why);
    } else {
        vm_free(vm); /* the next sweep tries again */
    }
}

void vm_restore_orphan(struct hkd *d, int64_t id)
{
    struct vm *vm = vm_new(d, id);

    if (!vm)
        return;
    vm->state = VM_RUNNING;
    vm->lost = true;
    if (vm_run_adopt(vm) <= 0) {
        vm_free(vm);
        return;
    }
    log_warning("[vm:%lld] runs here, but no row says so: it is ended", (long long)id);
    vm_event(vm, VM_EV_ABORT, "not this node's");
}
