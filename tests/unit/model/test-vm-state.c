// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/fs.h"
#include "model/node-life.h"
#include "model/states.h"
#include "model/vm-state.h"

#define ALL_GUARDS (VM_IF_HAS_VMA | VM_IF_LAUNCHED | VM_IF_READY | VM_IF_REBOOTS)

/* The eight words of the manual and the five of the clients (rest-api.md, vm-lifecycle.md 5). */
static void test_words(void **state)
{
    static const char *const words[][2] = {
        {"stopped",    "stopped" },
        {"starting_1", "starting"},
        {"starting_2", "starting"},
        {"running",    "running" },
        {"stopping_1", "stopping"},
        {"stopping_2", "stopping"},
        {"zombie_1",   "zombie"  },
        {"zombie_2",   "zombie"  },
    };

    assert_int_equal(ARRAY_SIZE(words), VM_STATE_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        enum vm_state s = vm_state_from_string(words[i][0]);

        assert_int_not_equal(s, VM_STATE_INVALID);
        assert_string_equal(vm_state_to_string(s), words[i][0]);
        assert_string_equal(vm_state_to_wire(s), words[i][1]);
        assert_true(vm_state_matches(s, words[i][0]));
        assert_true(vm_state_matches(s, words[i][1]));
    }
    assert_false(vm_state_matches(VM_STARTING_1, "starting_2"));
    assert_false(vm_state_matches(VM_STATE_INVALID, "running"));
    assert_int_equal(vm_state_from_string("starting"), VM_STATE_INVALID);
    assert_int_equal(vm_state_from_string(NULL), VM_STATE_INVALID);
    assert_null(vm_state_to_wire(VM_STATE_MAX));
}

static void test_other_words(void **state)
{
    static const char *const hosts[] = {"stopped", "starting", "running", "stopping", "lost"};
    static const char *const users[] = {"disconnected", "connecting", "connected"};

    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
        assert_int_equal(host_state_from_string(hosts[i]), i);
    for (size_t i = 0; i < ARRAY_SIZE(users); i++)
        assert_int_equal(user_state_from_string(users[i]), i);
    assert_string_equal(vm_cmd_to_string(VM_CMD_START), "start");
    assert_string_equal(vm_cmd_to_string(VM_CMD_STOP), "stop");
    assert_null(vm_cmd_to_string(VM_CMD_NONE));
    assert_int_equal(di_state_from_string("upload_stalled"), DI_UPLOAD_STALLED);
    assert_int_equal(di_state_from_string("published"), DI_PUBLISHED);
}

/* Every state can be reached from stopped, and from every state stopped can be reached. */
static void test_reachable(void **state)
{
    size_t n;
    const struct vm_transition *t = vm_transitions(&n);

    for (int from = 0; from < VM_STATE_MAX; from++) {
        unsigned seen = 1u << from, before = 0;

        while (seen != before) {
            before = seen;
            for (size_t i = 0; i < n; i++)
                if (seen & 1u << t[i].in)
                    seen |= 1u << t[i].next;
        }
        assert_true(seen & 1u << VM_STOPPED);
        if (from == VM_STOPPED)
            assert_int_equal(seen, (1u << VM_STATE_MAX) - 1);
    }
}

/* Whatever holds: a waiting state has a limit, a row for it, and a way out by abort; and it knows
 * what to do with a hypervisor that ends and with hkd's return. */
static void test_limits(void **state)
{
    for (int s = 0; s < VM_STATE_MAX; s++) {
        bool rests = s == VM_STOPPED || s == VM_RUNNING;

        assert_int_equal(vm_state_limit_key(s) == NULL, rests);
        for (unsigned holds = 0; holds <= ALL_GUARDS; holds++) {
            assert_int_equal(vm_transition(s, VM_EV_LIMIT, holds) == NULL, rests);
            if (s == VM_STOPPED)
                continue;
            assert_non_null(vm_transition(s, VM_EV_ABORT, holds));
            assert_non_null(vm_transition(s, VM_EV_FOUND, holds));
            assert_non_null(vm_transition(s, VM_EV_GONE, holds));
            assert_non_null(vm_transition(s, VM_EV_EXITED, holds));
        }
    }
}

/* No row hides another, and the row that always holds is the last of its kind. */
static void test_rows(void **state)
{
    size_t n;
    const struct vm_transition *t = vm_transitions(&n);

    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(vm_transition(t[i].in, t[i].event, t[i].guard), &t[i]);
        /* An unnamed bit would be silently left out of log and documentation. */
        for (unsigned bit = 1; bit && bit <= t[i].actions; bit <<= 1)
            if (t[i].actions & bit)
                assert_non_null(vm_action_to_string(bit));
        /* Only what blocks a start may block, and always ends it. */
        if (t[i].actions & VM_DO_BLOCK) {
            assert_true(t[i].in == VM_STARTING_1 || t[i].in == VM_STARTING_2);
            assert_true(t[i].actions & (VM_DO_TERM | VM_DO_KILL | VM_DO_FINISH));
        }
        assert_int_equal(!!(t[i].actions & VM_DO_FINISH), t[i].next == VM_STOPPED);
        /* The sent signal is what the state is named after. */
        if (t[i].actions & VM_DO_TERM)
            assert_int_equal(t[i].next, VM_ZOMBIE_1);
        if (t[i].actions & VM_DO_KILL)
            assert_int_equal(t[i].next, VM_ZOMBIE_2);
    }
    for (int e = 0; e < VM_EV_MAX; e++) {
        bool used = false;

        assert_non_null(vm_event_to_string(e));
        for (size_t i = 0; i < n; i++)
            used = used || (int)t[i].event == e;
        assert_true(used);
    }
}

