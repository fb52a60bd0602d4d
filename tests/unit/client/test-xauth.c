// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "client/xauth.h"

static void test_display_names(void **state)
{
    static const struct {
        const char *name, *host;
        int number; /* -1: refused */
    } table[] = {
        {":0",             "",          0 },
        {":12.1",          "",          12},
        {"unix:3",         "",          3 },
        {"localhost:10.0", "localhost", 10},
        {"[::1]:2",        "::1",       2 },
        {"192.0.2.1:0",    "192.0.2.1", 0 },
        {"",               "",          -1},
        {"0",              "",          -1},
        {":",              "",          -1},
        {":x",             "",          -1},
        {":-1",            "",          -1},
        {":59536",         "",          -1},
        {"/tmp/x:0",       "",          -1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct x_display d;
        int r = x_display_parse(table[i].name, &d);
        if (r != (table[i].number < 0 ? -EINVAL : 0))
            fail_msg("%s: %d", table[i].name, r);
        if (r == 0) {
            assert_string_equal(d.host, table[i].host);
            assert_int_equal(d.number, table[i].number);
        }
    }
}

/* Two entries: FamilyLocal "me" display 1, cookie of 'a'; FamilyWild, any display, cookie of 'b';
 * before them one of another kind. */
static const uint8_t file[] = "\x01\x00\x00\x02me\x00\x01"
                              "1\x00\x03XDM\x00\x01z"
                              "\x01\x00\x00\x02me\x00\x01"
                              "1\x00\x12MIT-MAGIC-COOKIE-1\x00\x10"
                              "aaaaaaaaaaaaaaaa"
                              "\xff\xff\x00\x00\x00\x00\x00\x12MIT-MAGIC-COOKIE-1\x00\x10"
                              "bbbbbbbbbbbbbbbb";

static int found(const char *name, size_t len, const char *hostname)
{
    struct x_display d;
    uint8_t cookie[X_COOKIE_LEN];

    assert_int_equal(x_display_parse(name, &d), 0);
    return x_cookie_find(file, len, &d, hostname, cookie) ? cookie[15] : 0;
}

static void test_cookies(void **state)
{
    size_t all = sizeof file - 1, first = all - 46;

    assert_int_equal(found(":1", all, "me"), 'a');
    assert_int_equal(found("localhost:1", all, "me"), 'a');
    assert_int_equal(found("me:1", all, "me"), 'a');
    assert_int_equal(found(":2", all, "me"), 'b'); /* any display */
    assert_int_equal(found(":1", all, "you"), 'b');
    assert_int_equal(found("192.0.2.1:1", all, "me"), 'b');
    assert_int_equal(found(":2", first, "me"), 0);
    for (size_t len = 0; len < all; len++) /* cut anywhere: no byte beyond is read */
        (void)found(":1", len, "me");
    assert_int_equal(found(":1", first - 1, "me"), 0);
}

static void test_first_message(void **state)
{
    uint8_t cookie[X_COOKIE_LEN] = "0123456789abcdef", made[X_SETUP_MAX];
    static const uint8_t big[] = "B\0\0\x0b\0\0\0\x12\0\x10\0\0MIT-MAGIC-COOKIE-1\0\0"
                                 "0123456789abcdef";

    assert_int_equal(x_setup_make('B', cookie, made), sizeof big - 1);
    assert_memory_equal(made, big, sizeof big - 1);
    assert_int_equal(x_setup_length(big, sizeof big - 1), sizeof big - 1);
    assert_int_equal(x_setup_length(big, sizeof big - 2), 0);
    assert_int_equal(x_setup_length(big, 11), 0);
    assert_int_equal(x_setup_make('l', NULL, made), 12);
    assert_memory_equal(made, "l\0\x0b\0\0\0\0\0\0\0\0\0", 12);
    assert_int_equal(x_setup_length(made, 12), 12);
    assert_int_equal(x_setup_length((const uint8_t *)"GET", 3), -EBADMSG);
    made[7] = 0xff;
    assert_int_equal(x_setup_length(made, 12), -EBADMSG); /* too long */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_display_names),
        cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_first_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
