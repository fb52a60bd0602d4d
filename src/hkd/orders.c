// SPDX-License-Identifier: GPL-3.0-or-later
/* What the database wants of the node: notifications, and the sweep that repairs lost ones. Both do
 * the same: they look at rows, never believe a payload. */
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"
#include "model/net.h"
#include "store/host.h"

#define RETRY_MS 1000
/* VMs under a guard that no row knows: more are ended at the next start. */
#define ORPHANS_MAX 4096

struct orders {
    struct hkd *d;
    char channel[32];
    struct ev_timer *timer;
    bool runs;                           /* sweeps of itself */
    struct db_request *sweeping, *chore; /* the rows; what follows them */
    struct db_request *own;              /* the order to the node */
    bool own_missed;                     /* it could not be asked for */
    bool with_keys, want_keys;           /* the present sweep has the VMs' keys; the next shall */
    bool again;                          /* another sweep was asked for meanwhile */
    uint64_t sweep;                      /* number of the present one */
    void (*done)(void *arg);
    void *done_arg;
    char mark[64]; /* of the leases that dnsmasq has */
};

static void begin(struct orders *o);

static void arm(struct orders *o, const char *key, int64_t ms)
{
    ev_timer_arm_jittered(o->timer, (uint64_t)(key ? conf_ms(o->d->conf, key) : ms), 20);
}

static void failed(struct orders *o, const char *what, const struct db_result *r)
{
    log_warning("%s, trying again: %s", what, db_error(r));
    o->sweeping = o->chore = NULL;
    arm(o, NULL, RETRY_MS);
}

static void ended(struct orders *o)
{
    void (*done)(void *arg) = o->done;

    o->chore = NULL;
    if (o->runs)
        arm(o, "hkd.sweep.interval", 0);
    o->done = NULL;
    if (done)
        done(o->done_arg);
    if (o->again)
        begin(o);
}

/* The addresses of the whole farm, for dnsmasq. */
static int add_lease(struct orders *o, const struct db_result *r, int row, struct node_lease *l,
                     char *mac)
{
    const char *ip = db_str(r, row, 1);
    uint32_t v;

    if (!ip || net_ip4_parse(ip, &v) < 0 ||
        net_mac(conf_str(o->d->conf, "vm.network.mac.prefix"), v, mac) < 0)
        return -EINVAL;
    *l = (struct node_lease){(uint64_t)db_int(r, row, 0), ip, mac};
    return 0;
}

static void on_addresses(void *arg, const struct db_result *r)
{
    struct orders *o = arg;
    _cleanup_(free_p) struct node_lease *leases = NULL;
    _cleanup_(free_p) char(*macs)[NET_MAC_STR] = NULL;
    size_t n = 0, rows = (size_t)db_rows(r);
    int e;

    if (db_status(r) != DB_OK) {
        o->mark[0] = 0;
        failed(o, "addresses of the VMs", r);
        return;
    }
    leases = calloc(rows + 1, sizeof *leases);
    macs = calloc(rows + 1, sizeof *macs);
    for (size_t i = 0; leases && macs && i < rows; i++)
        if (add_lease(o, r, (int)i, &leases[n], macs[n]) == 0)
            n++;
    e = leases && macs ? node_lease_all(o->d->node, leases, n) : -ENOMEM;
    if (e < 0) {
        log_warning("DHCP leases, trying again: %s", strerror(-e));
        o->mark[0] = 0;
    }
    ended(o);
}

static void on_mark(void *arg, const struct db_result *r)
{
    struct orders *o = arg;
    const char *mark;

    o->chore = NULL;
    if (db_status(r) != DB_OK) {
        failed(o, "addresses of the VMs", r);
        return;
    }
    mark = db_str(r, 0, 0);
    if (mark && strcmp(mark, o->mark) != 0 && str_copy(o->mark, sizeof o->mark, mark) == 0) {
        o->chore = store_vm_addresses(o->d->db, on_addresses, o);
        if (o->chore)
            return;
    }
    ended(o);
}

