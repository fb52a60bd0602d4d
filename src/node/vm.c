// SPDX-License-Identifier: GPL-3.0-or-later
/* One run of a VM, from the image to the last trace of it. What is common to all hypervisors. */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "node/net/port.h"
#include "node/node-internal.h"
#include "node/run.h"

#define SWEEP_TIMEOUT_MS 20000

/* In this order; each is left by the event named. */
enum step {
    STEP_IMAGE,    /* the image is there */
    STEP_PORT,     /* firewall and neighbour are set */
    STEP_BOOT,     /* the hypervisor runs */
    STEP_RUN,      /* it ends */
    STEP_SWEEP,    /* what a killed guard left is away */
    STEP_PORT_OFF, /* firewall and neighbour are as before */
    STEP_GONE,
    STEP_MAX
};

static const char *const step_names[STEP_MAX] = {"image", "port",     "boot", "run",
                                                 "sweep", "port off", "gone"};

static const char *const end_names[NODE_END_MAX] = {
    [NODE_END_FAILED] = "failed", [NODE_END_STOPPED] = "stopped", [NODE_END_REBOOT] = "reboot",
    [NODE_END_KILLED] = "killed", [NODE_END_CRASHED] = "crashed",
};

struct node_vm {
    struct node *n;
    struct node_vm_spec spec; /* texts are our own */
    const struct hypervisor *hv;
    void *driver;
    struct node_vm_fns fns;
    void *arg;
    enum step step;
    bool cancelled;
    struct ev_command *sweep;
    struct run_note note;
    struct ev_deferred next; /* the step's work, out of the caller's stack */
    enum node_vm_end end;
    int code;
    char text[256];
};

const char *node_vm_end_to_string(enum node_vm_end end)
{
    return (unsigned)end < NODE_END_MAX ? end_names[end] : NULL;
}

const struct node_vm_spec *node_vm_spec_of(const struct node_vm *vm)
{
    return &vm->spec;
}

struct node *node_vm_node(const struct node_vm *vm)
{
    return vm->n;
}

void **node_vm_driver_data(struct node_vm *vm)
{
    return &vm->driver;
}

uint64_t node_vm_id(const struct node_vm *vm)
{
    return vm->spec.id;
}

int node_vm_pid(const struct node_vm *vm)
{
    return vm->hv->pid(vm);
}

static void set_step(struct node_vm *vm, enum step step)
{
    log_debug("[vm:%llu] %s -> %s", (unsigned long long)vm->spec.id, step_names[vm->step],
              step_names[step]);
    vm->step = step;
    ev_defer(vm->n->loop, &vm->next);
}

/* Remembers the end, and begins to clean up. */
static void fail(struct node_vm *vm, int code, const char *text)
{
    vm->end = vm->cancelled ? NODE_END_KILLED : NODE_END_FAILED;
    vm->code = vm->cancelled ? -ECANCELED : code;
    if (vm->cancelled)
        text = "cancelled";
    if (text != vm->text)
        (void)!snprintf(vm->text, sizeof vm->text, "%s", text);
    set_step(vm, vm->step >= STEP_PORT ? STEP_PORT_OFF : STEP_GONE);
}

static void on_progress(void *arg, unsigned percent)
{
    struct node_vm *vm = arg;

    if (vm->fns.progress)
        vm->fns.progress(vm->arg, percent);
}

static void on_image(void *arg, int result, const struct qvd_error *err)
{
    struct node_vm *vm = arg;

    if (result < 0)
        fail(vm, result, err->text);
    else
        set_step(vm, STEP_PORT);
}

static void do_image(struct node_vm *vm)
{
    struct qvd_error err = {0};
    int r = vm->hv->has_image
                ? image_want(vm->n->images, vm->spec.image, on_progress, on_image, vm, &err)
                : 1;

    if (r < 0)
        fail(vm, r, err.text);
    else if (r > 0)
        set_step(vm, STEP_PORT);
}

static struct nft_port port_of(const struct node_vm *vm)
{
    return (struct nft_port){.port = vm->note.port, .mac = vm->note.mac, .ip = vm->note.ip};
}

