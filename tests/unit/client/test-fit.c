// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "client/fit.h"

/* X11 protocol, appendix B: events, answers and requests, typed by hand, numbers little-endian. */
#define ROOT "\x0d\x05\x00\x00"
#define WINDOW "\x77\x01\x60\x00"
#define FRAME "\x61\x02\x40\x00"

/* CreateNotify: parent, window, x, y, width, height, border, override. */
#define CREATE(size, override)                                                                     \
    "\x10\x00\x00\x00" ROOT WINDOW "\x00\x00\x00\x00" size "\x00\x00" override                     \
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00"
#define LARGE "\x00\x04\x00\x03" /* 1024x768 */
#define SMALL "\x01\x00\x01\x00"
/* MapNotify: event, window. */
#define MAP(event)                                                                                 \
    "\x13\x00\x00\x00" event WINDOW "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"             \
    "\x00\x00\x00\x00\x00\x00\x00\x00"
/* PropertyNotify: window, atom, time, state. */
#define PROPERTY(window, atom)                                                                     \
    "\x1c\x00\x00\x00" window atom "\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00"              \
    "\x00\x00\x00\x00\x00\x00\x00\x00"
#define NORMAL_HINTS "\x28\x00\x00\x00"
/* The answer to GetProperty: format 8, 4 words, type STRING, nothing left, 16 bytes; the bytes. */
#define CLASS(sixteen)                                                                             \
    "\x01\x08\x00\x00\x04\x00\x00\x00\x1f\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00"             \
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" sixteen
#define NXAGENT "NXAgent\x00NXAgent\x00"
#define XTERM "xterm\x00XTerm\x00zzzz"
/* BadWindow of GetProperty, of ChangeWindowAttributes. */
#define ERROR(opcode)                                                                              \
    "\x00\x03\x00\x00" WINDOW "\x00\x00" opcode                                                    \
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

static const uint8_t watch_root[] = "\x02\x00\x04\x00" ROOT "\x00\x08\x00\x00\x00\x00\x08\x00";
static const uint8_t watch_window[] = "\x02\x00\x04\x00" WINDOW "\x00\x08\x00\x00\x00\x00\x42\x00";
static const uint8_t ask_class[] = "\x14\x00\x06\x00" WINDOW "\x43\x00\x00\x00\x1f\x00\x00\x00"
                                   "\x00\x00\x00\x00\x10\x00\x00\x00";
static const uint8_t resize[] = "\x0c\x00\x05\x00" WINDOW "\x0c\x00\x00\x00"
                                "\x84\x03\x00\x00\x8a\x02\x00\x00"; /* 900x650 */

static struct fit desk(void)
{
    return (struct fit){.root = 0x50d, .width = 900, .height = 650};
}

/* The last result of a talk in pieces of that many bytes; out gets all that is to be sent. */
static int talk(struct fit *f, const char *data, size_t len, size_t piece, struct buf *out)
{
    struct buf in;
    int r = 0;

    buf_init(&in, 0);
    for (size_t at = 0; at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        assert_int_equal(buf_append(&in, data + at, n), 0);
        do
            r = fit_step(f, &in, out);
        while (r == 1);
        if (r != 0)
            break;
    }
    buf_done(&in);
    return r;
}
#define TALK(f, text, piece, out) talk(f, text, sizeof(text) - 1, piece, out)

static void sent(struct buf *out, const uint8_t *expected, size_t len)
{
    assert_int_equal(out->len, len);
    assert_memory_equal(out->data, expected, len);
    buf_done(out);
}

static void test_a_resumed_desktop_gets_its_size(void **state)
{
    for (size_t piece = 1; piece < 70; piece += 17) {
        struct fit f = desk();
        struct buf out;

        buf_init(&out, 0);
        assert_int_equal(fit_begin(&f, &out), 0);
        sent(&out, watch_root, sizeof watch_root - 1);
        assert_int_equal(TALK(&f, CREATE(LARGE, "\x00"), piece, &out), 0);
        sent(&out, watch_window, sizeof watch_window - 1);
        /* The hints of a window that is not there yet are its first. */
        assert_int_equal(
            TALK(&f, PROPERTY(WINDOW, NORMAL_HINTS) MAP(FRAME) MAP(WINDOW), piece, &out), 0);
        sent(&out, ask_class, sizeof ask_class - 1);
        assert_int_equal(TALK(&f,
                              CLASS(NXAGENT) PROPERTY(WINDOW, "\x27\x00\x00\x00")
                                  PROPERTY(FRAME, NORMAL_HINTS),
                              piece, &out),
                         0);
        assert_int_equal(out.len, 0);
        assert_int_equal(TALK(&f, PROPERTY(WINDOW, NORMAL_HINTS), piece, &out), 2);
        sent(&out, resize, sizeof resize - 1);
    }
}

static void test_others_are_let_be(void **state)
{
    struct fit f = desk();
    struct buf out;

    buf_init(&out, 0);
    assert_int_equal(TALK(&f, CREATE(SMALL, "\x00") CREATE(LARGE, "\x01"), 32, &out), 0);
    assert_int_equal(out.len, 0);
    assert_int_equal(TALK(&f, MAP(WINDOW) CLASS(XTERM), 32, &out), 0);
    assert_int_equal(TALK(&f, MAP(WINDOW) ERROR("\x02") ERROR("\x14"), 32, &out), 0);
    buf_done(&out);
    assert_int_equal(f.n_asked, 0);
    assert_int_equal(TALK(&f, PROPERTY(WINDOW, NORMAL_HINTS), 32, &out), 0);
    assert_int_equal(out.len, 0);
}

static void test_what_nobody_asked_for(void **state)
{
    struct fit f = desk();
    struct buf out;

    buf_init(&out, 0);
    assert_int_equal(TALK(&f, CLASS(NXAGENT), 48, &out), -EBADMSG);
    /* More windows at once than anybody looks at. */
    for (int i = 0; i < FIT_ASKED_MAX + 3; i++)
        assert_int_equal(TALK(&f, MAP(WINDOW), 32, &out), 0);
    assert_int_equal(f.n_asked, FIT_ASKED_MAX);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_resumed_desktop_gets_its_size),
        cmocka_unit_test(test_others_are_let_be),
        cmocka_unit_test(test_what_nobody_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
