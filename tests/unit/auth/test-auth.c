// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "auth/login.h"
#include "auth/password.h"
#include "auth/throttle.h"
#include "auth/token.h"
#include "base/clock.h"
#include "base/str.h"

#define OLD_SUPERADMIN "kxs9c0f0qnWnPdxubiX2KlCpe/fLcvOkeDqnar/NdKc"

static void a_hash_fits_its_password_only(void **state)
{
    char a[PASSWORD_HASH_MAX], b[PASSWORD_HASH_MAX];
    struct qvd_error err;

    assert_int_equal(password_hash("correct horse", a, &err), 0);
    assert_int_equal(password_hash("correct horse", b, &err), 0);
    assert_string_not_equal(a, b); /* a salt each */
    assert_true(str_starts(a, "$y$j9T$"));
    assert_int_equal(password_verify("correct horse", a, ""), PASSWORD_RIGHT);
    assert_int_equal(password_verify("correct horsf", a, ""), PASSWORD_WRONG);
    assert_int_equal(password_verify("", a, ""), PASSWORD_WRONG);
    assert_int_equal(password_verify("correct horse", NULL, ""), PASSWORD_WRONG);
    assert_int_equal(password_verify("correct horse", "", ""), PASSWORD_WRONG);
    assert_int_equal(password_verify("correct horse", "$y$broken", ""), PASSWORD_WRONG);
    a[strlen(a) - 1] ^= 1;
    assert_int_equal(password_verify("correct horse", a, ""), PASSWORD_WRONG);
}

static void limits_of_passwords(void **state)
{
    char hash[PASSWORD_HASH_MAX], longest[PASSWORD_MAX + 2];
    struct qvd_error err;

    memset(longest, 'p', sizeof longest);
    longest[PASSWORD_MAX] = '\0';
    assert_int_equal(password_hash(longest, hash, &err), 0);
    assert_int_equal(password_verify(longest, hash, ""), PASSWORD_RIGHT);
    longest[PASSWORD_MAX] = 'p';
    longest[PASSWORD_MAX + 1] = '\0';
    assert_int_equal(password_hash(longest, hash, &err), -EINVAL);
    assert_non_null(strstr(err.text, "511"));
    assert_int_equal(password_verify(longest, hash, ""), PASSWORD_WRONG);
    assert_int_equal(password_hash("", hash, &err), -EINVAL);
}

/* printf 'qvd1234superadmin' | openssl dgst -sha256 -binary | base64, without "=" */
static void hashes_of_the_original_are_taken_once(void **state)
{
    const char *old = "$qvd1$" OLD_SUPERADMIN;

    assert_int_equal(password_verify("superadmin", old, "qvd1234"), PASSWORD_RIGHT_OLD);
    assert_int_equal(password_verify("superadmin", old, "qvd1235"), PASSWORD_WRONG);
    assert_int_equal(password_verify("superadmim", old, "qvd1234"), PASSWORD_WRONG);
    assert_int_equal(password_verify("", old, "qvd1234"), PASSWORD_WRONG);
}

/* What this process has computed: other programs of a busy machine do not count. */
static int64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t median_us(const char *password, const char *stored)
{
    int64_t t[9];

    for (int i = 0; i < 9; i++) {
        int64_t from = cpu_us();
        (void)password_verify(password, stored, "qvd1234");
        t[i] = cpu_us() - from;
        for (int j = i; j > 0 && t[j] < t[j - 1]; j--) {
            int64_t swap = t[j];
            t[j] = t[j - 1];
            t[j - 1] = swap;
        }
    }
    return t[4];
}

static void nobody_costs_as_much_as_somebody(void **state)
{
    char hash[PASSWORD_HASH_MAX];

    assert_int_equal(password_hash("pw", hash, NULL), 0);
    (void)password_verify("x", NULL, ""); /* makes nobody's hash */
    int64_t known = median_us("wrong", hash), unknown = median_us("wrong", NULL),
            old = median_us("wrong", "$qvd1$" OLD_SUPERADMIN);
    assert_true(unknown > known / 2 && unknown < known * 2);
    assert_true(old > known / 2 && old < known * 2);
}