/* Whether or not it was there still. */
static void on_link_gone(void *arg, int result, const struct qvd_error *err)
{
    struct node_vm *vm = arg;

    set_step(vm, vm->step == STEP_PORT ? STEP_BOOT : STEP_GONE);
}

/* A port of that name is a dead VM's that the kernel has not removed yet: LXC would fail on it.
 * 1: on_link_gone() comes; 0: there is none. */
static must_check int remove_link(struct node_vm *vm)
{
    char line[64];

    if (if_nametoindex(vm->note.port) == 0)
        return 0;
    int r = str_format(line, sizeof line, "link del dev %s\n", vm->note.port);
    if (r == 0)
        r = batch_add(vm->n->links, line, strlen(line), on_link_gone, vm);
    return r < 0 ? r : 1;
}

static void do_port(struct node_vm *vm)
{
    struct qvd_error err = {0};
    struct nft_port port = port_of(vm);

    if (!vm->hv->has_port) {
        set_step(vm, STEP_BOOT);
        return;
    }
    int r = run_make(vm->n->s.run_dir, vm->spec.id);
    if (r == 0)
        r = run_note_write(vm->n->s.run_dir, vm->spec.id, &vm->note);
    if (r == 0)
        r = remove_link(vm);
    if (r < 0) {
        fail(vm, r, strerror(-r));
        return;
    }
    int refused = port_open(&port, vm->n->net.bridge, &err);
    if (refused < 0) {
        batch_forget(vm->n->links, vm);
        fail(vm, refused, err.text);
    } else if (r == 0) {
        set_step(vm, STEP_BOOT);
    }
}

static void do_boot(struct node_vm *vm)
{
    struct qvd_error err = {0};

    if (vm->cancelled) {
        fail(vm, -ECANCELED, "");
        return;
    }
    int r = vm->hv->start(vm, &err);
    if (r < 0) {
        vm->hv->forget(vm);
        fail(vm, r, err.text);
    }
}

void node_vm_driver_started(struct node_vm *vm)
{
    vm->step = STEP_RUN;
    if (vm->fns.started)
        vm->fns.started(vm->arg);
}

void node_vm_driver_ready(struct node_vm *vm)
{
    if (vm->fns.ready)
        vm->fns.ready(vm->arg);
}

void node_vm_driver_ended(struct node_vm *vm, enum node_vm_end end, int code, const char *text,
                          bool dirty)
{
    vm->end = end;
    vm->code = code;
    (void)!snprintf(vm->text, sizeof vm->text, "%s", text);
    vm->hv->forget(vm);
    set_step(vm, dirty ? STEP_SWEEP : STEP_PORT_OFF);
}

static void on_swept(void *arg, const struct ev_command_result *result)
{
    struct node_vm *vm = arg;

    vm->sweep = NULL;
    if (result->status != 0)
        node_log(vm->n, "vm %llu: its rest could not be swept: %.*s",
                 (unsigned long long)vm->spec.id, (int)strcspn(result->errors, "\n"),
                 result->errors);
    set_step(vm, STEP_PORT_OFF);
}

static void do_sweep(struct node_vm *vm)
{
    struct qvd_error err = {0};

    if (node_sweep_run(vm->n, vm->spec.id, &vm->note, on_swept, vm, &vm->sweep, &err) < 0) {
        node_log(vm->n, "vm %llu: %s", (unsigned long long)vm->spec.id, err.text);
        set_step(vm, STEP_PORT_OFF);
    }
}

/* What cannot be taken away now is replaced at hkd's next start. */
static void do_port_off(struct node_vm *vm)
{
    struct qvd_error err = {0};
    struct nft_port port = port_of(vm);

    if (vm->hv->has_port && port_close(&port, vm->n->net.bridge, &err) < 0)
        node_log(vm->n, "vm %llu: %s", (unsigned long long)vm->spec.id, err.text);
    if (!vm->hv->has_port || remove_link(vm) <= 0)
        set_step(vm, STEP_GONE);
}

