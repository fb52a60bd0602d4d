// SPDX-License-Identifier: GPL-3.0-or-later
#include "fakes.h"

#include <string.h>

#include "hkd/hkd-internal.h"
#include "store/store.h"

struct fakes fakes;

/* --- database: answers come in the next turn --- */

struct db_result {
    enum db_status status;
    int rows;
    int64_t vm;
    enum vm_cmd order;
    int64_t number;
};
enum kind { TAKE, RETAKE, LOOK, SERIAL, TELL, STOPPED };
struct db_request {
    struct ev_timer *timer;
    enum kind kind;
    int64_t vm;
    enum vm_state state;
    bool restart;
    char reason[320];
    db_done_fn *done;
    void *arg;
};

static void take(struct db_request *q, struct db_result *r)
{
    struct fake_row *row = &fakes.rows[q->vm];
    bool fresh = row->state == VM_STOPPED && row->order == VM_CMD_START;

    if (!row->mine || !(q->kind == TAKE ? fresh : row->state == VM_STARTING_1))
        return;
    row->state = VM_STARTING_1;
    if (fresh)
        row->order = VM_CMD_NONE;
    r->rows = 1;
}

static bool ends(enum vm_state s)
{
    return s != VM_STARTING_1 && s != VM_STARTING_2 && s != VM_RUNNING;
}

static void tell(struct db_request *q, struct db_result *r)
{
    struct fake_row *row = &fakes.rows[q->vm];

    if (!row->mine || row->state == VM_STOPPED)
        return;
    row->state = q->state;
    row->told++;
    if (q->reason[0])
        memcpy(row->reason, q->reason, sizeof row->reason);
    if (q->kind == STOPPED) {
        bool again = !q->reason[0] && (row->order ? row->order == VM_CMD_START : q->restart);

        row->order = again ? VM_CMD_START : VM_CMD_NONE;
        row->mine = again;
    }
    if (ends(row->state) && row->order == VM_CMD_STOP)
        row->order = VM_CMD_NONE;
    r->rows = 1;
    r->order = row->order;
}

static void answer(void *arg)
{
    struct db_request *q = arg;
    struct fake_row *row = &fakes.rows[q->vm];
    struct db_result r = {.status = fakes.db_away ? DB_GONE : DB_OK, .vm = q->vm};

    if (r.status == DB_OK && (q->kind == TAKE || q->kind == RETAKE))
        take(q, &r);
    if (r.status == DB_OK && (q->kind == TELL || q->kind == STOPPED))
        tell(q, &r);
    if (r.status == DB_OK && q->kind == LOOK && row->mine) {
        fakes.looks++;
        r.rows = 1;
        r.number = row->order == VM_CMD_STOP ? 77 : 0;
        if (r.number && ends(row->state))
            row->order = VM_CMD_NONE;
        /* It has been done, but nobody hears of it. */
        if (fakes.answer_lost)
            r.status = DB_GONE;
        fakes.answer_lost = false;
    }
    if (r.status == DB_OK && q->kind == SERIAL) {
        r.rows = 1;
        r.number = 88;
    }
    ev_timer_free(q->timer);
    q->done(q->arg, &r);
    free(q);
}

static struct db_request *ask(enum kind kind, int64_t vm, db_done_fn *done, void *arg)
{
    struct db_request *q = calloc(1, sizeof *q);

    if (!q || ev_timer_new(fakes.loop, answer, q, &q->timer) < 0)
        abort();
    q->kind = kind;
    q->vm = vm;
    q->done = done;
    q->arg = arg;
    ev_timer_arm(q->timer, 0);
    return q;
}

void db_cancel(struct db_request *q)
{
    if (q)
        ev_timer_free(q->timer);
    free(q);
}

enum db_status db_status(const struct db_result *r)
{
    return r->status;
}

const char *db_error(const struct db_result *r)
{
    return r->status == DB_OK ? "" : "away";
}

struct db_request *store_vm_take_start(struct db *db, int64_t host, int64_t vm,
                                       const struct store_vm_ports *ports, const void *secret,
                                       db_done_fn *done, void *arg)
{
    return ask(TAKE, vm, done, arg);
}

