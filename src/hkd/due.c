// SPDX-License-Identifier: GPL-3.0-or-later
/* What is due at a time of its own: the soft and the hard expiration of a run, and its end when its
 * user stays away. The database tells how long each is away and decides, when the time is over,
 * whether it still holds: no clock but its own is compared. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"
#include "wire/vma.h"

/* Longest time until the database is asked again: timers are not trusted for years. */
#define LOOK_MS 86400000
/* An agent that did not take the word is told again. */
#define RETRY_MS 60000

static void look(void *arg)
{
    vm_row_look(arg);
}

int64_t due_idle_minutes(const struct hkd *d)
{
    return conf_int(d->conf, "vm.stop_after_disconnect");
}

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void due_set(struct vm *vm, const struct store_vm_due *due)
{
    int64_t soft = due->soft_ms, left;

    if (vm->state != VM_RUNNING)
        return;
    /* Was told for this time: again after its pause only. */
    if (soft != STORE_NEVER && strcmp(due->soft, vm->soft_told) == 0 &&
        vm->soft_next_ms - clock_ms() > soft)
        soft = vm->soft_next_ms - clock_ms();
    left = min(due->idle_ms, min(soft, due->hard_ms));
    if (left == STORE_NEVER) {
        vm->due = ev_timer_free(vm->due);
        return;
    }
    if (!vm->due && ev_timer_new(vm->d->loop, look, vm, &vm->due) < 0) {
        log_error("[vm:%lld] out of memory: the next sweep looks at its times", (long long)vm->id);
        return;
    }
    ev_timer_arm(vm->due, (uint64_t)(left < 0 ? 0 : min(left, LOOK_MS)));
}

static void on_expired(void *arg, const struct rpc_result *r)
{
    struct vm *vm = arg;

    vm->expire_call = NULL;
    if (r->status == RPC_OK)
        return;
    log_warning("[vm:%lld] its agent was not told that it expires: %s", (long long)vm->id, r->text);
    vm->soft_next_ms = min(vm->soft_next_ms, clock_ms() + RETRY_MS);
}

void due_expire(struct vm *vm, const struct store_vm_due *due)
{
    int64_t now = clock_ms();
    bool again = strcmp(due->soft, vm->soft_told) == 0;

    if (vm->state != VM_RUNNING || !vm->has_vma || due->soft_ms > 0 ||
        (again && vm->soft_next_ms > now))
        return;
    if (str_copy(vm->soft_told, sizeof vm->soft_told, due->soft) < 0)
        return;
    vm->soft_next_ms = now + conf_ms(vm->d->conf, "hkd.vm.expire.soft.repeat");
    log_info("[vm:%lld] its soft expiration was %s: its agent is told%s", (long long)vm->id,
             due->soft, again ? " again" : "");
    vma_expire(vm, due, on_expired);
}

void due_leave(struct vm *vm)
{
    vm->due = ev_timer_free(vm->due);
    vm->expire_call = rpc_request_cancel(vm->expire_call);
    vm->soft_told[0] = 0;
}
