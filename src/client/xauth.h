// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* X displays' names, cookies (Xauthority files, XauFileName(3)) and the first message of the X
 * protocol. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct x_display {
    char host[256]; /* "": by a unix socket */
    unsigned number;
};
/* ":0", "unix:0.0", "host:10.0", "[::1]:0". 0 or -EINVAL. */
must_check int x_display_parse(const char *name, struct x_display *ret);

#define X_COOKIE_LEN 16
/* The MIT-MAGIC-COOKIE-1 of that display in the bytes of an Xauthority file; hostname is ours.
 * False: none. */
bool x_cookie_find(const uint8_t *file, size_t len, const struct x_display *display,
                   const char *hostname, uint8_t ret_cookie[X_COOKIE_LEN]);

#define X_SETUP_MAX 1024
/* The first message with that cookie (NULL: without) in the byte order of order ('l', 'B'): its
 * length; dst of X_SETUP_MAX. */
size_t x_setup_make(char order, const uint8_t *cookie, uint8_t *dst);
/* Length of the first message that begins so: 0: more is needed, -EBADMSG: none. */
must_check ssize_t x_setup_length(const uint8_t *data, size_t len);
