// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "fakes.h"

static struct hkd d;

static const char settings[] = "hkd.vm.starting.max = 2\n"
                               "hkd.vm.start.vma.timeout = 500ms\n"
                               "hkd.vm.start.network.timeout = 1500ms\n"
                               "hkd.vm.start.boot.timeout = 500ms\n"
                               "hkd.vm.stop.vma.timeout = 200ms\n"
                               "hkd.vm.stop.timeout = 200ms\n"
                               "hkd.vm.kill.term.timeout = 100ms\n"
                               "hkd.vm.kill.timeout = 100ms\n"
                               "hkd.vm.vma.ping.interval = 500ms\n"
                               "hkd.vm.vma.dead.failures = 2\n"
                               "hkd.vm.vma.dead.time = 500ms\n"
                               "hkd.vm.expire.soft.repeat = 1s\n";

static int set_up(void **state)
{
    memset(&fakes, 0, sizeof fakes);
    memset(&d, 0, sizeof d);
    log_set_level(LOG_LEVEL_OFF);
    d.conf = conf_new(NULL, NULL);
    assert_non_null(d.conf);
    assert_int_equal(conf_load_text(d.conf, "test", settings, strlen(settings), NULL), 0);
    assert_int_equal(ev_loop_new(&d.loop), 0);
    fakes.loop = d.loop;
    fakes.rpc_status = RPC_OK;
    for (int i = 0; i <= FAKE_VMS; i++)
        fakes.rows[i].due = (struct store_vm_due){STORE_NEVER, STORE_NEVER, STORE_NEVER, "", "", 0};
    d.vms = map_new_u64();
    d.host_id = 1;
    return line_new(&d, &d.line);
}

static int tear_down(void **state)
{
    for (int64_t id = 1; id <= FAKE_VMS; id++)
        vm_free(map_get_u64(d.vms, (uint64_t)id));
    d.line = line_free(d.line);
    d.vms = map_free(d.vms);
    d.loop = ev_loop_free(d.loop);
    d.conf = conf_free(d.conf);
    return 0;
}

static struct vm *get(int64_t id)
{
    return map_get_u64(d.vms, (uint64_t)id);
}

static enum vm_state state_of(int64_t id)
{
    return get(id) ? get(id)->state : VM_STOPPED;
}

/* Turns until the row says so; fails after 5 s. */
static void wait_row(int64_t id, enum vm_state wanted)
{
    int64_t end = clock_ms() + 5000;

    while (fakes.rows[id].state != wanted) {
        assert_true(clock_ms() < end);
        ev_loop_turn(d.loop, true);
    }
}

/* So many turns of what is due now. */
static void settle(void)
{
    for (int i = 0; i < 20; i++)
        ev_loop_turn(d.loop, false);
}

static void order(int64_t id)
{
    struct vm *vm = vm_new(&d, id);

    assert_non_null(vm);
    fakes.rows[id].mine = true;
    fakes.rows[id].order = VM_CMD_START;
    vm_row_take_start(vm, false);
    settle();
}

static void run(int64_t id)
{
    order(id);
    fake_started(id);
    fake_ready(id);
    wait_row(id, VM_RUNNING);
}

static void test_life(void **state)
{
    order(1);
    assert_int_equal(state_of(1), VM_STARTING_1);
    assert_int_equal(fakes.runs[1].launched, 1);
    fake_started(1);
    assert_int_equal(state_of(1), VM_STARTING_2);
    /* The event alone is not believed. */
    fakes.rpc_status = RPC_BAD_ANSWER;
    fake_ready(1);
    settle();
    assert_int_equal(state_of(1), VM_STARTING_2);
    assert_int_equal(fakes.pings, 1);
    fakes.rpc_status = RPC_OK;
    wait_row(1, VM_RUNNING);
    assert_int_equal(fakes.last_serial, 0);
    fakes.rows[1].order = VM_CMD_STOP;
    vm_row_look(get(1));
    wait_row(1, VM_STOPPING_2);
    assert_int_equal(fakes.poweroffs, 1);
    assert_int_equal(fakes.last_serial, 77);
    assert_int_equal(fakes.runs[1].termed, 0);
    fake_gone(1, NODE_END_STOPPED, "");
    wait_row(1, VM_STOPPED);
    settle();
    assert_null(get(1));
    assert_false(fakes.rows[1].mine);
    assert_string_equal(fakes.rows[1].reason, "");
}