static void tokens_are_long_and_differ(void **state)
{
    char a[TOKEN_LEN + 1], b[TOKEN_LEN + 1];
    uint8_t hash[TOKEN_HASH_LEN];
    char hex[2 * TOKEN_HASH_LEN + 1];

    assert_int_equal(token_new(a), 0);
    assert_int_equal(token_new(b), 0);
    assert_int_equal(strlen(a), 43);
    assert_string_not_equal(a, b);
    assert_int_equal(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
                     43);
    token_hash("abc", hash);
    hex_encode(hash, sizeof hash, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void logins_and_tenants(void **state)
{
    static const struct {
        const char *text, *separators;
        bool keep_case;
        const char *name, *tenant; /* NULL: refused */
    } rows[] = {
        {"ann",          "@#", false, "ann",        "default" },
        {"ann@lab",      "@#", false, "ann",        "lab"     },
        {"ann#lab",      "@#", false, "ann",        "lab"     },
        {"ann@lab@home", "@#", false, "ann",        "lab@home"},
        {"ann#a@b",      "@#", false, "ann",        "a@b"     },
        {"ann@lab",      "",   false, "ann@lab",    "default" },
        {" Ann @ Lab ",  "@#", false, "ann",        "lab"     },
        {"Ann@Lab",      "@#", true,  "Ann",        "Lab"     },
        {"\xc3\x84nn",   "@#", false, "\xc3\x84nn", "default" },
        {"",             "@#", false, NULL,         NULL      },
        {"@lab",         "@#", false, NULL,         NULL      },
        {"ann@",         "@#", false, NULL,         NULL      },
        {"a\x01nn",      "@#", false, NULL,         NULL      },
        {"a\xff",        "@#", false, NULL,         NULL      },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct login l;
        int r = login_parse(rows[i].text, rows[i].separators, "Default", rows[i].keep_case, &l);
        if (rows[i].keep_case && r == 0 && !strpbrk(rows[i].text, "@#"))
            continue;
        assert_int_equal(r, rows[i].name ? 0 : -EINVAL);
        if (r == 0) {
            assert_string_equal(l.name, rows[i].name);
            assert_string_equal(l.tenant, rows[i].tenant);
        }
    }
}

static const struct throttle_limits limits = {
    .free = 3, .first_ms = 100, .longest_ms = 1000, .forgive_ms = 10000, .keys_max = 10};

static void guessing_slows_down(void **state)
{
    static const int64_t waits[] = {0, 0, 0, 100, 200, 400, 800, 1000, 1000};
    struct throttle *t = throttle_new(&limits);
    int64_t now = 5000;

    for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
        int64_t wait = throttle_wait(t, "ann", now);
        assert_int_equal(wait, waits[i]);
        now += wait;
        assert_int_equal(throttle_count(t, "ann", now), 0);
    }
    assert_int_equal(throttle_wait(t, "bob", now), 0); /* others are not hindered */
    throttle_clear(t, "ann");
    assert_int_equal(throttle_wait(t, "ann", now), 0);
    throttle_free(t);
}

static void many_at_once_gain_nothing(void **state)
{
    struct throttle *t = throttle_new(&limits);

    for (int i = 0; i < 6; i++)
        assert_int_equal(throttle_count(t, "ann", 0), 0);
    assert_int_equal(throttle_wait(t, "ann", 0), 100 + 200 + 400 + 800);
    throttle_free(t);
}

static void good_tries_and_time_forgive(void **state)
{
    struct throttle *t = throttle_new(&limits);

    for (int i = 0; i < 50; i++) { /* a source behind which many log in well */
        assert_int_equal(throttle_wait(t, "office", i), 0);
        assert_int_equal(throttle_count(t, "office", i), 0);
        throttle_forgive(t, "office");
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(throttle_count(t, "ann", 0), 0);
    assert_int_equal(throttle_wait(t, "ann", 0), 100);
    assert_int_equal(throttle_wait(t, "ann", 10000), 0);
    assert_int_equal(throttle_count(t, "ann", 10000), 0);
    assert_int_equal(throttle_wait(t, "ann", 10000), 0); /* 3 halved to 1, plus 1 */
    throttle_free(t);
}

static void memory_is_bounded(void **state)
{
    struct throttle *t = throttle_new(&limits);
    char key[16];

    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        if (throttle_wait(t, key, 0) <= 3000) /* as authd does: who must wait longer is refused */
            assert_int_equal(throttle_count(t, key, 0), 0);
    }
    assert_true(throttle_wait(t, "new", 0) > 0); /* strangers share one count */
    assert_int_equal(throttle_wait(t, "k1", 0), 0);
    assert_int_equal(throttle_count(t, "k1", 20000), 0); /* all forgiven: room again */
    assert_int_equal(throttle_count(t, "fresh", 40000), 0);
    assert_int_equal(throttle_wait(t, "fresh", 40000), 0);
    throttle_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_fits_its_password_only),
        cmocka_unit_test(limits_of_passwords),
        cmocka_unit_test(hashes_of_the_original_are_taken_once),
        cmocka_unit_test(nobody_costs_as_much_as_somebody),
        cmocka_unit_test(tokens_are_long_and_differ),
        cmocka_unit_test(logins_and_tenants),
        cmocka_unit_test(guessing_slows_down),
        cmocka_unit_test(many_at_once_gain_nothing),
        cmocka_unit_test(good_tries_and_time_forgive),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
