// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/addrs.h"

static void test_words(void **state)
{
    static const struct {
        const char *word;
        int result;
    } rows[] = {
        {"192.0.2.1",      0      },
        {"192.0.2.0/24",   0      },
        {"0.0.0.0/0",      0      },
        {"192.0.2.1/32",   0      },
        {"::1",            0      },
        {"2001:db8::/32",  0      },
        {"::/0",           0      },
        {"192.0.2.1/33",   -EINVAL},
        {"2001:db8::/129", -EINVAL},
        {"192.0.2.1/",     -EINVAL},
        {"192.0.2.1/-1",   -EINVAL},
        {"192.0.2.1/8/8",  -EINVAL},
        {"192.0.2",        -EINVAL},
        {"balancer",       -EINVAL},
        {"",               -EINVAL},
        {"*",              -EINVAL},
        {"192.0.2.1 ",     -EINVAL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct addrs a;
        a.n = 0;
        assert_int_equal(addrs_add(&a, rows[i].word), rows[i].result);
        assert_int_equal(a.n, rows[i].result == 0);
    }
}

static void test_have(void **state)
{
    static const struct {
        const char *word, *address;
        bool there;
    } rows[] = {
        {"192.0.2.1",      "192.0.2.1",        true },
        {"192.0.2.1",      "192.0.2.2",        false},
        {"192.0.2.1",      "::ffff:192.0.2.1", true },
        {"192.0.2.0/24",   "192.0.2.255",      true },
        {"192.0.2.0/24",   "192.0.3.0",        false},
        {"192.0.2.128/25", "192.0.2.127",      false},
        {"192.0.2.128/25", "192.0.2.200",      true },
        {"10.0.0.0/7",     "11.255.0.1",       true },
        {"10.0.0.0/7",     "12.0.0.0",         false},
        {"0.0.0.0/0",      "203.0.113.9",      true },
        {"0.0.0.0/0",      "2001:db8::1",      false},
        {"2001:db8::/32",  "2001:db8:ffff::1", true },
        {"2001:db8::/32",  "2001:db9::1",      false},
        {"::/0",           "192.0.2.1",        true }, /* mapped */
        {"192.0.2.1",      "nonsense",         false},
        {"192.0.2.1",      "",                 false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct addrs a;
        a.n = 0;
        assert_false(addrs_have(&a, rows[i].address));
        assert_int_equal(addrs_add(&a, rows[i].word), 0);
        assert_int_equal(addrs_have(&a, rows[i].address), rows[i].there);
    }
}

static void test_too_many(void **state)
{
    static struct addrs a;

    for (int i = 0; i < ADDRS_MAX; i++)
        assert_int_equal(addrs_add(&a, "192.0.2.1"), 0);
    assert_int_equal(addrs_add(&a, "192.0.2.1"), -ENOSPC);
    assert_int_equal(a.n, ADDRS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_have),
        cmocka_unit_test(test_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
