// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/str.h"

static void copies_tell_when_they_do_not_fit(void **state)
{
    char dst[4];

    assert_int_equal(str_copy(dst, sizeof dst, "abc"), 0);
    assert_string_equal(dst, "abc");
    assert_int_equal(str_copy(dst, sizeof dst, "abcd"), -ENOBUFS);
    assert_string_equal(dst, "");
    assert_int_equal(str_copy_n(dst, sizeof dst, "a\0b", 3), -EINVAL);
    assert_int_equal(str_format(dst, sizeof dst, "%d", 999), 0);
    assert_int_equal(str_format(dst, sizeof dst, "%d", 1000), -ENOBUFS);
    assert_string_equal(dst, "");
}

static void numbers_are_whole_and_bounded(void **state)
{
    static const struct {
        const char *text;
        int result;
        int64_t value;
    } rows[] = {
        {"0",                    0,       0  },
        {"-5",                   0,       -5 },
        {"100",                  0,       100},
        {"101",                  -ERANGE, 0  },
        {"-6",                   -ERANGE, 0  },
        {"",                     -EINVAL, 0  },
        {"-",                    -EINVAL, 0  },
        {"1 ",                   -EINVAL, 0  },
        {"+1",                   -EINVAL, 0  },
        {"0x1",                  -EINVAL, 0  },
        {"99999999999999999999", -ERANGE, 0  },
    };
    uint64_t u;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int64_t value = 0;
        assert_int_equal(str_to_i64(rows[i].text, -5, 100, &value), rows[i].result);
        assert_int_equal(value, rows[i].value);
    }
    int64_t least;
    assert_int_equal(str_to_i64("-9223372036854775808", INT64_MIN, 0, &least), 0);
    assert_true(least == INT64_MIN);
    assert_int_equal(str_to_u64("18446744073709551615", UINT64_MAX, &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(str_to_u64("18446744073709551616", UINT64_MAX, &u), -ERANGE);
}

/* RFC 4648, section 10. */
static void base64_has_the_vectors_of_the_rfc(void **state)
{
    static const char *const rows[][2] = {
        {"",       ""        },
        {"f",      "Zg=="    },
        {"fo",     "Zm8="    },
        {"foo",    "Zm9v"    },
        {"foob",   "Zm9vYg=="},
        {"fooba",  "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_(free_p) char *text = base64_encode(rows[i][0], strlen(rows[i][0]));
        _cleanup_(free_p) uint8_t *data = NULL;
        size_t len;
        assert_string_equal(text, rows[i][1]);
        assert_int_equal(base64_decode(text, strlen(text), &data, &len), 0);
        assert_int_equal(len, strlen(rows[i][0]));
        assert_string_equal((char *)data, rows[i][0]);
    }
}

static void base64_bears_what_clients_send_and_no_more(void **state)
{
    uint8_t *data;
    size_t len;

    assert_int_equal(base64_decode("Zm8\n", 4, &data, &len), 0); /* no padding, a newline */
    assert_string_equal((char *)data, "fo");
    free(data);
    assert_int_equal(base64_decode("Z", 1, &data, &len), -EINVAL);
    assert_int_equal(base64_decode("Zm 8", 4, &data, &len), -EINVAL);
    assert_int_equal(base64_decode("Zm\0v", 4, &data, &len), -EINVAL);
    assert_int_equal(base64_decode("Zg==Zg==", 8, &data, &len), -EINVAL);
}

static void hex_goes_both_ways(void **state)
{
    uint8_t bytes[3] = {0, 0x7f, 0xff}, back[3];
    char text[7];

    hex_encode(bytes, 3, text);
    assert_string_equal(text, "007fff");
    assert_int_equal(hex_decode("007FfF", 6, back, 3), 0);
    assert_memory_equal(bytes, back, 3);
    assert_int_equal(hex_decode("007ff", 5, back, 3), -EINVAL);
    assert_int_equal(hex_decode("007ffg", 6, back, 3), -EINVAL);
}

/* RFC 3629: overlong forms, surrogates and beyond U+10FFFF are no UTF-8. */
static void utf8_is_strict(void **state)
{
    static const struct {
        const char *bytes;
        bool valid;
    } rows[] = {
        {"",                 true },
        {"ab",               true },
        {"\xc3\xb1",         true },
        {"\xe2\x82\xac",     true },
        {"\xf0\x9f\x98\x80", true },
        {"\xf4\x8f\xbf\xbf", true },
        {"\xc0\x80",         false},
        {"\xe0\x80\x80",     false},
        {"\xed\xa0\x80",     false},
        {"\xf4\x90\x80\x80", false},
        {"\xff",             false},
        {"\xc3",             false},
        {"\x80",             false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(utf8_valid(rows[i].bytes, strlen(rows[i].bytes)), rows[i].valid);
    assert_false(utf8_valid("a\0b", 3));
}

static void small_helpers(void **state)
{
    char blanks[] = " \t a b \r\n", random[33], other[33];

    assert_string_equal(str_trim(blanks), "a b");
    assert_int_equal(str_distance("kitten", "sitting"), 3);
    assert_int_equal(str_distance("", "abc"), 3);
    assert_int_equal(str_distance("Name", "name"), 0);
    assert_int_equal(random_alnum(random, 32), 0);
    assert_int_equal(random_alnum(other, 32), 0);
    assert_int_equal(strlen(random), 32);
    assert_string_not_equal(random, other);
    assert_true(bytes_equal("abc", "abc", 3));
    assert_false(bytes_equal("abc", "abd", 3));
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_true(str_ends("a.tar.zst", ".zst"));
    assert_false(str_ends("zst", ".zst"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_tell_when_they_do_not_fit),
        cmocka_unit_test(numbers_are_whole_and_bounded),
        cmocka_unit_test(base64_has_the_vectors_of_the_rfc),
        cmocka_unit_test(base64_bears_what_clients_send_and_no_more),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(small_helpers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
