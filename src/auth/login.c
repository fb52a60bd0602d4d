// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/login.h"

#include <string.h>

#include "base/str.h"

static must_check int normalize_n(const char *text, size_t len, bool keep_case,
                                  char dst[LOGIN_NAME_MAX])
{
    while (len && strchr(" \t\r\n", *text))
        text++, len--;
    while (len && strchr(" \t\r\n", text[len - 1]))
        len--;
    if (len == 0 || len >= LOGIN_NAME_MAX || !utf8_valid(text, len))
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            return -EINVAL;
        dst[i] = (char)(!keep_case && c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
    }
    dst[len] = '\0';
    return 0;
}

int login_normalize(const char *text, bool keep_case, char dst[LOGIN_NAME_MAX])
{
    return normalize_n(text, strlen(text), keep_case, dst);
}

int login_parse(const char *text, const char *separators, const char *fallback, bool keep_case,
                struct login *ret)
{
    struct login l = {0};
    size_t at = strcspn(text, separators);
    const char *tenant = text[at] ? text + at + 1 : fallback;
    int r = normalize_n(text, at, keep_case, l.name);

    if (r == 0)
        r = login_normalize(tenant, keep_case, l.tenant);
    if (r == 0)
        *ret = l;
    return r;
}
