// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/map.h"

static void buffer_keeps_its_limit_and_its_bytes(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_printf(&b, "%08d,", i), 0);
    assert_int_equal(b.len, 900);
    assert_int_equal(buf_append(&b, b.data, 101), -ENOBUFS);
    assert_int_equal(b.len, 900);
    buf_consume(&b, 9 * 50);
    assert_memory_equal(b.data, "00000050,", 9);
    for (int i = 100; i < 160; i++)
        assert_int_equal(buf_printf(&b, "%08d,", i), 0);
    assert_memory_equal(b.data, "00000050,", 9);
    assert_memory_equal(b.data + b.len - 9, "00000159,", 9);
    assert_string_equal(buf_cstr(&b) + b.len - 9, "00000159,");
    buf_consume(&b, b.len);
    assert_int_equal(b.len, 0);
    assert_null(b.base_); /* memory only while bytes are in it */
    buf_done(&b);
}

struct item {
    int value;
    struct list node;
};

static void list_may_lose_the_current_entry(void **state)
{
    struct list head = QVD_LIST_INIT(head);
    int sum = 0;

    for (int i = 1; i <= 4; i++) {
        struct item *item = calloc(1, sizeof *item);
        item->value = i;
        list_init(&item->node);
        list_append(&head, &item->node);
    }
    QVD_LIST_FOREACH (item, &head, struct item, node) {
        sum = sum * 10 + item->value;
        list_remove(&item->node);
        free(item);
    }
    assert_int_equal(sum, 1234);
    assert_true(list_empty(&head));
}

/* Against a plain array: every key is found until it is taken, in any order of taking. */
static void map_finds_all_and_only_what_was_put(void **state)
{
    enum { N = 5000 };
    static char values[N];
    struct map *m = map_new_u64();
    size_t at = 0, walked = 0;

    for (uint64_t i = 0; i < N; i++)
        assert_int_equal(map_put_u64(m, i * i, &values[i]), 0);
    assert_int_equal(map_count(m), N);
    for (uint64_t i = 0; i < N; i += 3)
        assert_ptr_equal(map_take_u64(m, i * i), &values[i]);
    for (uint64_t i = 0; i < N; i++)
        assert_ptr_equal(map_get_u64(m, i * i), i % 3 ? &values[i] : NULL);
    assert_null(map_take_u64(m, 0));
    while (map_next(m, &at, NULL))
        walked++;
    assert_int_equal(walked, map_count(m));
    map_free(m);
}

static void map_of_strings_copies_its_keys(void **state)
{
    struct map *m = map_new_str();
    char key[] = "first";
    int one, two;

    assert_int_equal(map_put_str(m, key, &one), 0);
    key[0] = 'F';
    assert_ptr_equal(map_get_str(m, "first"), &one);
    assert_null(map_get_str(m, "First"));
    assert_int_equal(map_put_str(m, "first", &two), 0);
    assert_int_equal(map_count(m), 1);
    assert_ptr_equal(map_take_str(m, "first"), &two);
    assert_null(map_get_str(m, "first"));
    map_free(m);
}

static void errors_are_wrapped_and_cut(void **state)
{
    struct qvd_error err = {0};
    char longer[400];

    assert_int_equal(qvd_error_errno(&err, ENOENT, "image %d", 7), -ENOENT);
    assert_string_equal(err.text, "image 7: No such file or directory");
    assert_int_equal(qvd_error_wrap(&err, "vm %d", 42), -ENOENT);
    assert_string_equal(err.text, "vm 42: image 7: No such file or directory");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(qvd_error_wrap(&err, "%s", longer), -ENOENT);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(qvd_error_set(NULL, 5, "nobody listens"), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_keeps_its_limit_and_its_bytes),
        cmocka_unit_test(list_may_lose_the_current_entry),
        cmocka_unit_test(map_finds_all_and_only_what_was_put),
        cmocka_unit_test(map_of_strings_copies_its_keys),
        cmocka_unit_test(errors_are_wrapped_and_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