/* The same rules for the daemon: each step is reached, all end; one that waits for something has a
 * limit or asks again, and can be stopped. */
static void test_node_life(void **state)
{
    size_t n;
    const struct life_row *t = life_rows(&n);
    unsigned seen = 1u << LIFE_SCHEMA, before = 0;

    while (seen != before) {
        before = seen;
        for (size_t i = 0; i < n; i++)
            if (seen & 1u << t[i].in)
                seen |= 1u << t[i].next;
    }
    assert_int_equal(seen, (1u << LIFE_STEP_MAX) - 1);
    for (int s = 0; s < LIFE_STEP_MAX; s++) {
        unsigned from = 1u << s;
        bool ends = false;

        assert_int_equal(life_step_from_string(life_step_to_string(s)), s);
        assert_non_null(life_row(s, LIFE_EV_STOP));
        if (life_limit_key(s))
            assert_non_null(life_row(s, LIFE_EV_LIMIT));
        else
            assert_non_null(life_row(s, LIFE_EV_AGAIN));
        for (before = 0; from != before;) {
            before = from;
            for (size_t i = 0; i < n; i++) {
                if (!(from & 1u << t[i].in))
                    continue;
                from |= 1u << t[i].next;
                ends = ends || t[i].action == LIFE_DO_END;
            }
        }
        assert_true(ends);
    }
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(life_row(t[i].in, t[i].event), &t[i]);
        if (t[i].action != LIFE_DO_ENTER)
            assert_int_equal(t[i].in, t[i].next);
    }
}

static enum vm_state walk(const enum vm_event *events, size_t n, unsigned holds)
{
    enum vm_state s = VM_STOPPED;

    for (size_t i = 0; i < n; i++) {
        const struct vm_transition *t = vm_transition(s, events[i], holds);

        assert_non_null(t);
        s = t->next;
    }
    return s;
}

#define WALK(holds, ...)                                                                           \
    walk((const enum vm_event[]){__VA_ARGS__},                                                     \
         sizeof((const enum vm_event[]){__VA_ARGS__}) / sizeof(enum vm_event), holds)

/* architecture: stopped, starting_1, starting_2, running, stopping_1, stopping_2, stopped; TERM and
 * then KILL where asking does not help; a failed start blocks. */
static void test_lives(void **state)
{
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START), VM_STARTING_1);
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_TURN), VM_STARTING_1);
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_TURN, VM_EV_STARTED), VM_STARTING_2);
    assert_int_equal(
        WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_TURN, VM_EV_STARTED, VM_EV_READY, VM_EV_ALIVE),
        VM_RUNNING);
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_STARTED, VM_EV_ALIVE, VM_EV_STOP),
                     VM_STOPPING_1);
    assert_int_equal(
        WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_STARTED, VM_EV_ALIVE, VM_EV_STOP, VM_EV_ANSWERED),
        VM_STOPPING_2);
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_STARTED, VM_EV_ALIVE, VM_EV_STOP,
                          VM_EV_ANSWERED, VM_EV_EXITED),
                     VM_STOPPED);
    assert_int_equal(WALK(VM_IF_HAS_VMA, VM_EV_START, VM_EV_STARTED, VM_EV_ALIVE, VM_EV_STOP,
                          VM_EV_LIMIT, VM_EV_LIMIT, VM_EV_LIMIT),
                     VM_ZOMBIE_2);
    assert_int_equal(WALK(0, VM_EV_START, VM_EV_STARTED, VM_EV_ALIVE, VM_EV_STOP), VM_ZOMBIE_1);
    assert_int_equal(WALK(0, VM_EV_START, VM_EV_STOP), VM_STOPPED);
    assert_int_equal(vm_transition(VM_STARTING_1, VM_EV_LIMIT, VM_IF_LAUNCHED)->actions,
                     VM_DO_BLOCK_BOOT | VM_DO_KILL);
    assert_int_equal(vm_transition(VM_STARTING_2, VM_EV_LIMIT, VM_IF_LAUNCHED)->actions,
                     VM_DO_BLOCK_VMA | VM_DO_TERM);
    assert_int_equal(vm_transition(VM_STARTING_2, VM_EV_LIMIT, VM_IF_READY)->actions,
                     VM_DO_BLOCK_NETWORK | VM_DO_TERM);
}

/* docs/vm-states.md is what the table prints. */
static void test_documented(void **state)
{
    _cleanup_(free_p) char *doc = NULL, *table = NULL, *steps = NULL;
    char path[512];
    size_t doc_len, len;
    FILE *f = open_memstream(&table, &len);

    assert_non_null(f);
    vm_state_print(f);
    assert_int_equal(fclose(f), 0);
    f = open_memstream(&steps, &len);
    assert_non_null(f);
    life_print(f);
    assert_int_equal(fclose(f), 0);
    snprintf(path, sizeof path, "%s/docs/vm-states.md", getenv("QVD_SOURCE"));
    assert_int_equal(fs_read(path, 65536, &doc, &doc_len), 0);
    if (!strstr(doc, table) || !strstr(doc, steps))
        fail_msg("docs/vm-states.md differs from the table; write it anew: meson compile docs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),      cmocka_unit_test(test_other_words),
        cmocka_unit_test(test_reachable),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_lives),
        cmocka_unit_test(test_documented), cmocka_unit_test(test_node_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
