// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Gives the window of a desktop that is come back to another size: nxagent takes a geometry once in
 * its life, but follows its window, so we ask for the size from outside, as a window manager does.
 * Of what it is told while it resumes it may see one half only; it has resumed when it writes the
 * window's hints anew, half a second after the window is there. That it does where there is a
 * window manager, and for a desktop that is resumed: others keep their size.
 *
 * In bare bytes of the X protocol (appendix B of its description), on a connection that has been
 * set up. Of two clients that come back on one display in the same moment the first window counts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define FIT_CLASS "NXAgent" /* of its windows, by WM_CLASS */
#define FIT_ASKED_MAX 16

struct fit {
    uint32_t root;
    uint16_t width, height;
    uint32_t window; /* nxagent's, which is there; 0: none yet */
    /* Windows whose class has been asked for, in this order; more at once are passed over. */
    uint32_t asked[FIT_ASKED_MAX];
    size_t n_asked;
};

/* What to send first. 0 or -ENOMEM. */
must_check int fit_begin(const struct fit *f, struct buf *out);
/* Takes a whole message of the server from in, appends what to send to out. 0: none is there;
 * 1: taken; 2: the window has been told its size, nothing more is to be done; -EBADMSG, -ENOMEM. */
must_check int fit_step(struct fit *f, struct buf *in, struct buf *out);