/* Three reasons (issue of a failed start): each blocks with its name, and then kills. */
static void test_no_boot(void **state)
{
    order(1);
    fake_gone(1, NODE_END_FAILED, "image 5: no space left");
    wait_row(1, VM_STOPPED);
    assert_non_null(strstr(fakes.rows[1].reason, "no boot: "));
    assert_non_null(strstr(fakes.rows[1].reason, "no space left"));
    fakes.runs[2].fail = "busy";
    order(2);
    wait_row(2, VM_STOPPED);
    assert_string_equal(fakes.rows[2].reason, "no boot: busy");
    order(3);
    fake_started(3);
    fake_gone(3, NODE_END_CRASHED, "init is missing");
    wait_row(3, VM_STOPPED);
    assert_non_null(strstr(fakes.rows[3].reason, "no boot: "));
    /* Nothing at all happens. */
    order(4);
    wait_row(4, VM_ZOMBIE_2);
    assert_int_equal(fakes.runs[4].killed, 1);
    wait_row(4, VM_STOPPED);
    assert_non_null(strstr(fakes.rows[4].reason, "no boot: "));
}

static void test_no_network(void **state)
{
    fakes.rpc_status = RPC_UNREACHABLE;
    order(1);
    fake_started(1);
    fake_ready(1);
    wait_row(1, VM_ZOMBIE_1);
    assert_non_null(strstr(fakes.rows[1].reason, "no network: "));
    assert_true(fakes.pings >= 1);
    wait_row(1, VM_STOPPED);
    assert_int_equal(fakes.runs[1].termed, 1);
    assert_non_null(strstr(fakes.rows[1].reason, "no network: "));
}

static void test_no_vma(void **state)
{
    fakes.runs[1].deaf = true;
    order(1);
    fake_started(1);
    wait_row(1, VM_ZOMBIE_1);
    assert_non_null(strstr(fakes.rows[1].reason, "no VMA: "));
    wait_row(1, VM_ZOMBIE_2);
    wait_row(1, VM_STOPPED);
    assert_int_equal(fakes.runs[1].termed, 1);
    assert_int_equal(fakes.runs[1].killed, 1);
    /* A first process that ends before its agent has reported is a failed start; LXC does not tell
     * whether it powered off. One that reboots is started again, but not for ever. */
    order(2);
    fake_started(2);
    fake_gone(2, NODE_END_STOPPED, "its first process ended");
    wait_row(2, VM_STOPPED);
    assert_string_equal(fakes.rows[2].reason, "no boot: stopped: its first process ended");
    order(3);
    fake_started(3);
    fake_gone(3, NODE_END_REBOOT, "");
    settle();
    assert_string_equal(fakes.rows[3].reason, "");
    assert_int_equal(state_of(3), VM_STARTING_1);
    assert_int_equal(fakes.runs[3].launched, 2);
    fake_started(3);
    fake_gone(3, NODE_END_REBOOT, "");
    settle();
    assert_int_equal(fakes.runs[3].launched, 3);
    fake_started(3);
    fake_gone(3, NODE_END_REBOOT, "");
    wait_row(3, VM_STOPPED);
    settle();
    assert_string_equal(fakes.rows[3].reason, "no boot: the guest rebooted 3 times in a row before"
                                              " its agent answered");
    assert_null(get(3));
    /* An answer between them begins the count anew, and so does an order. */
    order(3);
    for (int boot = 0; boot < 6; boot++) {
        fake_started(3);
        if (boot % 3 == 2) {
            fake_ready(3);
            wait_row(3, VM_RUNNING);
        }
        fake_gone(3, NODE_END_REBOOT, "");
        settle();
    }
    assert_int_equal(state_of(3), VM_STARTING_1);
}

