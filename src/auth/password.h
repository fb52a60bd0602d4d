// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Passwords: hashed by yescrypt, compared in constant time. One hash costs about 20 ms of CPU: only
 * for processes that may block (qvd-authd).
 *
 * Knows nothing of accounts. */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define PASSWORD_MAX 511 /* bytes: libcrypt's limit */
#define PASSWORD_HASH_MAX 384

/* A new hash with a salt of its own. 0; -EINVAL with err (empty, too long), -EIO. */
must_check int password_hash(const char *password, char dst[PASSWORD_HASH_MAX],
                             struct qvd_error *err);

enum password_verdict {
    PASSWORD_WRONG,
    PASSWORD_RIGHT,
    PASSWORD_RIGHT_OLD, /* right, but hashed by an old scheme: hash it anew */
};
/* stored: NULL or "" (no account, or one without a password) is always wrong and takes the same
 * time as any other. "$qvd1$": the original's base64 SHA-256 of salt and password. */
enum password_verdict password_verify(const char *password, const char *stored, const char *salt);

/* Overwrites in a way that the compiler keeps. NULL-safe. */
void password_wipe(char *s);
