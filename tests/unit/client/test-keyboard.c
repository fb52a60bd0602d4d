// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "client/keyboard.h"

/* X11 protocol, "Connection Setup": 8 bytes, then 88 more: a vendor of 5 letters (padded to 8), one
 * format of 8 bytes, one screen whose root is 0x0000050d and of depth 24. */
static const uint8_t setup[] = "\x01\x00\x0b\x00\x00\x00\x16\x00"
                               "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
                               "\x05\x00\xff\xff\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
                               "XOrg!\x00\x00\x00"
                               "\x18\x20\x20\x00\x00\x00\x00\x00"
                               "\x0d\x05\x00\x00\x20\x00\x00\x00\xff\xff\xff\x00\x00\x00\x00\x00"
                               "\x00\x00\x00\x00\x00\x05\x00\x04\x52\x01\x0f\x01\x01\x00\x01\x00"
                               "\x21\x00\x00\x00\x01\x01\x18";
/* QueryExtension of 8 letters; its answer: it is there and has the opcode 141. */
static const uint8_t ask_extension[] = "\x62\x00\x04\x00\x08\x00\x00\x00XINERAMA";
static const uint8_t extension[32] = "\x01\x00\x02\x00\x00\x00\x00\x00\x01\x8d";
/* XineramaQueryScreens; its answer: two, each of eight bytes. */
static const uint8_t ask_monitors[] = "\x8d\x05\x01";
static const uint8_t monitors[48] = "\x01\x00\x03\x00\x04\x00\x00\x00\x02";
/* InternAtom of 16 letters, only if it exists; its answer: atom 99. */
static const uint8_t ask_atom[] = "\x10\x01\x06\x00\x10\x00\x00\x00_XKB_RULES_NAMES";
static const uint8_t atom[32] = "\x01\x00\x01\x00\x00\x00\x00\x00\x63";
/* GetProperty of that window and atom, any type, 64 words. */
static const uint8_t ask_property[24] = "\x14\x00\x06\x00\x0d\x05\x00\x00\x63\x00\x00\x00"
                                        "\x00\x00\x00\x00\x00\x00\x00\x00\x40";

static void property(const char *names, size_t len, uint8_t *dst)
{
    memset(dst, 0, 32 + 64);
    dst[0] = 1;
    dst[1] = 8;
    dst[4] = 16;
    dst[16] = len;
    memcpy(dst + 32, names, len);
}

/* Feeds a message in pieces; what the last one gave. */
static int feed(struct keyboard_query *q, const uint8_t *data, size_t len, size_t piece,
                struct buf *out, char *result)
{
    struct buf in;
    int r = 0;

    buf_init(&in, 0);
    for (size_t i = 0; i < len && r == 0; i += piece) {
        size_t n = len - i < piece ? len - i : piece;
        assert_int_equal(buf_append(&in, data + i, n), 0);
        r = keyboard_step(q, &in, out, result);
    }
    assert_int_equal(in.len, 0);
    buf_done(&in);
    return r;
}

static int whole_talk(const char *names, size_t len, size_t piece, char *result)
{
    struct keyboard_query q = {0};
    uint8_t answer[32 + 64];
    struct buf out;

    buf_init(&out, 0);
    assert_int_equal(sizeof setup, 96);
    assert_int_equal(feed(&q, setup, sizeof setup, piece, &out, result), 0);
    assert_int_equal(q.depth, 24);
    assert_int_equal(out.len, 16);
    assert_memory_equal(out.data, ask_extension, 16);
    buf_done(&out);
    assert_int_equal(feed(&q, extension, sizeof extension, piece, &out, result), 0);
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, ask_monitors, 4);
    buf_done(&out);
    assert_int_equal(feed(&q, monitors, sizeof monitors, piece, &out, result), 0);
    assert_int_equal(q.monitors, 2);
    assert_int_equal(out.len, 24);
    assert_memory_equal(out.data, ask_atom, 24);
    buf_done(&out);
    assert_int_equal(feed(&q, atom, sizeof atom, piece, &out, result), 0);
    assert_int_equal(out.len, 24);
    assert_memory_equal(out.data, ask_property, 24);
    buf_done(&out);
    property(names, len, answer);
    return feed(&q, answer, sizeof answer, piece, &out, result);
}

static void test_names(void **state)
{
    char result[KEYBOARD_MAX] = "";

    for (size_t piece = 1; piece < 80; piece += 7) {
        assert_int_equal(whole_talk("evdev\0pc105\0es\0\0", 16, piece, result), 1);
        assert_string_equal(result, "pc105/es");
    }
    assert_int_equal(whole_talk("evdev\0pc104\0de,us\0nodeadkeys,\0", 31, 96, result), 1);
    assert_string_equal(result, "pc104/de");
    assert_int_equal(whole_talk("evdev\0pc105", 11, 96, result), -ENOENT);
    assert_int_equal(whole_talk("evdev\0\0\0", 8, 96, result), -ENOENT);
    assert_int_equal(whole_talk("evdev\0pc105\0e s\0", 16, 96, result), -ENOENT);
    assert_int_equal(whole_talk("", 0, 96, result), -ENOENT);
}

static void test_broken_answers(void **state)
{
    char result[KEYBOARD_MAX] = "";
    uint8_t bad[sizeof setup];
    struct keyboard_query q = {0};
    struct buf out;

    buf_init(&out, 0);
    memcpy(bad, setup, sizeof setup);
    bad[28] = 0; /* no screen */
    assert_int_equal(feed(&q, bad, sizeof bad, 100, &out, result), -EBADMSG);
    memcpy(bad, setup, sizeof setup);
    bad[24] = 0xff; /* a vendor's name beyond the message */
    q = (struct keyboard_query){0};
    assert_int_equal(feed(&q, bad, sizeof bad, 100, &out, result), -EBADMSG);
    q = (struct keyboard_query){.step = KEYBOARD_EXTENSION}; /* there is none: one monitor */
    assert_int_equal(feed(&q, (const uint8_t[32]){1}, 32, 100, &out, result), 0);
    assert_int_equal(out.len, 24);
    assert_memory_equal(out.data, ask_atom, 24);
    assert_int_equal(q.monitors, 1);
    q = (struct keyboard_query){.step = KEYBOARD_ATOM};
    assert_int_equal(feed(&q, (const uint8_t[32]){1}, 32, 100, &out, result), -ENOENT);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_broken_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
