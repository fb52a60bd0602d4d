// SPDX-License-Identifier: GPL-3.0-or-later
/* What a VM's agent is asked, by qvd-rpc: whether it lives, and to power off. No byte of an answer
 * is read here. */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"
#include "wire/vma.h"

/* Between two questions to a VM that is starting. */
#define RETRY_MS 500
/* How much longer than its state a question may last: the state's limit ends it, and says so. */
#define BEHIND_STATE_MS 1000

static int dial(const struct vm *vm)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)conf_int(vm->d->conf, "vm.port.vma")),
    };
    _cleanup_(close_p) int fd = -EBADF;

    if (inet_pton(AF_INET, vm->ip, &a.sin_addr) != 1)
        return -EINVAL;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS)
        return -errno;
    return TAKE_FD(fd);
}

static int ask(struct vm *vm, enum wire_vma_function function, int64_t serial, int64_t limit_ms,
               const char *body, rpc_client_fn *fn, struct rpc_request **ret_call)
{
    struct rpc_call call = {
        .function = wire_vma_function_to_string(function),
        .serial = (uint64_t)serial,
        .timeout_ms = (uint32_t)limit_ms,
        .secret = {vm->secret, sizeof vm->secret},
        .body = body,
    };
    int fd;

    if (!vm->has_secret)
        return -ENOKEY;
    fd = dial(vm);
    if (fd < 0)
        return fd;
    return rpc_client_call(askers_next(vm->d->rpc), &call, fd, fn, vm, ret_call);
}

static void later(struct vm *vm, int64_t ms, unsigned percent);

static bool is_dead(struct vm *vm, const char *why)
{
    struct conf *c = vm->d->conf;
    int64_t silent = clock_ms() - vm->last_ok_ms;

    vm->failures++;
    log_debug("[vm:%lld] ping %u failed: %s", (long long)vm->id, vm->failures, why);
    return vm->failures >= (unsigned)conf_int(c, "hkd.vm.vma.dead.failures") &&
           silent >= conf_ms(c, "hkd.vm.vma.dead.time");
}

static void pinged(struct vm *vm, bool ok, bool its_fault, const char *why)
{
    int64_t period = conf_ms(vm->d->conf, "hkd.vm.vma.ping.interval");

    if (vm->state == VM_STARTING_2) {
        if (ok)
            vm_event(vm, VM_EV_ALIVE, "vma alive");
        else
            vm_event(vm, VM_EV_UNREACHABLE, "%s", why);
        return;
    }
    if (ok) {
        vm->failures = 0;
        vm->last_ok_ms = clock_ms();
        later(vm, period, 20);
    } else if (its_fault && is_dead(vm, why)) {
        vm_event(vm, VM_EV_DEAD, "its agent has not answered for %lld s: %s",
                 (long long)(clock_ms() - vm->last_ok_ms) / 1000, why);
    } else {
        later(vm, period / 2, 20);
    }
}

static void on_ping(void *arg, const struct rpc_result *r)
{
    struct vm *vm = arg;

    vm->call = NULL;
    /* A refusal with the VM's key is an answer too. */
    pinged(vm, r->status == RPC_OK || r->status == RPC_REFUSED, r->status != RPC_BUSY, r->text);
}

static void ping_now(void *arg)
{
    struct vm *vm = arg;
    int r;

    if (vm->call)
        return;
    if (!vm->has_vma) {
        if (vm->state == VM_STARTING_2)
            vm_event(vm, VM_EV_ALIVE, "it has no agent to ask");
        return;
    }
    r = ask(vm, WIRE_VMA_PING, 0, conf_ms(vm->d->conf, "hkd.vm.vma.ping.timeout"), "{}", on_ping,
            &vm->call);
    if (r < 0)
        pinged(vm, false, r == -ENOKEY || r == -ECONNREFUSED || r == -EHOSTUNREACH, strerror(-r));
}

static void later(struct vm *vm, int64_t ms, unsigned percent)
{
    if (!vm->next_ping && ev_timer_new(vm->d->loop, ping_now, vm, &vm->next_ping) < 0) {
        log_error("[vm:%lld] out of memory: its agent is not watched", (long long)vm->id);
        return;
    }
    ev_timer_arm_jittered(vm->next_ping, (uint64_t)ms, percent);
}

void vma_ping(struct vm *vm)
{
    later(vm, 0, 0);
}

void vma_ping_later(struct vm *vm)
{
    later(vm, RETRY_MS, 20);
}

void vma_watch(struct vm *vm)
{
    vm->failures = 0;
    vm->last_ok_ms = clock_ms();
    if (!vm->has_vma)
        return;
    /* One that was found is asked soon: it may have died while nobody looked. */
    later(vm, vm->found ? RETRY_MS : conf_ms(vm->d->conf, "hkd.vm.vma.ping.interval"), 20);
    vm->found = false;
}

static void on_poweroff(void *arg, const struct rpc_result *r)
{
    struct vm *vm = arg;

    vm->call = NULL;
    if (r->status == RPC_OK)
        vm_event(vm, VM_EV_ANSWERED, "vma powers off");
    else
        vm_event(vm, VM_EV_REFUSED, "vma does not power off: %s", r->text);
}

static void poweroff_now(struct vm *vm)
{
    int64_t limit = conf_ms(vm->d->conf, "hkd.vm.stop.vma.timeout") + BEHIND_STATE_MS;
    int r = ask(vm, WIRE_VMA_POWEROFF, vm->stop_serial, limit, "{}", on_poweroff, &vm->call);

    if (r < 0)
        vm_event(vm, VM_EV_REFUSED, "vma cannot be asked: %s", strerror(-r));
}

static void on_serial(void *arg, const struct db_result *r)
{
    struct vm *vm = arg;

    vm->serial = NULL;
    if (db_status(r) == DB_OK)
        vm->stop_serial = store_vm_read_serial(r);
    if (vm->stop_serial)
        poweroff_now(vm);
    else
        vm_event(vm, VM_EV_REFUSED, "no serial for the order: %s", db_error(r));
}

void vma_poweroff(struct vm *vm)
{
    if (vm->stop_serial) {
        poweroff_now(vm);
        return;
    }
    vm->serial = store_vm_serial(vm->d->db, on_serial, vm);
    if (!vm->serial)
        vm_event(vm, VM_EV_REFUSED, "out of memory");
}

/* The times are the database's own words. */
void vma_expire(struct vm *vm, const struct store_vm_due *due, rpc_client_fn *fn)
{
    struct rpc_result failed = {.status = RPC_UNREACHABLE};
    char body[160];
    int r;

    if (vm->expire_call)
        return;
    r = str_format(body, sizeof body, "{\"qvd.vm.expiration.soft\": \"%s\"%s%s%s}", due->soft,
                   due->hard[0] ? ", \"qvd.vm.expiration.hard\": \"" : "", due->hard,
                   due->hard[0] ? "\"" : "");
    if (r == 0)
        r = ask(vm, WIRE_VMA_EXPIRE, due->serial, conf_ms(vm->d->conf, "hkd.vm.vma.expire.timeout"),
                body, fn, &vm->expire_call);
    if (r < 0) {
        failed.text = strerror(-r);
        fn(vm, &failed);
    }
}

void vma_leave(struct vm *vm)
{
    vm->call = rpc_request_cancel(vm->call);
    db_cancel(vm->serial);
    vm->serial = NULL;
    vm->next_ping = ev_timer_free(vm->next_ping);
}
