// SPDX-License-Identifier: GPL-3.0-or-later
/* LIST: a user's VMs as JSON. */
#include "base/str.h"
#include "l7r/broker/broker-internal.h"
#include "wire/l7r.h"

static must_check char *format(const struct store_l7r_vm *vms, size_t n)
{
    _cleanup_(free_p) struct wire_vm *out = calloc(n ? n : 1, sizeof *out);

    for (size_t i = 0; out && i < n; i++) {
        const char *state = vm_state_to_wire(vms[i].state);
        out[i].id = vms[i].id;
        out[i].blocked = vms[i].blocked;
        out[i].is_application = vms[i].is_application;
        if (str_copy(out[i].state, sizeof out[i].state, state ? state : "") < 0 ||
            str_copy(out[i].name, sizeof out[i].name, vms[i].name) < 0)
            return NULL;
    }
    return out ? wire_vm_list_format(out, n) : NULL;
}

/* A token for one VM shows only that one. */
static const struct store_l7r_vm *only(const struct store_l7r_vm *vms, size_t *n, uint64_t id)
{
    for (size_t i = 0; i < *n; i++)
        if (vms[i].id == id) {
            *n = 1;
            return vms + i;
        }
    *n = 0;
    return vms;
}

static void answered(void *arg, bool failed, const struct store_l7r_vm *vms, size_t n)
{
    struct session *s = arg;

    s->call = NULL;
    if (s->token_vm_id)
        vms = only(vms, &n, s->token_vm_id);
    if (failed)
        session_event(s, session_refuse(s, 503, "The database cannot be reached. Retry later"));
    else
        session_event(s, session_answer(s, "application/json",
                                        format(vms, n < WIRE_VM_LIST_MAX ? n : WIRE_VM_LIST_MAX)));
}

enum session_event step_list(struct session *s)
{
    if (s->lists && s->kind == L7R_LIST)
        s->call = store_l7r_list_of(s->broker->db, s->listed, s->n_listed, answered, s);
    else
        s->call = store_l7r_list(s->broker->db, s->user_id, s->kind == L7R_LIST_APPS, answered, s);
    return s->call ? SESSION_EV_NONE : session_refuse(s, 503, "out of memory");
}
