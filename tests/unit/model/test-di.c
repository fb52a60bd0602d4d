// SPDX-License-Identifier: GPL-3.0-or-later
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/di.h"

static void test_version(void **state)
{
    static const char *const bad[] = {
        "2026-02-29-000", "2026-13-01-000",  "2026-00-01-000", "2026-01-32-000", "2026-1-01-000",
        "2026-01-01-00",  "2026-01-01-0000", "2026-01-01 000", "2026-01-01-00a", ""};
    struct di_version v;
    char s[DI_VERSION_MAX];

    assert_int_equal(di_version_parse("2024-02-29-017", &v), 0);
    assert_int_equal(v.year, 2024);
    assert_int_equal(v.month, 2);
    assert_int_equal(v.day, 29);
    assert_int_equal(v.number, 17);
    assert_int_equal(di_version_format(&v, s), 0);
    assert_string_equal(s, "2024-02-29-017");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(di_version_parse(bad[i], &v), -EINVAL);
    v.number = 1000;
    assert_int_equal(di_version_format(&v, s), -EINVAL);
}

/* UTC date, NNN from 000, the first with no same tag in the OSF (rest-api.md, di_create). */
static void test_next(void **state)
{
    const char *tags[] = {"head", "2026-11-21-000", "2026-11-21-001", "2026-11-21-003"};
    char s[DI_VERSION_MAX];

    assert_int_equal(di_version_next(2026, 11, 21, NULL, 0, s), 0);
    assert_string_equal(s, "2026-11-21-000");
    assert_int_equal(di_version_next(2026, 11, 21, tags, 4, s), 0);
    assert_string_equal(s, "2026-11-21-002");
    assert_int_equal(di_version_next(2026, 11, 22, tags, 4, s), 0);
    assert_string_equal(s, "2026-11-22-000");
    assert_int_equal(di_version_next(2026, 11, 31, tags, 4, s), -EINVAL);
    {
        static char names[1000][16];
        static const char *all[1000];

        for (int i = 0; i < 1000; i++) {
            snprintf(names[i], sizeof names[i], "2026-11-21-%03d", i % 1000);
            all[i] = names[i];
        }
        assert_int_equal(di_version_next(2026, 11, 21, all, 1000, s), -ENOSPC);
        assert_int_equal(di_version_next(2026, 11, 21, all, 999, s), 0);
        assert_string_equal(s, "2026-11-21-999");
    }
}

static void test_names(void **state)
{
    char longest[DI_TAG_MAX + 2];

    assert_true(di_tag_valid("default"));
    assert_true(di_tag_valid("größer"));
    assert_false(di_tag_valid(""));
    assert_false(di_tag_valid("a b"));
    assert_false(di_tag_valid("a,b"));
    assert_false(di_tag_valid("a\x7f"));
    assert_false(di_tag_valid("\xff"));
    memset(longest, 'a', sizeof longest);
    longest[DI_TAG_MAX] = 0;
    assert_true(di_tag_valid(longest));
    longest[DI_TAG_MAX] = 'a';
    longest[DI_TAG_MAX + 1] = 0;
    assert_false(di_tag_valid(longest));
    assert_true(di_tag_reserved("head"));
    assert_true(di_tag_reserved("2026-11-21-000"));
    assert_false(di_tag_reserved("default"));
    assert_true(di_version_valid("1.2.3_beta-4"));
    assert_false(di_version_valid(".hidden"));
    assert_false(di_version_valid("a/b"));
    assert_false(di_version_valid(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
