// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The person's X display: asked beforehand whether it lets us in. One that wants a cookie gets a
 * door: a display of our own, for our nxproxy only, that passes connections on with the cookie
 * (nxproxy itself can only use one that the desktop's side knows too). */

#include <sys/types.h>

#include "base/error.h"
#include "ev/ev.h"

struct client_display;

/* name: what nxproxy is to use as DISPLAY; NULL: the display refuses us, why tells it in a line. */
typedef void client_display_fn(void *arg, const char *name, const char *why);

/* 0, and done later, once; -EINVAL: no such name; -ENOMEM. */
must_check int client_display_open(struct ev_loop *loop, const char *name, client_display_fn *done,
                                   void *arg, struct client_display **ret_display);
/* The next window that an nxagent opens there gets that size, or the screen's where that is
 * smaller. Between open and done. */
void client_display_fit(struct client_display *d, unsigned width, unsigned height);
/* "model/layout" of its keyboard; "" when it does not tell. After done. */
const char *client_display_keyboard(const struct client_display *d);
/* Bits a pixel of its root window; 0 when it does not tell. After done. */
unsigned client_display_depth(const struct client_display *d);
/* How many monitors it has; 0 when it does not tell. After done. */
unsigned client_display_monitors(const struct client_display *d);
/* Only this process may come through the door. */
void client_display_allow(struct client_display *d, pid_t pid);
struct client_display *client_display_free(struct client_display *d);
