// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What an X server was set up for: its size and depth, from its first answer, how many monitors it
 * has, by its extension XINERAMA, and its keyboard, the property _XKB_RULES_NAMES of its root
 * window; asked for with bare bytes of the X protocol (little-endian, as we opened the connection).
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define KEYBOARD_MAX 64

struct keyboard_query {
    enum {
        KEYBOARD_SETUP,
        KEYBOARD_EXTENSION,
        KEYBOARD_MONITORS,
        KEYBOARD_ATOM,
        KEYBOARD_PROPERTY
    } step;
    uint32_t root;
    unsigned width, height, depth; /* of the root window; 0: not known yet */
    unsigned monitors;             /* 1 without XINERAMA; 0: not known yet */
};

/* Looks at what the server has sent so far (consumed from in when it is a whole message) and
 * appends what to send next to out. 0: go on; 1: done, result holds "model/layout"; -ENOENT: the
 * server tells none; -EBADMSG, -ENOMEM. */
must_check int keyboard_step(struct keyboard_query *q, struct buf *in, struct buf *out,
                             char result[KEYBOARD_MAX]);
