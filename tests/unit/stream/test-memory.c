// SPDX-License-Identifier: GPL-3.0-or-later
/* tls-memory.c: what OpenSSL gives back is what it is given next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <string.h>

#include "stream/tls.h"

/* The address sanitizer must see each block come and go. */
#ifdef __SANITIZE_ADDRESS__
static const bool kept = false;
#else
static const bool kept = true;
#endif

static void test_newest_first(void **state)
{
    void *a = OPENSSL_malloc(16700), *b = OPENSSL_malloc(16700);
    void *old = a, *new = b;

    OPENSSL_free(a);
    OPENSSL_free(b);
    a = OPENSSL_malloc(16700);
    b = OPENSSL_malloc(16600); /* nearly as large: it does as well */
    assert_true(!kept || (a == new &&b == old));
    OPENSSL_free(a);
    OPENSSL_free(b);
}

/* An idle session must not sit on a block of twice its need; and one too small is none. */
static void test_size_fits(void **state)
{
    void *a = OPENSSL_malloc(8000), *was = a;

    OPENSSL_free(a);
    void *less = OPENSSL_malloc(4000), *more = OPENSSL_malloc(8100);
    assert_true(malloc_usable_size(less) < 5000);
    assert_true(malloc_usable_size(more) >= 8100);
    a = OPENSSL_malloc(8000);
    assert_true(!kept || a == was);
    OPENSSL_free(a);
    OPENSSL_free(less);
    OPENSSL_free(more);
}

/* BUF_MEM_grow(3) begins a handshake's buffer so. */
static void test_growing(void **state)
{
    char *a = OPENSSL_malloc(21848), *was = a;

    OPENSSL_free(a);
    a = OPENSSL_realloc(NULL, 21848);
    assert_true(!kept || a == was);
    memset(a, 'a', 21848);
    a = OPENSSL_realloc(a, 60000);
    assert_true(a[0] == 'a' && a[21847] == 'a');
    OPENSSL_free(a);
    assert_null(OPENSSL_malloc(0));
    a = OPENSSL_zalloc(2000);
    memset(a, 'x', 2000);
    OPENSSL_free(a);
    a = OPENSSL_zalloc(2000); /* the same, and empty again */
    for (size_t i = 0; i < 2000; i++)
        assert_int_equal(a[i], 0);
    OPENSSL_free(a);
}

/* As many as a crowd's handshakes, and all have gone: what stays is bounded (64 blocks). */
static void test_few_stay(void **state)
{
    void *blocks[1000];
    struct mallinfo2 before = mallinfo2();

    for (size_t i = 0; i < 1000; i++)
        blocks[i] = OPENSSL_malloc(16700);
    for (size_t i = 0; i < 1000; i++)
        OPENSSL_free(blocks[i]);
    struct mallinfo2 after = mallinfo2();
    assert_true(!kept || after.uordblks <= before.uordblks + 64 * 16720);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest_first),
        cmocka_unit_test(test_size_fits),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_few_stay),
    };

    tls_keep_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
