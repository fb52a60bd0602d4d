// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/error.h"

#include <stdarg.h>
#include <string.h>

int qvd_error_set(struct qvd_error *err, int code, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return code;
    err->code = code;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

int qvd_error_errno(struct qvd_error *err, int errno_code, const char *fmt, ...)
{
    va_list args;
    int positive = errno_code < 0 ? -errno_code : errno_code;

    if (!err)
        return -positive;
    err->code = -positive;
    va_start(args, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(positive));
    return -positive;
}

int qvd_error_wrap(struct qvd_error *err, const char *fmt, ...)
{
    char inner[sizeof err->text];
    va_list args;

    if (!err)
        return -EIO;
    memcpy(inner, err->text, sizeof inner);
    va_start(args, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - n, ": %.*s", (int)(sizeof err->text - n), inner);
    return err->code;
}
