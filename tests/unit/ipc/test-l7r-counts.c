// SPDX-License-Identifier: GPL-3.0-or-later
/* Connections of an address, counted over processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "ipc/l7r-counts.h"

static void test_regions_are_added(void **state)
{
    struct l7r_counts *master = NULL, *worker = NULL;
    _cleanup_(close_p) int fd = -EBADF;

    assert_int_equal(l7r_counts_new(&master, &fd), 0);
    int a = l7r_counts_take_region(master), b = l7r_counts_take_region(master);
    assert_true(a >= 0 && b >= 0 && a != b);
    assert_int_equal(l7r_counts_open(fd, &worker), 0);
    assert_int_equal(l7r_counts_enter(worker, (unsigned)a, "192.0.2.1"), 1);
    assert_int_equal(l7r_counts_enter(master, (unsigned)b, "192.0.2.1"), 2);
    assert_int_equal(l7r_counts_enter(worker, (unsigned)a, "192.0.2.1"), 3);
    assert_int_equal(l7r_counts_enter(worker, (unsigned)a, "192.0.2.2"), 1);
    l7r_counts_leave(worker, (unsigned)a, "192.0.2.1");
    assert_int_equal(l7r_counts_enter(worker, (unsigned)a, "192.0.2.1"), 3);
    worker = l7r_counts_free(worker);
    master = l7r_counts_free(master);
}

static void test_what_a_dead_process_had_is_forgotten(void **state)
{
    struct l7r_counts *c = NULL;
    _cleanup_(close_p) int fd = -EBADF;

    assert_int_equal(l7r_counts_new(&c, &fd), 0);
    int mine = l7r_counts_take_region(c), dead = l7r_counts_take_region(c);
    assert_true(mine >= 0 && dead >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 5; i++)
            (void)l7r_counts_enter(c, (unsigned)dead, "2001:db8::1");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(l7r_counts_enter(c, (unsigned)mine, "2001:db8::1"), 6);
    l7r_counts_give_region(c, (unsigned)dead);
    l7r_counts_leave(c, (unsigned)mine, "2001:db8::1");
    assert_int_equal(l7r_counts_enter(c, (unsigned)mine, "2001:db8::1"), 1);
    /* The next owner begins with nothing. */
    assert_int_equal(l7r_counts_take_region(c), dead);
    assert_int_equal(l7r_counts_enter(c, (unsigned)dead, "2001:db8::1"), 2);
    c = l7r_counts_free(c);
}

static void test_strangers_do_not_count(void **state)
{
    struct l7r_counts *c = NULL;
    _cleanup_(close_p) int fd = -EBADF;
    char address[32];
    unsigned wrong = 0;

    assert_int_equal(l7r_counts_new(&c, &fd), 0);
    int region = l7r_counts_take_region(c);
    assert_int_equal(region, 0);
    /* 8000 connections (l7r.limit.connections) of as many addresses: some share a cell, hardly one
     * both. */
    for (unsigned i = 0; i < 8000; i++) {
        (void)snprintf(address, sizeof address, "10.1.%u.%u", i / 256, i % 256);
        wrong += l7r_counts_enter(c, 0, address) > 20;
    }
    assert_int_equal(wrong, 0);
    c = l7r_counts_free(c);
}

static void test_not_such_memory(void **state)
{
    struct l7r_counts *c = NULL;
    FILE *f = tmpfile();

    assert_non_null(f);
    assert_int_equal(l7r_counts_open(fileno(f), &c), -EBADMSG);
    fclose(f);
}

static void test_regions_end(void **state)
{
    struct l7r_counts *c = NULL;
    _cleanup_(close_p) int fd = -EBADF;

    assert_int_equal(l7r_counts_new(&c, &fd), 0);
    for (int i = 0; i < L7R_COUNTS_REGIONS; i++)
        assert_int_equal(l7r_counts_take_region(c), i);
    assert_int_equal(l7r_counts_take_region(c), -ENOSPC);
    l7r_counts_give_region(c, 7);
    assert_int_equal(l7r_counts_take_region(c), 7);
    c = l7r_counts_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regions_are_added),
        cmocka_unit_test(test_what_a_dead_process_had_is_forgotten),
        cmocka_unit_test(test_strangers_do_not_count),
        cmocka_unit_test(test_not_such_memory),
        cmocka_unit_test(test_regions_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
