// SPDX-License-Identifier: GPL-3.0-or-later
#include "client/fit.h"

#include <errno.h>
#include <string.h>

#include "client/x-bytes.h"

#define CLASS_WORDS 16 /* of four bytes: two names of nxagent's kind are shorter */
#define SIZE_LEAST 64  /* nobody's desktop is smaller; toolkits' helper windows are */

/* X11 protocol, appendix B. */
enum { OP_CHANGE_ATTRIBUTES = 2, OP_CONFIGURE = 12, OP_GET_PROPERTY = 20 };
enum {
    MESSAGE_ERROR,
    MESSAGE_REPLY,
    EVENT_CREATE = 16,
    EVENT_MAP = 19,
    EVENT_PROPERTY = 28,
    EVENT_GENERIC = 35
};
enum { ATTRIBUTE_EVENTS = 1 << 11 };
enum { MASK_STRUCTURE = 1 << 17, MASK_SUBSTRUCTURE = 1 << 19, MASK_PROPERTY = 1 << 22 };
enum { CONFIGURE_WIDTH = 1 << 2, CONFIGURE_HEIGHT = 1 << 3 };
enum { ATOM_STRING = 31, ATOM_WM_NORMAL_HINTS = 40, ATOM_WM_CLASS = 67 };
enum { SENT_BY_CLIENT = 0x80 }; /* in an event's code */

static must_check int listen_to(uint32_t window, uint32_t mask, struct buf *out)
{
    uint8_t request[16] = {OP_CHANGE_ATTRIBUTES};

    x_put_u16(request + 2, sizeof request / 4);
    x_put_u32(request + 4, window);
    x_put_u32(request + 8, ATTRIBUTE_EVENTS);
    x_put_u32(request + 12, mask);
    return buf_append(out, request, sizeof request);
}

int fit_begin(const struct fit *f, struct buf *out)
{
    return listen_to(f->root, MASK_SUBSTRUCTURE, out);
}

/* Each window is a child of the root first; a window manager may put it in a frame of its own. */
static must_check int on_create(const uint8_t *m, struct buf *out)
{
    bool override = m[22];

    if (override || x_get_u16(m + 16) < SIZE_LEAST || x_get_u16(m + 18) < SIZE_LEAST)
        return 0;
    return listen_to(x_get_u32(m + 8), MASK_STRUCTURE | MASK_PROPERTY, out);
}

static must_check int on_map(struct fit *f, const uint8_t *m, struct buf *out)
{
    uint8_t request[24] = {OP_GET_PROPERTY};
    uint32_t window = x_get_u32(m + 8);

    /* The root tells of it too where there is no window manager. */
    if (x_get_u32(m + 4) != window || f->n_asked == FIT_ASKED_MAX)
        return 0;
    x_put_u16(request + 2, sizeof request / 4);
    x_put_u32(request + 4, window);
    x_put_u32(request + 8, ATOM_WM_CLASS);
    x_put_u32(request + 12, ATOM_STRING);
    x_put_u32(request + 20, CLASS_WORDS);
    f->asked[f->n_asked++] = window;
    return buf_append(out, request, sizeof request);
}

/* The answer for the window that has waited longest; m NULL: it is no more. WM_CLASS is two names,
 * each with a NUL. */
static must_check int on_class(struct fit *f, const uint8_t *m, size_t len)
{
    const size_t name = sizeof FIT_CLASS;

    if (f->n_asked == 0)
        return -EBADMSG;
    if (m && m[1] == 8 && x_get_u32(m + 16) >= name && len >= 32 + name &&
        memcmp(m + 32, FIT_CLASS, name) == 0)
        f->window = f->asked[0];
    memmove(f->asked, f->asked + 1, --f->n_asked * sizeof *f->asked);
    return 0;
}

static must_check int on_property(const struct fit *f, const uint8_t *m, struct buf *out)
{
    uint8_t request[20] = {OP_CONFIGURE};

    if (!f->window || x_get_u32(m + 4) != f->window || x_get_u32(m + 8) != ATOM_WM_NORMAL_HINTS)
        return 0;
    x_put_u16(request + 2, sizeof request / 4);
    x_put_u32(request + 4, f->window);
    x_put_u16(request + 8, CONFIGURE_WIDTH | CONFIGURE_HEIGHT);
    x_put_u32(request + 12, f->width);
    x_put_u32(request + 16, f->height);
    int r = buf_append(out, request, sizeof request);
    return r < 0 ? r : 2;
}

int fit_step(struct fit *f, struct buf *in, struct buf *out)
{
    const uint8_t *m = in->data;
    int r = 0;

    if (in->len < 32)
        return 0;
    bool longer = m[0] == MESSAGE_REPLY || m[0] == EVENT_GENERIC;
    size_t len = 32 + (longer ? 4 * (size_t)x_get_u32(m + 4) : 0);
    if (in->len < len)
        return 0;
    /* An error names the request's kind. */
    if (m[0] == MESSAGE_REPLY)
        r = on_class(f, m, len);
    else if (m[0] == MESSAGE_ERROR && m[10] == OP_GET_PROPERTY)
        r = on_class(f, NULL, 0);
    else if ((m[0] & ~SENT_BY_CLIENT) == EVENT_CREATE)
        r = on_create(m, out);
    else if ((m[0] & ~SENT_BY_CLIENT) == EVENT_MAP)
        r = on_map(f, m, out);
    else if ((m[0] & ~SENT_BY_CLIENT) == EVENT_PROPERTY)
        r = on_property(f, m, out);
    buf_consume(in, len);
    return r == 0 ? 1 : r;
}