static void on_count(void *arg, const struct db_result *r)
{
    struct orders *o = arg;

    o->chore = NULL;
    if (db_status(r) != DB_OK) {
        failed(o, "counting the node's VMs", r);
        return;
    }
    if (db_rows(r))
        log_warning("the node had %lld VMs assigned but %lld rows: mended",
                    (long long)db_int(r, 0, 0), (long long)db_int(r, 0, 1));
    o->chore = store_vm_addresses_mark(o->d->db, on_mark, o);
    if (!o->chore)
        ended(o);
}

static void on_released(void *arg, const struct db_result *r)
{
    struct orders *o = arg;

    o->chore = NULL;
    if (db_status(r) != DB_OK) {
        failed(o, "giving back VMs that are not ordered", r);
        return;
    }
    for (int i = 0; i < db_rows(r); i++) {
        log_warning("[vm:%lld] was assigned here but not ordered: given back",
                    (long long)db_int(r, i, 0));
        store_vm_notify(o->d->db, db_int(r, i, 0), 0);
    }
    o->chore = store_host_count(o->d->db, o->d->host_id, on_count, o);
    if (!o->chore)
        ended(o);
}

/* One row against what is here. true: nothing runs and nothing is ordered. */
static bool compare(struct orders *o, const struct store_vm_row *row)
{
    struct hkd *d = o->d;
    struct vm *vm = map_get_u64(d->vms, (uint64_t)row->vm_id);

    if (vm) {
        vm->seen = o->sweep;
        if (!vm_row_busy(vm) && vm->state != row->state && vm->state != VM_STOPPED)
            vm_row_tell(vm);
        /* An order to start one that runs: its restart had begun. */
        if (row->order == VM_CMD_STOP || (row->order && row->state == VM_RUNNING))
            vm_row_look(vm);
        else if (row->state == VM_RUNNING)
            due_set(vm, &row->due);
        return false;
    }
    if (row->state == VM_STOPPED && row->order != VM_CMD_START)
        return true;
    if (row->state == VM_STOPPED && !host_runs(d->host))
        return false;
    /* Runs here since before us, and could not be taken over then: with its key. */
    if (row->state != VM_STOPPED && !o->with_keys) {
        o->want_keys = o->again = true;
        return false;
    }
    vm = vm_new(d, row->vm_id);
    if (!vm)
        return false;
    vm->seen = o->sweep;
    if (row->state == VM_STOPPED)
        vm_row_take_start(vm, false);
    else
        vm_restore(vm, row);
    return false;
}

/* What is here but in no row. Ended VMs leave the map later: the walk may go on. */
static void abort_unseen(struct orders *o)
{
    size_t at = 0;
    struct vm *vm;

    while ((vm = map_next(o->d->vms, &at, NULL)))
        if (vm->seen < o->sweep && !vm->lost && !vm_row_busy(vm) && vm->state != VM_STOPPED)
            vm_disown(vm, "no row of this node's");
}

static void end_orphans(struct hkd *d)
{
    _cleanup_(free_p) uint64_t *ids = calloc(ORPHANS_MAX, sizeof *ids);
    size_t n = ids ? node_running(d->node, ids, ORPHANS_MAX) : 0;

    for (size_t i = 0; i < n && i < ORPHANS_MAX; i++)
        if (!map_get_u64(d->vms, ids[i]))
            vm_restore_orphan(d, (int64_t)ids[i]);
}