struct db_request *store_vm_retake_start(struct db *db, int64_t host, int64_t vm,
                                         const struct store_vm_ports *ports, const void *secret,
                                         db_done_fn *done, void *arg)
{
    return ask(RETAKE, vm, done, arg);
}

int store_vm_read_start(const struct db_result *r, struct store_vm_start *ret,
                        struct qvd_error *err)
{
    if (!r->rows)
        return 0;
    *ret = (struct store_vm_start){
        .vm_id = r->vm,
        .di_id = fakes.rows[r->vm].no_image ? 0 : 5,
        .name = "vm",
        .tag = "default",
        .image = "5-x.tar",
        .hypervisor = "lxc",
        .ip = "127.0.0.1",
        .memory_mb = 512,
    };
    return 1;
}

struct db_request *store_vm_look(struct db *db, int64_t host, int64_t vm,
                                 const struct store_vm_rules *rules, db_done_fn *done, void *arg)
{
    return ask(LOOK, vm, done, arg);
}

int db_rows(const struct db_result *r)
{
    return r->rows;
}

bool store_vm_read_look(const struct db_result *r, struct store_vm_seen *ret)
{
    const struct fake_row *row = &fakes.rows[r->vm];

    *ret = (struct store_vm_seen){.wish = r->number ? STORE_VM_ORDERED : row->wish,
                                  .stop_serial = r->number,
                                  .due = row->due};
    return r->rows;
}

void store_vm_told_due(const struct db_result *r, struct store_vm_due *ret)
{
    *ret = fakes.rows[r->vm].due;
}

struct db_request *store_vm_serial(struct db *db, db_done_fn *done, void *arg)
{
    return ask(SERIAL, 0, done, arg);
}

int64_t store_vm_read_serial(const struct db_result *r)
{
    return r->number;
}

struct db_request *store_vm_tell(struct db *db, int64_t host, int64_t vm,
                                 const struct store_vm_news *news, db_done_fn *done, void *arg)
{
    struct db_request *q = ask(TELL, vm, done, arg);

    q->state = news->state;
    snprintf(q->reason, sizeof q->reason, "%s", news->reason ? news->reason : "");
    return q;
}

struct db_request *store_vm_stopped(struct db *db, int64_t host, int64_t vm, bool restart,
                                    const char *reason, db_done_fn *done, void *arg)
{
    struct db_request *q = ask(STOPPED, vm, done, arg);

    q->state = VM_STOPPED;
    q->restart = restart;
    snprintf(q->reason, sizeof q->reason, "%s", reason ? reason : "");
    return q;
}

bool store_vm_read_told(const struct db_result *r, int64_t *ret_instance, enum vm_cmd *ret_order)
{
    *ret_order = r->order;
    return r->rows;
}

void store_tell_api_later(struct db *db, const char *kind, int64_t id)
{
}

void store_vm_notify(struct db *db, int64_t vm, int64_t instance)
{
    fakes.notified++;
}

/* --- the node: reports when the test says so --- */

struct node_vm {
    int64_t id;
    struct ev_timer *timer;
    enum node_vm_end end;
    char text[64]; /* of its end: goes with it, as in the real one */
};

static void end_now(void *arg)
{
    struct node_vm *vm = arg;

    fake_gone(vm->id, vm->end, "ended");
}

static struct node_vm *run_new(int64_t id, const struct node_vm_fns *fns, void *arg)
{
    struct fake_run *run = &fakes.runs[id];

    run->run = calloc(1, sizeof *run->run);
    if (!run->run || ev_timer_new(fakes.loop, end_now, run->run, &run->run->timer) < 0)
        abort();
    run->run->id = id;
    run->fns = fns;
    run->arg = arg;
    return run->run;
}

int node_vm_start(struct node *n, const struct node_vm_spec *spec, const struct node_vm_fns *fns,
                  void *arg, struct node_vm **ret_vm, struct qvd_error *err)
{
    struct fake_run *run = &fakes.runs[spec->id];

    run->launched++;
    if (run->fail)
        return qvd_error_set(err, -EIO, "%s", run->fail);
    *ret_vm = run_new((int64_t)spec->id, fns, arg);
    return 0;
}

