// SPDX-License-Identifier: GPL-3.0-or-later
/* When the end of a certificate is announced: 30, 14 and 3 days before, and when it is there; each
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "l7r/master/expiry.h"

#define DAY 86400LL
#define END (1000 * DAY)

static void test_each_is_said_once(void **state)
{
    static const struct {
        int64_t before; /* seconds before the end */
        enum expiry_word word;
        int64_t days;
    } rows[] = {
        {100 * DAY,    EXPIRY_NOTHING, 0 },
        {30 * DAY + 1, EXPIRY_NOTHING, 0 },
        {30 * DAY,     EXPIRY_SOON,    30},
        {29 * DAY,     EXPIRY_NOTHING, 0 },
        {14 * DAY + 1, EXPIRY_NOTHING, 0 },
        {14 * DAY - 1, EXPIRY_SOON,    13},
        {4 * DAY,      EXPIRY_NOTHING, 0 },
        {3 * DAY,      EXPIRY_SOON,    3 },
        {2 * DAY,      EXPIRY_NOTHING, 0 },
        {1,            EXPIRY_NOTHING, 0 },
        {0,            EXPIRY_OVER,    0 },
        {-DAY,         EXPIRY_NOTHING, 0 },
    };
    struct expiry e = {.when = END};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t days = 0;
        assert_int_equal(expiry_due(&e, END - rows[i].before, &days), rows[i].word);
        assert_int_equal(days, rows[i].days);
    }
}

static void test_first_seen_late(void **state)
{
    struct expiry two_days = {.when = END}, over = {.when = END}, never = {0};
    int64_t days = 0;

    assert_int_equal(expiry_due(&two_days, END - 2 * DAY, &days), EXPIRY_SOON);
    assert_int_equal(days, 2);
    assert_int_equal(expiry_due(&two_days, END - DAY, &days), EXPIRY_NOTHING);
    assert_int_equal(expiry_due(&over, END + 5, &days), EXPIRY_OVER);
    assert_int_equal(expiry_due(&never, END, &days), EXPIRY_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_said_once),
        cmocka_unit_test(test_first_seen_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
