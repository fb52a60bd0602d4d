// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Strings: checked copies, numbers, hex, base64, UTF-8. What comes from outside is (ptr, len). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Copies s and its NUL into dst of size bytes: 0, or -ENOBUFS with dst = "". */
must_check int str_copy(char *dst, size_t size, const char *s);
/* The same for bytes that may hold no NUL (-EINVAL). */
must_check int str_copy_n(char *dst, size_t size, const char *s, size_t len);
/* snprintf that tells: 0 or -ENOBUFS (dst then is ""). */
must_check int str_format(char *dst, size_t size, const char *fmt, ...) printf_like(3, 4);
/* A new string (free it), NULL when out of memory. */
must_check char *str_printf(const char *fmt, ...) printf_like(1, 2);

/* Whole string as a decimal number between min and max: 0, -EINVAL (no number), -ERANGE. No sign
 * but '-', no blanks. */
must_check int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret_value);
must_check int str_to_u64(const char *s, uint64_t max, uint64_t *ret_value);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
bool str_eq(const char *a, const char *b); /* either may be NULL; NULL equals NULL */
/* Cuts blanks (space, tab, CR, LF) at both ends, in place; returns the new beginning. */
char *str_trim(char *s);

/* Lower-case hex of len bytes: dst needs 2 * len + 1. */
void hex_encode(const void *data, size_t len, char *dst);
/* The value of a hex digit, -1 for another character. */
int hex_digit(char c);
/* Exactly len bytes from 2 * len hex digits (any case): 0 or -EINVAL. */
must_check int hex_decode(const char *s, size_t slen, void *dst, size_t len);

/* Base64 with padding and no newline; a new string, NULL when out of memory. */
must_check char *base64_encode(const void *data, size_t len);
/* Decodes s (padding may be missing; blanks and newlines at the end are allowed): 0, -EINVAL,
 * -ENOMEM. *ret_data is new, has a NUL behind its *ret_len bytes. */
must_check int base64_decode(const char *s, size_t slen, uint8_t **ret_data, size_t *ret_len);

/* Valid UTF-8 without NUL, surrogates and overlong forms (RFC 3629). */
bool utf8_valid(const char *s, size_t len);

/* Takes the same time wherever the first difference is. */
bool bytes_equal(const void *a, const void *b, size_t len);
/* Fills from the kernel's generator: 0 or -errno. */
must_check int random_bytes(void *dst, size_t len);
/* n random characters of [A-Za-z0-9] and a NUL; dst needs n + 1. 0 or -errno. */
must_check int random_alnum(char *dst, size_t n);
/* The number of single-character edits between a and b, for "did you mean". */
unsigned str_distance(const char *a, const char *b);
