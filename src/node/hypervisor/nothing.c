// SPDX-License-Identifier: GPL-3.0-or-later
/* VMs that do not exist, for tests and load: they start, say that they are ready, and stop, each
 * after a short time, and end with hkd. */
#include <stdlib.h>

#include "node/node-internal.h"

/* Each step takes this long, half of it more or less. */
#define STEP_MS 20
#define JITTER_PERCENT 50

enum step { STARTING, BOOTING, RUNNING, STOPPING, KILLED };

struct nothing {
    struct node_vm *vm;
    struct ev_timer *timer;
    enum step step;
};

static void on_timer(void *arg)
{
    struct nothing *s = arg;

    switch (s->step) {
    case STARTING:
        s->step = BOOTING;
        ev_timer_arm_jittered(s->timer, STEP_MS, JITTER_PERCENT);
        node_vm_driver_started(s->vm);
        return;
    case BOOTING:
        s->step = RUNNING;
        node_vm_driver_ready(s->vm);
        return;
    case STOPPING:
        node_vm_driver_ended(s->vm, NODE_END_STOPPED, 0, "powered off as ordered", false);
        return;
    case KILLED:
        node_vm_driver_ended(s->vm, NODE_END_KILLED, 0, "ended by force", false);
        return;
    case RUNNING:
        return;
    }
}

static int start(struct node_vm *vm, struct qvd_error *err)
{
    struct nothing *s = calloc(1, sizeof *s);

    if (!s)
        return qvd_error_errno(err, ENOMEM, "cannot start nothing");
    *s = (struct nothing){.vm = vm};
    *node_vm_driver_data(vm) = s;
    int r = ev_timer_new(node_vm_node(vm)->loop, on_timer, s, &s->timer);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot start nothing");
    ev_timer_arm_jittered(s->timer, STEP_MS, JITTER_PERCENT);
    return 0;
}

static int adopt(struct node_vm *vm, int pidfd, int pid, struct qvd_error *err)
{
    fd_close(pidfd);
    return qvd_error_set(err, -ESRCH, "a VM of the hypervisor \"nothing\" ends with hkd");
}

static int end(struct node_vm *vm, enum step step)
{
    struct nothing *s = *node_vm_driver_data(vm);

    if (!s)
        return -ESRCH;
    s->step = step;
    ev_timer_arm_jittered(s->timer, STEP_MS, JITTER_PERCENT);
    return 0;
}

static int term(struct node_vm *vm)
{
    return end(vm, STOPPING);
}

static int kill_it(struct node_vm *vm)
{
    return end(vm, KILLED);
}

static int pid_of(const struct node_vm *vm)
{
    return 0;
}

static void forget(struct node_vm *vm)
{
    struct nothing *s = *node_vm_driver_data(vm);

    if (s)
        ev_timer_free(s->timer);
    free(s);
    *node_vm_driver_data(vm) = NULL;
}

const struct hypervisor hypervisor_nothing = {
    .name = "nothing",
    .start = start,
    .adopt = adopt,
    .term = term,
    .kill = kill_it,
    .pid = pid_of,
    .forget = forget,
};