static void on_rows(void *arg, const struct db_result *r)
{
    struct orders *o = arg;
    bool idle = false;

    o->sweeping = NULL;
    if (db_status(r) != DB_OK) {
        failed(o, "the node's VMs", r);
        return;
    }
    for (int i = 0; i < db_rows(r); i++) {
        struct store_vm_row row;

        if (store_vm_read_row(r, i, &row) < 0) {
            log_error("[vm:%lld] its row cannot be read", (long long)db_int(r, i, 0));
            continue;
        }
        idle = compare(o, &row) || idle;
        explicit_bzero(&row.secret, sizeof row.secret);
    }
    abort_unseen(o);
    if (!o->runs)
        end_orphans(o->d);
    if (idle)
        o->chore = store_vm_release(o->d->db, o->d->host_id, on_released, o);
    else
        o->chore = store_host_count(o->d->db, o->d->host_id, on_count, o);
    if (!o->chore)
        ended(o);
}

static void begin(struct orders *o)
{
    if (o->sweeping || o->chore) {
        o->again = true;
        return;
    }
    o->again = false;
    o->sweep++;
    o->with_keys = !o->runs || o->want_keys;
    o->want_keys = false;
    o->sweeping =
        store_vm_of_host(o->d->db, o->d->host_id, o->with_keys, due_idle_minutes(o->d), on_rows, o);
    if (!o->sweeping)
        arm(o, NULL, RETRY_MS);
}

static void look_own(struct orders *o);

static void on_timer(void *arg)
{
    struct orders *o = arg;

    if (o->own_missed)
        look_own(o);
    begin(o);
}

static void on_own_order(void *arg, const struct db_result *r)
{
    struct orders *o = arg;

    o->own = NULL;
    o->own_missed = db_status(r) != DB_OK;
    if (o->own_missed)
        orders_sweep_soon(o);
    if (db_rows(r) == 0)
        return;
    log_info("ordered: %s", db_str(r, 0, 0));
    if (str_eq(db_str(r, 0, 0), "stop"))
        host_stop(o->d->host, true);
}

static void look_own(struct orders *o)
{
    if (!o->own)
        o->own = store_host_order(o->d->db, o->d->host_id, on_own_order, o);
}

static void look_at(struct orders *o, int64_t id)
{
    struct vm *vm = map_get_u64(o->d->vms, (uint64_t)id);

    if (vm) {
        vm_row_look(vm);
        return;
    }
    vm = vm_new(o->d, id);
    if (vm)
        vm_row_take_start(vm, false);
}

static void on_notify(void *arg, const char *channel, const char *payload)
{
    struct orders *o = arg;
    int64_t id;

    if (!o->runs || !host_runs(o->d->host))
        return;
    if (str_starts(payload, "vm ") && str_to_i64(payload + 3, 1, INT64_MAX, &id) == 0)
        look_at(o, id);
    else if (str_starts(payload, "host "))
        look_own(o);
}

int orders_new(struct hkd *d, struct orders **ret_orders)
{
    struct orders *o = calloc(1, sizeof *o);

    if (!o)
        return -ENOMEM;
    o->d = d;
    if (ev_timer_new(d->loop, on_timer, o, &o->timer) < 0) {
        free(o);
        return -ENOMEM;
    }
    *ret_orders = o;
    return 0;
}

struct orders *orders_free(struct orders *o)
{
    if (!o)
        return NULL;
    db_cancel(o->sweeping);
    db_cancel(o->chore);
    db_cancel(o->own);
    if (o->channel[0])
        db_unlisten(o->d->db, o->channel);
    ev_timer_free(o->timer);
    free(o);
    return NULL;
}

int orders_listen(struct orders *o)
{
    int r;

    if (o->channel[0])
        return 0;
    r = str_format(o->channel, sizeof o->channel, "h%lld", (long long)o->d->host_id);
    return r < 0 ? r : db_listen(o->d->db, o->channel, on_notify, o);
}

void orders_sweep(struct orders *o, void (*done)(void *arg), void *arg)
{
    if (done) {
        o->done = done;
        o->done_arg = arg;
    }
    begin(o);
}

void orders_sweep_soon(struct orders *o)
{
    if (o->runs)
        arm(o, NULL, RETRY_MS);
}

void orders_run(struct orders *o)
{
    o->runs = true;
    look_own(o);
    begin(o);
}
