// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The reason of a failure that a person will read: filled where it happens, wrapped on the way. */

#include "base/cleanup.h"

/* code: -errno, or a positive condition of the module that filled it; 0: no error. text: what
 * happened, to which object, why, and what to do; without a final newline. */
struct qvd_error {
    int code;
    char text[256];
};

/* Fills err (may be NULL; text too long is cut) and returns code, so that one writes
 * return qvd_error_set(err, -EINVAL, "host %s: ...", name); */
int qvd_error_set(struct qvd_error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* The same with ": " and strerror(errno_code) appended; errno_code may be negative or positive.
 * Returns -abs(errno_code). */
int qvd_error_errno(struct qvd_error *err, int errno_code, const char *fmt, ...) printf_like(3, 4);

/* Puts "context: " before the text; returns err->code (or -EIO when err is NULL). */
int qvd_error_wrap(struct qvd_error *err, const char *fmt, ...) printf_like(2, 3);