int node_vm_adopt(struct node *n, uint64_t id, const struct node_vm_fns *fns, void *arg,
                  struct node_vm **ret_vm, struct node_vm_exit *ret_exit, struct qvd_error *err)
{
    if (fakes.runs[id].found) {
        *ret_vm = run_new((int64_t)id, fns, arg);
        return 0;
    }
    *ret_exit = (struct node_vm_exit){NODE_END_CRASHED, 0, "no record"};
    return -ESRCH;
}

void node_vm_settle(struct node_vm *vm)
{
    fakes.runs[vm->id].settled++;
}

int node_vm_term(struct node_vm *vm)
{
    struct fake_run *run = &fakes.runs[vm->id];

    run->termed++;
    if (!run->deaf) {
        vm->end = NODE_END_STOPPED;
        ev_timer_arm(vm->timer, 0);
    }
    return 0;
}

int node_vm_kill(struct node_vm *vm)
{
    struct fake_run *run = &fakes.runs[vm->id];

    run->killed++;
    vm->end = NODE_END_KILLED;
    ev_timer_arm(vm->timer, 0);
    return 0;
}

int node_vm_pid(const struct node_vm *vm)
{
    return 4242;
}

struct node_vm *node_vm_free(struct node_vm *vm)
{
    if (!vm)
        return NULL;
    if (fakes.runs[vm->id].run == vm)
        fakes.runs[vm->id].run = NULL;
    ev_timer_free(vm->timer);
    free(vm);
    return NULL;
}

int node_lease_set(struct node *n, const struct node_lease *lease)
{
    return 0;
}

const char *node_vm_end_to_string(enum node_vm_end end)
{
    static const char *const words[] = {"failed", "stopped", "reboot", "killed", "crashed"};

    return words[end];
}

void fake_started(int64_t id)
{
    fakes.runs[id].fns->started(fakes.runs[id].arg);
}

void fake_ready(int64_t id)
{
    fakes.runs[id].fns->ready(fakes.runs[id].arg);
}

void fake_gone(int64_t id, enum node_vm_end end, const char *text)
{
    struct node_vm *run = fakes.runs[id].run;
    struct node_vm_exit e = {end, 0, run->text};

    snprintf(run->text, sizeof run->text, "%s", text);
    fakes.runs[id].fns->gone(fakes.runs[id].arg, &e);
}

/* --- qvd-rpc --- */

struct rpc_request {
    struct ev_timer *timer;
    rpc_client_fn *fn;
    void *arg;
};

static void rpc_answer(void *arg)
{
    struct rpc_request *q = arg;
    struct rpc_result r = {.status = fakes.rpc_status, .state = "", .text = "as the test says"};

    ev_timer_free(q->timer);
    q->fn(q->arg, &r);
    free(q);
}

int rpc_client_call(struct rpc_client *c, const struct rpc_call *call, int socket_fd,
                    rpc_client_fn *fn, void *arg, struct rpc_request **ret_request)
{
    struct rpc_request *q = calloc(1, sizeof *q);

    close(socket_fd);
    if (!q || ev_timer_new(fakes.loop, rpc_answer, q, &q->timer) < 0)
        abort();
    q->fn = fn;
    q->arg = arg;
    ev_timer_arm(q->timer, 0);
    if (strcmp(call->function, "ping") == 0)
        fakes.pings++;
    else if (strcmp(call->function, "poweroff") == 0)
        fakes.poweroffs++;
    else if (strcmp(call->function, "expire") == 0)
        fakes.expires++;
    if (strcmp(call->function, "expire") == 0)
        snprintf(fakes.expire_body, sizeof fakes.expire_body, "%s", call->body);
    fakes.last_serial = call->serial;
    *ret_request = q;
    return 0;
}

struct rpc_client *askers_next(struct askers *a)
{
    return NULL;
}

struct rpc_request *rpc_request_cancel(struct rpc_request *q)
{
    if (q)
        ev_timer_free(q->timer);
    free(q);
    return NULL;
}

/* --- the node's own life --- */

bool host_runs(const struct host *h)
{
    return !fakes.stops;
}

bool host_stops_vms(const struct host *h)
{
    return fakes.stops;
}

void orders_sweep_soon(struct orders *o)
{
    fakes.sweeps++;
}

void host_vm_gone(struct host *h)
{
}
