// SPDX-License-Identifier: GPL-3.0-or-later
/* The line of starts: at most hkd.vm.starting.max VMs are between their turn and running. */
#include "hkd/hkd-internal.h"

struct line {
    struct hkd *d;
    struct list waiting;
    unsigned places_taken;
    struct ev_deferred look;
};

static void look(void *arg)
{
    struct line *l = arg;

    while (host_runs(l->d->host) && !list_empty(&l->waiting) &&
           l->places_taken < (unsigned)conf_int(l->d->conf, "hkd.vm.starting.max")) {
        struct vm *vm = QVD_CONTAINER(l->waiting.next, struct vm, in_line);

        list_remove(&vm->in_line);
        vm->waits = false;
        vm->holds_place = true;
        l->places_taken++;
        vm_event(vm, VM_EV_TURN, NULL);
    }
}

int line_new(struct hkd *d, struct line **ret_line)
{
    struct line *l = calloc(1, sizeof *l);

    if (!l)
        return -ENOMEM;
    l->d = d;
    list_init(&l->waiting);
    ev_deferred_init(&l->look, look, l);
    *ret_line = l;
    return 0;
}

struct line *line_free(struct line *l)
{
    if (l)
        ev_deferred_cancel(&l->look);
    free(l);
    return NULL;
}

void line_look(struct line *l)
{
    ev_defer(l->d->loop, &l->look);
}

void line_enter(struct line *l, struct vm *vm)
{
    if (vm->waits || vm->holds_place)
        return;
    list_append(&l->waiting, &vm->in_line);
    vm->waits = true;
    line_look(l);
}

void line_leave(struct line *l, struct vm *vm)
{
    if (vm->waits)
        list_remove(&vm->in_line);
    if (vm->holds_place) {
        l->places_taken--;
        line_look(l);
    }
    vm->waits = vm->holds_place = false;
}
