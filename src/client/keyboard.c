// SPDX-License-Identifier: GPL-3.0-or-later
#include "client/keyboard.h"

#include <string.h>

#include "base/str.h"

#define EXTENSION "XINERAMA"
#define PROPERTY "_XKB_RULES_NAMES"
#define PROPERTY_WORDS 64 /* of four bytes: as much as we ask for */

/* X11 protocol, appendix B: opcodes and layouts. */
enum { OP_INTERN_ATOM = 16, OP_GET_PROPERTY = 20, OP_QUERY_EXTENSION = 98 };
/* panoramiXproto.h */
enum { XINERAMA_QUERY_SCREENS = 5 };

static uint32_t get_u16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static uint32_t get_u32(const uint8_t *p)
{
    return get_u16(p) | get_u16(p + 2) << 16;
}

static void put_u16(uint8_t *p, uint32_t value)
{
    p[0] = value & 0xff;
    p[1] = value >> 8 & 0xff;
}

static void put_u32(uint8_t *p, uint32_t value)
{
    put_u16(p, value & 0xffff);
    put_u16(p + 2, value >> 16);
}

/* The whole length of the message in front; 0: it is not all there. */
static size_t whole(const struct keyboard_query *q, const struct buf *in)
{
    bool setup = q->step == KEYBOARD_SETUP;
    size_t head = setup ? 8 : 32;

    if (in->len < head)
        return 0;
    size_t all =
        setup ? 8 + 4 * (size_t)get_u16(in->data + 6) : 32 + 4 * (size_t)get_u32(in->data + 4);
    return in->len < all ? 0 : all;
}

/* QueryExtension and InternAtom have one form. */
static must_check int ask_name(uint8_t opcode, const char *name, struct buf *out)
{
    uint8_t request[32] = {opcode, opcode == OP_INTERN_ATOM};
    size_t len = strlen(name), words = 2 + (len + 3) / 4;

    put_u16(request + 2, words);
    put_u16(request + 4, len);
    memcpy(request + 8, name, len);
    return buf_append(out, request, words * 4);
}

static must_check int ask_atom(struct keyboard_query *q, struct buf *out)
{
    q->step = KEYBOARD_ATOM;
    return ask_name(OP_INTERN_ATOM, PROPERTY, out);
}

static must_check int after_setup(struct keyboard_query *q, const uint8_t *m, size_t len,
                                  struct buf *out)
{
    if (len < 40)
        return -EBADMSG;
    /* Behind the fixed part: the vendor's name, padded, formats of eight bytes, then screens. */
    size_t at = 40 + ((get_u16(m + 24) + 3) & ~3U) + 8 * (size_t)m[29];
    if (m[28] == 0 || at + 40 > len)
        return -EBADMSG;
    q->root = get_u32(m + at);
    q->depth = m[at + 38];
    q->step = KEYBOARD_EXTENSION;
    return ask_name(OP_QUERY_EXTENSION, EXTENSION, out);
}

static must_check int after_extension(struct keyboard_query *q, const uint8_t *m, struct buf *out)
{
    const uint8_t request[4] = {m[9], XINERAMA_QUERY_SCREENS, 1};

    q->monitors = 1;
    if (m[0] != 1 || !m[8])
        return ask_atom(q, out);
    q->step = KEYBOARD_MONITORS;
    return buf_append(out, request, sizeof request);
}

static must_check int after_monitors(struct keyboard_query *q, const uint8_t *m, struct buf *out)
{
    if (m[0] == 1 && get_u32(m + 8) > 1)
        q->monitors = get_u32(m + 8);
    return ask_atom(q, out);
}

static must_check int after_atom(struct keyboard_query *q, const uint8_t *m, struct buf *out)
{
    uint8_t request[24] = {OP_GET_PROPERTY};
    uint32_t atom = get_u32(m + 8);

    if (m[0] != 1 || !atom)
        return -ENOENT;
    q->step = KEYBOARD_PROPERTY;
    put_u16(request + 2, 6);
    put_u32(request + 4, q->root);
    put_u32(request + 8, atom);
    put_u32(request + 20, PROPERTY_WORDS);
    return buf_append(out, request, sizeof request);
}

static bool word_ok(const char *s)
{
    return *s &&
           s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] == '\0';
}

/* rules, model, layouts, variants, options, each with a NUL. Of several layouts the first. */
static must_check int after_property(const uint8_t *m, size_t len, char result[KEYBOARD_MAX])
{
    char names[4 * PROPERTY_WORDS + 3] = "";
    size_t n = get_u32(m + 16);

    if (m[0] != 1 || m[1] != 8 || n > len - 32 || n > 4 * PROPERTY_WORDS)
        return -ENOENT;
    memcpy(names, m + 32, n); /* ended by NULs whatever came */
    char *model = names + strlen(names) + 1;
    if (model > names + n)
        return -ENOENT;
    char *layout = model + strlen(model) + 1;
    if (layout > names + n)
        return -ENOENT;
    layout[strcspn(layout, ",")] = '\0';
    if (!word_ok(model) || !word_ok(layout) ||
        str_format(result, KEYBOARD_MAX, "%s/%s", model, layout) < 0)
        return -ENOENT;
    return 1;
}

int keyboard_step(struct keyboard_query *q, struct buf *in, struct buf *out,
                  char result[KEYBOARD_MAX])
{
    size_t len = whole(q, in);
    int r = 0;

    if (len == 0)
        return 0;
    switch (q->step) {
    case KEYBOARD_SETUP:
        r = after_setup(q, in->data, len, out);
        break;
    case KEYBOARD_EXTENSION:
        r = after_extension(q, in->data, out);
        break;
    case KEYBOARD_MONITORS:
        r = after_monitors(q, in->data, out);
        break;
    case KEYBOARD_ATOM:
        r = after_atom(q, in->data, out);
        break;
    case KEYBOARD_PROPERTY:
        r = after_property(in->data, len, result);
        break;
    }
    buf_consume(in, len);
    return r;
}