static void do_gone(struct node_vm *vm)
{
    struct node *n = vm->n;
    struct node_vm_exit exit = {.end = vm->end, .code = vm->code, .text = vm->text};

    if (vm->hv->has_port)
        run_remove(n->s.run_dir, vm->spec.id);
    node_lxc_config_remove(n, vm->spec.id);
    purge_scan(n->purge, n->s.overlayfs, n->s.failed_keep_s);
    (void)map_take_u64(n->vms, vm->spec.id);
    vm->fns.gone(vm->arg, &exit); /* may free it */
}

static void do_step(void *arg)
{
    struct node_vm *vm = arg;
    static void (*const table[STEP_MAX])(struct node_vm *) = {
        [STEP_IMAGE] = do_image, [STEP_PORT] = do_port,         [STEP_BOOT] = do_boot,
        [STEP_SWEEP] = do_sweep, [STEP_PORT_OFF] = do_port_off, [STEP_GONE] = do_gone,
    };

    if (table[vm->step])
        table[vm->step](vm);
}

static struct node_vm *release(struct node_vm *vm)
{
    const char *texts[] = {vm->spec.image, vm->spec.ip, vm->spec.mac};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        free((char *)(uintptr_t)texts[i]);
    explicit_bzero(vm->spec.secret, sizeof vm->spec.secret);
    free(vm);
    return NULL;
}

static must_check int fill_note(struct node_vm *vm, struct qvd_error *err)
{
    const struct node_vm_spec *s = &vm->spec;
    struct run_note *note = &vm->note;
    const struct node *n = vm->n;
    unsigned long long id = s->id, di = s->di_id;
    uint32_t ip;

    if (!vm->hv->has_port)
        return 0;
    if (net_ip4_parse(s->ip, &ip) < 0 || !addr_is_vm(&n->net, ip))
        return qvd_error_set(err, -EINVAL,
                             "address %s is not one of the VMs' (vm.network.ip.start, .netmask)",
                             s->ip);
    if (addr_mac(s->mac, note->mac) < 0)
        return qvd_error_set(err, -EINVAL, "%s is no hardware address", s->mac);
    if (str_format(note->port, sizeof note->port, "qvd%llu", id) < 0 ||
        str_copy(note->ip, sizeof note->ip, s->ip) < 0 ||
        str_format(note->cgroup, sizeof note->cgroup, "qvd%s-%llu", n->cgroup_mark, id) < 0)
        return qvd_error_set(err, -EINVAL, "its id is too long for an interface's name");
    if (s->use_overlay && !s->persistent &&
        str_format(note->overlay, sizeof note->overlay, "%s/%llu-%llu-overlayfs", n->s.overlayfs,
                   di, id) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "path.storage.overlayfs is too long");
    return 0;
}

static must_check int vm_new(struct node *n, const struct node_vm_spec *spec,
                             const struct node_vm_fns *fns, void *arg, struct node_vm **ret)
{
    struct node_vm *vm = calloc(1, sizeof *vm);

    if (!vm)
        return -ENOMEM;
    *vm = (struct node_vm){.n = n, .spec = *spec, .fns = *fns, .arg = arg};
    ev_deferred_init(&vm->next, do_step, vm);
    vm->spec.hypervisor = NULL;
    vm->spec.image = strdup(spec->image ? spec->image : "");
    vm->spec.ip = strdup(spec->ip ? spec->ip : "");
    vm->spec.mac = strdup(spec->mac ? spec->mac : "");
    if (!vm->spec.image || !vm->spec.ip || !vm->spec.mac || map_put_u64(n->vms, spec->id, vm) < 0) {
        release(vm);
        return -ENOMEM;
    }
    *ret = vm;
    return 0;
}