static void wait_looks(unsigned wanted)
{
    int64_t end = clock_ms() + 5000;

    while (fakes.looks < wanted) {
        assert_true(clock_ms() < end);
        ev_loop_turn(d.loop, true);
    }
    settle();
}

/* details.md, "Expirations executed": the agent at the soft time and after each pause; a look at
 * the hard one, and the row decides. */
static void test_due(void **state)
{
    struct store_vm_due *due = &fakes.rows[1].due;

    run(1);
    settle();
    assert_int_equal(fakes.looks, 0); /* nothing is due: nobody asks */
    due->soft_ms = 30;
    memcpy(due->soft, "2026-11-30T18:00:00Z", 21);
    due_set(get(1), due);
    due->soft_ms = -1;
    due->serial = 99;
    wait_looks(1);
    assert_int_equal(fakes.expires, 1);
    assert_int_equal(fakes.last_serial, 99);
    assert_string_equal(fakes.expire_body,
                        "{\"qvd.vm.expiration.soft\": \"2026-11-30T18:00:00Z\"}");
    /* A look between is no reason to tell it again; the pause (1 s) is. */
    vm_row_look(get(1));
    wait_looks(2);
    assert_int_equal(fakes.expires, 1);
    int64_t told = clock_ms();
    wait_looks(3);
    assert_true(clock_ms() - told > 700);
    assert_int_equal(fakes.expires, 2);
    /* Another time is another word. */
    memcpy(due->soft, "2026-11-30T19:00:00Z", 21);
    vm_row_look(get(1));
    wait_looks(4);
    assert_int_equal(fakes.expires, 3);
    fakes.rows[1].wish = STORE_VM_EXPIRED;
    vm_row_look(get(1));
    wait_row(1, VM_STOPPING_2);
    assert_int_equal(fakes.last_serial, 88);
    assert_null(get(1)->due);
    fake_gone(1, NODE_END_STOPPED, "");
    wait_row(1, VM_STOPPED);
}

static void test_idle(void **state)
{
    fakes.rows[1].due.idle_ms = 50;
    run(1);
    fakes.rows[1].wish = STORE_VM_IDLE;
    wait_row(1, VM_STOPPING_2);
    assert_int_equal(fakes.looks, 1);
    fake_gone(1, NODE_END_STOPPED, "");
    wait_row(1, VM_STOPPED);
}

static void test_line(void **state)
{
    for (int64_t id = 1; id <= 4; id++)
        order(id);
    assert_int_equal(fakes.runs[1].launched + fakes.runs[2].launched, 2);
    assert_int_equal(fakes.runs[3].launched + fakes.runs[4].launched, 0);
    fake_started(1);
    settle();
    assert_int_equal(fakes.runs[3].launched, 0);
    fake_ready(1);
    wait_row(1, VM_RUNNING);
    settle();
    assert_int_equal(fakes.runs[3].launched, 1);
    assert_int_equal(fakes.runs[4].launched, 0);
    /* One that fails makes room too, and one in the line can be stopped. */
    fakes.rows[4].order = VM_CMD_STOP;
    vm_row_look(get(4));
    wait_row(4, VM_STOPPED);
    assert_int_equal(fakes.runs[4].launched, 0);
    fake_gone(2, NODE_END_FAILED, "x");
    order(5);
    assert_int_equal(fakes.runs[5].launched, 1);
}

static void test_stop_by_force(void **state)
{
    run(1);
    fakes.rpc_status = RPC_TIMEOUT;
    fakes.runs[1].deaf = true;
    fakes.rows[1].order = VM_CMD_STOP;
    vm_row_look(get(1));
    wait_row(1, VM_ZOMBIE_1);
    wait_row(1, VM_STOPPED);
    assert_int_equal(fakes.runs[1].termed, 1);
    assert_int_equal(fakes.runs[1].killed, 1);
    assert_string_equal(fakes.rows[1].reason, "");
    /* An own order draws a serial. */
    fakes.rpc_status = RPC_OK;
    run(2);
    vm_event(get(2), VM_EV_STOP, "the node stops");
    wait_row(2, VM_STOPPING_2);
    assert_int_equal(fakes.last_serial, 88);
}

