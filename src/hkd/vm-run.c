// SPDX-License-Identifier: GPL-3.0-or-later
/* A VM's run on the node: launch, what the node reports of it, adoption. */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"
#include "model/net.h"

static void progress(void *arg, unsigned percent)
{
    struct vm *vm = arg;

    if (vm->state != VM_STARTING_1)
        return;
    if (percent / 10 != vm->unpacked / 10)
        log_info("[vm:%lld] image %lld: %u %% unpacked", (long long)vm->id,
                 (long long)vm->start.di_id, percent);
    vm->unpacked = percent;
    vm_rearm(vm, percent < 100 ? "hkd.unpack.timeout" : "hkd.vm.start.boot.timeout");
}

static void started(void *arg)
{
    struct vm *vm = arg;

    vm_event(vm, VM_EV_STARTED, "its first process runs");
}

static void ready(void *arg)
{
    struct vm *vm = arg;

    /* Two roads, the guard's and the guest's: either may be the faster. */
    if (vm->state == VM_STARTING_1)
        started(vm);
    if (vm->has_vma)
        vm_event(vm, VM_EV_READY, NULL);
    else
        vm_event(vm, VM_EV_ALIVE, "it has no agent to ask");
}

/* vm->why is what a later GONE is logged with. */
static void note_end(struct vm *vm, const struct node_vm_exit *e)
{
    bool ran = vm->state == VM_RUNNING || vm->state == VM_STARTING_2;

    vm->reboots = e->end == NODE_END_REBOOT;
    if (vm->reboots && vm->state == VM_STARTING_2)
        vm->early_reboots++;
    /* A reboot of the guest that was told to stop is no wish to run on. */
    vm->restart = ran && e->end == NODE_END_REBOOT;
    snprintf(vm->why, sizeof vm->why, "%s%s%s", node_vm_end_to_string(e->end),
             e->text && e->text[0] ? ": " : "", e->text ? e->text : "");
    if (vm->early_reboots >= VM_EARLY_REBOOTS_MAX)
        snprintf(vm->why, sizeof vm->why,
                 "the guest rebooted %u times in a row before its agent answered",
                 vm->early_reboots);
}

static void gone(void *arg, const struct node_vm_exit *e)
{
    struct vm *vm = arg;
    char why[sizeof vm->why];

    note_end(vm, e);
    vm->run = node_vm_free(vm->run); /* and with it the text of e */
    memcpy(why, vm->why, sizeof why);
    vm_event(vm, VM_EV_EXITED, "%s", why);
}

static const struct node_vm_fns fns = {progress, started, ready, gone};

static int lease(struct vm *vm)
{
    struct node_lease l = {(uint64_t)vm->id, vm->ip, vm->mac};
    uint32_t ip;
    int r = net_ip4_parse(vm->ip, &ip);

    if (r < 0)
        return r;
    r = net_mac(conf_str(vm->d->conf, "vm.network.mac.prefix"), ip, vm->mac);
    if (r < 0)
        return r;
    r = node_lease_set(vm->d->node, &l);
    if (r < 0)
        log_warning("[vm:%lld] DHCP lease %s %s, ignoring: %s", (long long)vm->id, vm->ip, vm->mac,
                    strerror(-r));
    return 0;
}

void vm_run_launch(struct vm *vm)
{
    const struct store_vm_start *s = &vm->start;
    struct qvd_error err = {0};
    struct node_vm_spec spec = {
        .id = (uint64_t)vm->id,
        .user_id = (uint64_t)s->user_id,
        .di_id = (uint64_t)s->di_id,
        .hypervisor = s->hypervisor,
        .image = s->image,
        .ip = vm->ip,
        .mac = vm->mac,
        .memory_mb = s->memory_mb,
        .use_overlay = s->use_overlay,
        .persistent = conf_bool(vm->d->conf, "vm.overlay.persistent"),
        .own_home = s->own_home,
    };
    int r = lease(vm);

    if (r < 0) {
        vm_event(vm, VM_EV_FAILED, "address %s and vm.network.mac.prefix give no MAC", vm->ip);
        return;
    }
    memcpy(spec.secret, vm->secret, sizeof spec.secret);
    r = node_vm_start(vm->d->node, &spec, &fns, vm, &vm->run, &err);
    explicit_bzero(spec.secret, sizeof spec.secret);
    if (r < 0) {
        vm->run = NULL;
        vm_event(vm, VM_EV_FAILED, "%s", err.text);
        return;
    }
    log_info("[vm:%lld] launching %s image %lld (%s) at %s", (long long)vm->id, s->hypervisor,
             (long long)s->di_id, s->image, vm->ip);
    vm_rearm(vm, "hkd.vm.start.boot.timeout");
}

int vm_run_adopt(struct vm *vm)
{
    struct node_vm_exit e = {0};
    struct qvd_error err = {0};
    int r = node_vm_adopt(vm->d->node, (uint64_t)vm->id, &fns, vm, &vm->run, &e, &err);

    if (r == 0) {
        vm->found = true;
        return 1;
    }
    vm->run = NULL;
    if (r == -ESRCH) {
        note_end(vm, &e);
        return 0;
    }
    log_error("[vm:%lld] cannot be taken over, trying again: %s", (long long)vm->id, err.text);
    return r;
}
