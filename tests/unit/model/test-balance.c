// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "model/balance.h"

static double fixed(void *arg)
{
    const double **next = arg;

    return *(*next)++;
}

static bool near(double a, double b)
{
    return a - b < 1e-9 && b - a < 1e-9;
}

/* w_ram x free RAM share + w_cpu x idle CPU share + w_random x U(0,1), shares after subtracting
 * what is reserved: 1 x (0.5 - 512/4096) + 2 x (0.75 - 0.25) + 4 x 0.5 = 3.375. */
static void test_formula(void **state)
{
    struct balance_node n = {1, 4096, 0.5, 0.75, 512, 0.25, 3};
    struct balance_weights w = {1, 2, 4, 0};

    assert_true(near(balance_plugin("default")(&n, &w, 0.5), 3.375));
    assert_true(near(balance_room(&n), 1536));
    n.reserved_ram = 4096;
    n.reserved_cpu = 1;
    assert_true(near(balance_plugin("default")(&n, &w, 0.5), 2));
    assert_true(near(balance_room(&n), 0));
    assert_null(balance_plugin("best"));
}

static void test_choice(void **state)
{
    const struct balance_node nodes[] = {
        {1, 8192, 0.25, 0.9, 0,    0, 1},
        {2, 8192, 0.75, 0.5, 0,    0, 1},
        {3, 8192, 0.75, 0.5, 5120, 0, 9},
    };
    const struct balance_weights w = {1, 1, 1, 0}, by_ram = {1, 0, 0, 0};
    const double even[] = {0, 0, 0}, odd[] = {0.9, 0, 0};
    const double *u = even;
    size_t most = 99;

    /* 1.15, 1.25, 0.625 */
    assert_int_equal(balance_choose(balance_plugin("default"), nodes, 3, &w, 512, fixed, &u, &most),
                     1);
    assert_int_equal(most, 99);
    u = odd;
    assert_int_equal(balance_choose(balance_plugin("default"), nodes, 3, &w, 512, fixed, &u, NULL),
                     0);
    u = even;
    assert_int_equal(
        balance_choose(balance_plugin("default"), nodes, 3, &by_ram, 512, fixed, &u, NULL), 1);
    /* Only the second has 3,000 MB left. */
    u = odd;
    assert_int_equal(balance_choose(balance_plugin("random"), nodes, 3, &w, 3000, fixed, &u, NULL),
                     1);
    u = even;
    assert_int_equal(
        balance_choose(balance_plugin("default"), nodes, 3, &w, 6145, fixed, &u, &most), -1);
    assert_int_equal(most, 1);
    char text[200];
    balance_refusal(text, sizeof text, 6145, 3, &nodes[most], "node2");
    assert_string_equal(text, "it needs 6145 MB (memory of its OSF) and no node has them free: the "
                              "roomiest of 3, node2, has 6144 MB, 1 too few");
    u = even;
    assert_int_equal(balance_choose(balance_plugin("default"), nodes, 0, &w, 1, fixed, &u, &most),
                     -1);
    balance_refusal(text, sizeof text, 1, 0, NULL, NULL);
    assert_non_null(strstr(text, "no node runs VMs now"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_choice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
