// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ends.h"
#include "stream/relay.h"

struct relayed {
    struct end left, right;
    struct stream_relay *relay;
    int done;
    struct stream_relay_stats stats;
    struct qvd_error why;
};

static void on_done(void *owner, const struct stream_relay_stats *stats,
                    const struct qvd_error *why)
{
    struct relayed *r = owner;

    r->done++;
    r->stats = *stats;
    r->why = *why;
    r->relay = stream_relay_free(r->relay);
}

static void relay_start(struct relayed *r, uint64_t half_close_ms)
{
    struct end a = {0}, b = {0};
    int left[2], right[2];

    pair(left);
    pair(right);
    assert_int_equal(stream_new(loop, left[0], NULL, 0, &handlers, &r->left, &r->left.s), 0);
    assert_int_equal(stream_new(loop, right[0], NULL, 0, &handlers, &r->right, &r->right.s), 0);
    assert_int_equal(stream_new(loop, left[1], NULL, 0, &handlers, &a, &a.s), 0);
    assert_int_equal(stream_new(loop, right[1], NULL, 0, &handlers, &b, &b.s), 0);
    assert_int_equal(stream_unread(a.s, "early ", 6), 0);
    assert_int_equal(stream_relay_start(loop, a.s, b.s, half_close_ms, on_done, r, &r->relay), 0);
    turns(1);
}

static void test_relay_order_pressure_counters(void **state)
{
    struct relayed r = {0};
    size_t total = 4 << 20, sent = 0;
    uint8_t *pattern = malloc(total);

    for (size_t i = 0; i < total; i++)
        pattern[i] = i * 2246822519u >> 24;
    relay_start(&r, 1000);
    stream_set_reading(r.right.s, false);
    /* The slow right side stops the left one after a bounded number of bytes. */
    for (int i = 0; i < 1000; i++) {
        if (sent < total && !stream_congested(r.left.s)) {
            assert_int_equal(stream_write(r.left.s, pattern + sent, 4096), 0);
            sent += 4096;
        }
        turns(1);
    }
    assert_true(sent < 1536 * 1024);
    stream_set_reading(r.right.s, true);
    while (r.right.got.len < 6 + total) {
        while (sent < total && !stream_congested(r.left.s)) {
            assert_int_equal(stream_write(r.left.s, pattern + sent, 4096), 0);
            sent += 4096;
        }
        ev_loop_turn(loop, true);
    }
    assert_memory_equal(r.right.got.data, "early ", 6);
    assert_memory_equal(r.right.got.data + 6, pattern, total);
    stream_finish(r.left.s);
    turns(5);
    assert_string_equal(r.right.events, "oe");
    assert_int_equal(r.done, 0);
    assert_int_equal(stream_write(r.right.s, "answer", 6), 0);
    stream_finish(r.right.s);
    while (!r.done)
        ev_loop_turn(loop, true);
    turns(5);
    assert_int_equal(r.why.code, 0);
    assert_int_equal(r.stats.bytes[STREAM_A], total + 6);
    assert_int_equal(r.stats.bytes[STREAM_B], 6);
    assert_int_equal(r.stats.ended, STREAM_A);
    assert_true(r.stats.first_us[STREAM_A] > 0);
    assert_memory_equal(r.left.got.data, "answer", 6);
    end_done(&r.left);
    end_done(&r.right);
    turns(3);
    free(pattern);
}

static void test_relay_ends_when_one_side_fails_or_stays(void **state)
{
    struct relayed r = {0};

    relay_start(&r, 60);
    stream_finish(r.left.s); /* right never answers it */
    while (!r.done)
        ev_loop_turn(loop, true);
    assert_int_equal(r.why.code, -ETIMEDOUT);
    end_done(&r.left);
    end_done(&r.right);
    turns(3);

    r = (struct relayed){0};
    relay_start(&r, 0);
    stream_relay_end(r.relay, -ECANCELED, "asked to");
    assert_int_equal(r.done, 0);
    while (!r.done)
        ev_loop_turn(loop, true);
    assert_int_equal(r.why.code, -ECANCELED);
    turns(5);
    assert_non_null(strchr(r.left.events, 'e'));
    end_done(&r.left);
    end_done(&r.right);
    turns(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relay_order_pressure_counters),
        cmocka_unit_test(test_relay_ends_when_one_side_fails_or_stays),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
