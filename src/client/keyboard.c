// SPDX-License-Identifier: GPL-3.0-or-later
#include "client/keyboard.h"

#include <string.h>

#include "base/str.h"
#include "client/x-bytes.h"

#define EXTENSION "XINERAMA"
#define PROPERTY "_XKB_RULES_NAMES"
#define PROPERTY_WORDS 64 /* of four bytes: as much as we ask for */

/* X11 protocol, appendix B: opcodes and layouts. */
enum { OP_INTERN_ATOM = 16, OP_GET_PROPERTY = 20, OP_QUERY_EXTENSION = 98 };
/* panoramiXproto.h */
enum { XINERAMA_QUERY_SCREENS = 5 };

/* The whole length of the message in front; 0: it is not all there. */
static size_t whole(const struct keyboard_query *q, const struct buf *in)
{
    bool setup = q->step == KEYBOARD_SETUP;
    size_t head = setup ? 8 : 32;

    if (in->len < head)
        return 0;
    size_t all =
        setup ? 8 + 4 * (size_t)x_get_u16(in->data + 6) : 32 + 4 * (size_t)x_get_u32(in->data + 4);
    return in->len < all ? 0 : all;
}

/* QueryExtension and InternAtom have one form. */
static must_check int ask_name(uint8_t opcode, const char *name, struct buf *out)
{
    uint8_t request[32] = {opcode, opcode == OP_INTERN_ATOM};
    size_t len = strlen(name), words = 2 + (len + 3) / 4;

    x_put_u16(request + 2, words);
    x_put_u16(request + 4, len);
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
    size_t at = 40 + ((x_get_u16(m + 24) + 3) & ~3U) + 8 * (size_t)m[29];
    if (m[28] == 0 || at + 40 > len)
        return -EBADMSG;
    q->root = x_get_u32(m + at);
    q->width = x_get_u16(m + at + 20);
    q->height = x_get_u16(m + at + 22);
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
    if (m[0] == 1 && x_get_u32(m + 8) > 1)
        q->monitors = x_get_u32(m + 8);
    return ask_atom(q, out);
}

static must_check int after_atom(struct keyboard_query *q, const uint8_t *m, struct buf *out)
{
    uint8_t request[24] = {OP_GET_PROPERTY};
    uint32_t atom = x_get_u32(m + 8);

    if (m[0] != 1 || !atom)
        return -ENOENT;
    q->step = KEYBOARD_PROPERTY;
    x_put_u16(request + 2, 6);
    x_put_u32(request + 4, q->root);
    x_put_u32(request + 8, atom);
    x_put_u32(request + 20, PROPERTY_WORDS);
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
    size_t n = x_get_u32(m + 16);

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