static void test_dead_agent(void **state)
{
    unsigned before;

    run(1);
    before = fakes.pings;
    while (fakes.pings < before + 2)
        ev_loop_turn(d.loop, true);
    assert_int_equal(state_of(1), VM_RUNNING);
    /* Our own helper's absence is not the VM's fault. */
    fakes.rpc_status = RPC_BUSY;
    before = fakes.pings;
    while (fakes.pings < before + 5)
        ev_loop_turn(d.loop, true);
    assert_int_equal(state_of(1), VM_RUNNING);
    fakes.rpc_status = RPC_TIMEOUT;
    wait_row(1, VM_STOPPED);
    assert_int_equal(fakes.runs[1].termed, 1);
}

static void test_ends_by_itself(void **state)
{
    run(1);
    fake_gone(1, NODE_END_CRASHED, "guard killed");
    assert_int_equal(state_of(1), VM_STOPPED);
    wait_row(1, VM_STOPPED);
    settle();
    assert_false(fakes.rows[1].mine);
    /* A reboot starts it again, as a new run. */
    run(2);
    fake_gone(2, NODE_END_REBOOT, "");
    wait_row(2, VM_STARTING_1);
    settle();
    assert_int_equal(fakes.runs[2].launched, 2);
    assert_true(fakes.rows[2].mine);
    /* But not one that was told to stop. */
    run(3);
    vm_event(get(3), VM_EV_STOP, "test");
    fake_gone(3, NODE_END_REBOOT, "");
    wait_row(3, VM_STOPPED);
    settle();
    assert_int_equal(fakes.runs[3].launched, 1);
}

/* A start that is ordered while it stops is obeyed when it has. */
static void test_ordered_again(void **state)
{
    run(1);
    fakes.runs[1].deaf = true;
    fakes.rows[1].order = VM_CMD_STOP;
    vm_row_look(get(1));
    wait_row(1, VM_ZOMBIE_1);
    fakes.rows[1].order = VM_CMD_START;
    wait_row(1, VM_STOPPED);
    wait_row(1, VM_STARTING_1);
    settle();
    assert_int_equal(fakes.runs[1].launched, 2);
    assert_true(fakes.rows[1].mine);
}

static void test_outage(void **state)
{
    run(1);
    run(2);
    fakes.runs[2].deaf = true;
    fakes.db_away = true;
    fake_gone(1, NODE_END_CRASHED, "x");
    vm_event(get(2), VM_EV_STOP, "test");
    settle();
    /* Without a serial it cannot ask, and goes on by TERM. */
    assert_int_equal(state_of(2), VM_ZOMBIE_1);
    assert_int_equal(fakes.rows[1].state, VM_RUNNING);
    fakes.db_away = false;
    vm_row_resend(get(1));
    vm_row_resend(get(2));
    wait_row(1, VM_STOPPED);
    wait_row(2, VM_STOPPED);
    /* An order that was not surely taken is left to the sweep. */
    fakes.db_away = true;
    order(3);
    assert_null(get(3));
    assert_int_equal(fakes.runs[3].launched, 0);
}

/* The answer is lost, the order is not: the sweep finds it again. And what was told to stop does
 * not start again because its guest reboots first. */
static void test_answer_lost(void **state)
{
    run(1);
    fakes.rows[1].order = VM_CMD_STOP;
    fakes.answer_lost = true;
    vm_row_look(get(1));
    settle();
    assert_int_equal(state_of(1), VM_RUNNING);
    assert_int_equal(fakes.sweeps, 1);
    vm_row_look(get(1));
    wait_row(1, VM_STOPPING_2);
    assert_int_equal(fakes.last_serial, 77);
    assert_int_equal(fakes.rows[1].order, VM_CMD_NONE);
    fake_gone(1, NODE_END_STOPPED, "");
    wait_row(1, VM_STOPPED);
    assert_false(fakes.rows[1].mine);
    run(2);
    fakes.rows[2].order = VM_CMD_STOP;
    fake_gone(2, NODE_END_REBOOT, "");
    wait_row(2, VM_STOPPED);
    settle();
    assert_null(get(2));
    assert_int_equal(fakes.runs[2].launched, 1);
}