int node_vm_start(struct node *n, const struct node_vm_spec *spec, const struct node_vm_fns *fns,
                  void *arg, struct node_vm **ret_vm, struct qvd_error *err)
{
    const struct hypervisor *hv = hypervisor_find(spec->hypervisor);
    struct node_vm *vm;

    if (!hv)
        return qvd_error_set(err, -EINVAL, "vm %llu: there is no hypervisor \"%s\" here",
                             (unsigned long long)spec->id, spec->hypervisor);
    if (map_get_u64(n->vms, spec->id) || map_get_u64(n->left, spec->id))
        return qvd_error_set(err, -EBUSY, "vm %llu: an earlier run has not ended",
                             (unsigned long long)spec->id);
    int r = vm_new(n, spec, fns, arg, &vm);
    if (r < 0)
        return qvd_error_errno(err, r, "vm %llu", (unsigned long long)spec->id);
    vm->hv = hv;
    r = fill_note(vm, err);
    if (r < 0) {
        (void)qvd_error_wrap(err, "vm %llu", (unsigned long long)spec->id);
        (void)map_take_u64(n->vms, spec->id);
        release(vm);
        return r;
    }
    set_step(vm, STEP_IMAGE);
    *ret_vm = vm;
    return 0;
}

/* It ran when the node was put in order, and has ended since. */
static void ended_unseen(struct node_vm *vm)
{
    if (run_exit_read(vm->n->s.run_dir, vm->spec.id, &vm->end, vm->text) < 0) {
        vm->end = NODE_END_CRASHED;
        (void)!snprintf(vm->text, sizeof vm->text, "no record of its end");
    }
    set_step(vm, STEP_SWEEP);
}

int node_vm_adopt(struct node *n, uint64_t id, const struct node_vm_fns *fns, void *arg,
                  struct node_vm **ret_vm, struct node_vm_exit *ret_exit, struct qvd_error *err)
{
    static char text[256];
    struct node_vm_spec spec = {.id = id};
    struct run_vm *left = map_get_u64(n->left, id);
    struct node_vm *vm;
    int pidfd = -EBADF;

    if (!left) {
        *ret_exit = (struct node_vm_exit){.end = NODE_END_CRASHED, .text = "no record of its end"};
        if (node_record_take(n, id, &ret_exit->end, text))
            ret_exit->text = text;
        return -ESRCH;
    }
    int pid = run_guard(n->s.run_dir, id, &pidfd);
    int r = vm_new(n, &spec, fns, arg, &vm);
    if (r < 0) {
        fd_close(pidfd);
        return qvd_error_errno(err, r, "vm %llu", (unsigned long long)id);
    }
    vm->hv = &hypervisor_lxc;
    vm->note = left->note;
    vm->step = STEP_RUN;
    if (pid > 0)
        r = vm->hv->adopt(vm, pidfd, pid, err);
    else
        ended_unseen(vm);
    if (r < 0) {
        (void)map_take_u64(n->vms, id);
        vm->hv->forget(vm);
        release(vm);
        return r;
    }
    free(map_take_u64(n->left, id));
    *ret_vm = vm;
    return 0;
}

void node_vm_settle(struct node_vm *vm)
{
    if (vm->hv->has_port)
        run_settle(vm->n->s.run_dir, vm->spec.id);
}

static int cancel(struct node_vm *vm)
{
    vm->cancelled = true;
    if (vm->step == STEP_IMAGE) {
        image_unwant(vm->n->images, vm);
        fail(vm, -ECANCELED, "");
    }
    return 0;
}

int node_vm_term(struct node_vm *vm)
{
    if (vm->step < STEP_BOOT || (vm->step == STEP_BOOT && !vm->driver))
        return cancel(vm);
    return vm->step <= STEP_RUN ? vm->hv->term(vm) : 0;
}

int node_vm_kill(struct node_vm *vm)
{
    if (vm->step < STEP_BOOT || (vm->step == STEP_BOOT && !vm->driver))
        return cancel(vm);
    return vm->step <= STEP_RUN ? vm->hv->kill(vm) : 0;
}

struct node_vm *node_vm_free(struct node_vm *vm)
{
    if (!vm)
        return NULL;
    struct node *n = vm->n;
    ev_deferred_cancel(&vm->next);
    image_unwant(n->images, vm);
    batch_forget(vm->n->links, vm);
    ev_command_cancel(vm->sweep);
    if (map_get_u64(n->vms, vm->spec.id) == vm)
        (void)map_take_u64(n->vms, vm->spec.id);
    vm->hv->forget(vm);
    return release(vm);
}
