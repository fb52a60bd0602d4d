// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/di.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

static bool valid(const struct di_version *v)
{
    return v->year >= 1970 && v->year <= 9999 && v->month >= 1 && v->month <= 12 && v->day >= 1 &&
           v->day <= days_in(v->year, v->month) && v->number >= 0 && v->number <= 999;
}

static int digits(const char *s, size_t n)
{
    int v = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

int di_version_parse(const char *s, struct di_version *ret)
{
    struct di_version v;

    if (strlen(s) != strlen("YYYY-MM-DD-NNN") || s[4] != '-' || s[7] != '-' || s[10] != '-')
        return -EINVAL;
    v = (struct di_version){digits(s, 4), digits(s + 5, 2), digits(s + 8, 2), digits(s + 11, 3)};
    if (!valid(&v))
        return -EINVAL;
    *ret = v;
    return 0;
}

int di_version_format(const struct di_version *v, char *dst)
{
    if (!valid(v))
        return -EINVAL;
    return str_format(dst, DI_VERSION_MAX, "%04d-%02d-%02d-%03d", v->year, v->month, v->day,
                      v->number);
}

static bool contains(const char *const *list, size_t n, const char *s)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], s) == 0)
            return true;
    return false;
}

int di_version_next(int year, int month, int day, const char *const *tags, size_t n, char *dst)
{
    struct di_version v = {year, month, day, 0};
    char name[DI_VERSION_MAX];

    for (; v.number <= 999; v.number++) {
        int r = di_version_format(&v, name);

        if (r < 0)
            return r;
        if (!contains(tags, n, name))
            return str_copy(dst, DI_VERSION_MAX, name);
    }
    return -ENOSPC;
}

bool di_version_valid(const char *s)
{
    size_t len = strlen(s);

    if (len == 0 || len > DI_VERSION_MAX || !isalnum((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i]))
            return false;
    return true;
}

bool di_tag_valid(const char *s)
{
    size_t len = strlen(s);

    if (len == 0 || len > DI_TAG_MAX || !utf8_valid(s, len))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || s[i] == ',')
            return false;
    return true;
}

bool di_tag_reserved(const char *s)
{
    struct di_version v;

    return strcmp(s, DI_TAG_HEAD) == 0 || di_version_parse(s, &v) == 0;
}