static void test_lost(void **state)
{
    run(1);
    fakes.rows[1].mine = false;
    fakes.rows[1].told = 0;
    vm_event(get(1), VM_EV_STOP, "test");
    for (int64_t end = clock_ms() + 5000; get(1);) {
        assert_true(clock_ms() < end);
        ev_loop_turn(d.loop, true);
    }
    assert_int_equal(fakes.runs[1].killed, 1);
    assert_int_equal(fakes.rows[1].told, 0);
}

static void restore(int64_t id, enum vm_state s, bool found)
{
    struct store_vm_row row = {
        .vm_id = id,
        .state = s,
        .hypervisor = "lxc",
        .ip = "127.0.0.1",
        .has_secret = true,
        .order_id = 55,
    };
    struct vm *vm = vm_new(&d, id);

    assert_non_null(vm);
    fakes.rows[id].mine = true;
    fakes.rows[id].state = s;
    fakes.runs[id].found = found;
    vm_restore(vm, &row);
    settle();
}

/* hkd comes back, after its own restart or kill -9. */
static void test_adoption(void **state)
{
    restore(1, VM_RUNNING, true);
    assert_int_equal(state_of(1), VM_RUNNING);
    assert_int_equal(fakes.runs[1].launched, 0);
    restore(2, VM_RUNNING, false);
    wait_row(2, VM_STOPPED);
    assert_string_equal(fakes.rows[2].reason, "");
    restore(3, VM_STARTING_2, true);
    wait_row(3, VM_RUNNING);
    restore(4, VM_STARTING_1, false);
    assert_int_equal(state_of(4), VM_STARTING_1);
    assert_int_equal(fakes.runs[4].launched, 1);
    restore(5, VM_STOPPING_1, true);
    wait_row(5, VM_STOPPING_2);
    assert_int_equal(fakes.last_serial, 55);
    restore(6, VM_ZOMBIE_2, true);
    wait_row(6, VM_STOPPED);
    assert_int_equal(fakes.runs[6].killed, 1);
    /* What nobody's row tells of is ended, and no row is touched. */
    fakes.runs[7].found = true;
    vm_restore_orphan(&d, 7);
    settle();
    assert_int_equal(fakes.runs[7].killed, 1);
    assert_null(get(7));
    assert_int_equal(fakes.rows[7].told, 0);
}

static void test_no_image(void **state)
{
    fakes.rows[1].no_image = true;
    order(1);
    wait_row(1, VM_STOPPED);
    assert_string_equal(fakes.rows[1].reason, "");
    assert_int_equal(fakes.runs[1].launched, 0);
    /* A node that stops starts nothing, even what it has just taken. */
    fakes.stops = true;
    order(2);
    wait_row(2, VM_STOPPED);
    assert_int_equal(fakes.runs[2].launched, 0);
}

/* Each limit of the table of states is a duration of the settings table. */
static void test_limit_keys(void **state)
{
    for (int s = 0; s < VM_STATE_MAX; s++) {
        const char *key = vm_state_limit_key(s);

        if (!key)
            continue;
        assert_non_null(conf_find(key));
        assert_int_equal(conf_find(key)->type, CONF_DURATION);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_life),           TEST(test_no_boot),    TEST(test_no_network),
        TEST(test_no_vma),         TEST(test_line),       TEST(test_stop_by_force),
        TEST(test_dead_agent),     TEST(test_outage),     TEST(test_ordered_again),
        TEST(test_ends_by_itself), TEST(test_due),        TEST(test_idle),
        TEST(test_answer_lost),    TEST(test_lost),       TEST(test_adoption),
        TEST(test_no_image),       TEST(test_limit_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
