// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/str.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

int str_copy(char *dst, size_t size, const char *s)
{
    return str_copy_n(dst, size, s, strlen(s));
}

int str_copy_n(char *dst, size_t size, const char *s, size_t len)
{
    if (size > 0)
        dst[0] = '\0';
    if (len >= size)
        return -ENOBUFS;
    if (memchr(s, '\0', len))
        return -EINVAL;
    memcpy(dst, s, len);
    dst[len] = '\0';
    return 0;
}

int str_format(char *dst, size_t size, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(dst, size, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < size)
        return 0;
    if (size > 0)
        dst[0] = '\0';
    return -ENOBUFS;
}

char *str_printf(const char *fmt, ...)
{
    va_list args;
    char *s;

    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    return n < 0 ? NULL : s;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (!*s)
        return -EINVAL;
    for (const char *p = s; *p; p++)
        if (*p < '0' || *p > '9')
            return -EINVAL;
    for (; *s; s++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value) || value > max)
            return -ERANGE;
    *ret_value = value;
    return 0;
}

int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret_value)
{
    bool negative = *s == '-';
    uint64_t magnitude;

    int r = str_to_u64(s + negative, (uint64_t)INT64_MAX + negative, &magnitude);
    if (r < 0)
        return r;
    int64_t value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (value < min || value > max)
        return -ERANGE;
    *ret_value = value;
    return 0;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && strcmp(s + n - m, suffix) == 0;
}

bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

char *str_trim(char *s)
{
    s += strspn(s, " \t\r\n");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r\n", s[n - 1]))
        n--;
    s[n] = '\0';
    return s;
}

bool utf8_valid(const char *s, size_t len)
{
    const uint8_t *p = (const uint8_t *)s, *end = p + len;

    while (p < end) {
        uint32_t c = *p++;
        int more = c < 0x80                ? 0
                   : c >= 0xc2 && c < 0xe0 ? 1
                   : c >= 0xe0 && c < 0xf0 ? 2
                   : c >= 0xf0 && c < 0xf5 ? 3
                                           : -1;
        if (c == 0 || more < 0 || end - p < more)
            return false;
        c &= more ? 0x3f >> more : 0x7f;
        for (int i = 0; i < more; i++, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
            c = c << 6 | (*p & 0x3f);
        }
        if ((more == 2 && c < 0x800) || (more == 3 && (c < 0x10000 || c > 0x10ffff)) ||
            (c >= 0xd800 && c < 0xe000))
            return false;
    }
    return true;
}

bool bytes_equal(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;

    for (size_t i = 0; i < len; i++)
        difference |= x[i] ^ y[i];
    return difference == 0;
}

int random_bytes(void *dst, size_t len)
{
    uint8_t *p = dst;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            p += n;
            len -= n;
        }
    }
    return 0;
}

int random_alnum(char *dst, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const unsigned fair = 256 - 256 % (sizeof letters - 1);

    for (size_t i = 0; i < n;) {
        uint8_t bytes[32];
        size_t some = n - i < sizeof bytes ? n - i : sizeof bytes;
        int r = random_bytes(bytes, some);
        if (r < 0)
            return r;
        for (size_t j = 0; j < some; j++)
            if (bytes[j] < fair)
                dst[i++] = letters[bytes[j] % (sizeof letters - 1)];
    }
    dst[n] = '\0';
    return 0;
}

unsigned str_distance(const char *a, const char *b)
{
    unsigned row[128];
    size_t n = strnlen(b, ARRAY_SIZE(row) - 1);

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            unsigned best =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}
