// SPDX-License-Identifier: GPL-3.0-or-later
/* Hex and base64 (RFC 4648) of base/str.h. */
#include "base/str.h"

#include <string.h>

static const char base64_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_encode(const void *data, size_t len, char *dst)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        *dst++ = digits[p[i] >> 4];
        *dst++ = digits[p[i] & 15];
    }
    *dst = '\0';
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_decode(const char *s, size_t slen, void *dst, size_t len)
{
    uint8_t *p = dst;

    if (slen != 2 * len)
        return -EINVAL;
    for (size_t i = 0; i < slen; i++)
        if (hex_digit(s[i]) < 0)
            return -EINVAL;
    for (size_t i = 0; i < len; i++)
        p[i] = hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]);
    return 0;
}

char *base64_encode(const void *data, size_t len)
{
    const uint8_t *p = data;
    char *s = malloc((len + 2) / 3 * 4 + 1), *out = s;

    if (!s)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t three =
            p[i] << 16 | (i + 1 < len ? p[i + 1] << 8 : 0) | (i + 2 < len ? p[i + 2] : 0);
        *out++ = base64_letters[three >> 18];
        *out++ = base64_letters[three >> 12 & 63];
        *out++ = i + 1 < len ? base64_letters[three >> 6 & 63] : '=';
        *out++ = i + 2 < len ? base64_letters[three & 63] : '=';
    }
    *out = '\0';
    return s;
}

int base64_decode(const char *s, size_t slen, uint8_t **ret_data, size_t *ret_len)
{
    while (slen > 0 && strchr("\r\n \t", s[slen - 1]))
        slen--;
    for (int i = 0; i < 2 && slen > 0 && s[slen - 1] == '='; i++)
        slen--;
    if (slen % 4 == 1)
        return -EINVAL;
    uint8_t *data = malloc(slen / 4 * 3 + 3), *out = data;
    if (!data)
        return -ENOMEM;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < slen; i++) {
        const char *at = s[i] ? strchr(base64_letters, s[i]) : NULL;
        if (!at) {
            free(data);
            return -EINVAL;
        }
        bits = bits << 6 | (uint32_t)(at - base64_letters);
        have += 6;
        if (have >= 8) {
            have -= 8;
            *out++ = bits >> have & 0xff;
        }
    }
    *out = '\0';
    *ret_len = out - data;
    *ret_data = data;
    return 0;
}
