// SPDX-License-Identifier: GPL-3.0-or-later
/* Parameters of a session: a bounded, ordered list of names and texts. */
#include <string.h>

#include "base/str.h"
#include "wire/vma.h"

struct wire_params {
    size_t n;
    struct {
        char *name, *value;
    } items[WIRE_PARAMS_MAX];
};

struct wire_params *wire_params_new(void)
{
    return calloc(1, sizeof(struct wire_params));
}

struct wire_params *wire_params_free(struct wire_params *p)
{
    for (size_t i = 0; p && i < p->n; i++) {
        free(p->items[i].name);
        explicit_bzero(p->items[i].value, strlen(p->items[i].value));
        free(p->items[i].value);
    }
    free(p);
    return NULL;
}

static must_check int check_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    if (n == 0 || s[n])
        return -EINVAL;
    return n > WIRE_PARAM_NAME_MAX ? -ENOBUFS : 0;
}

static must_check int check_value(const char *s)
{
    size_t n = strlen(s);

    if (n > WIRE_PARAM_VALUE_MAX)
        return -ENOBUFS;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return -EINVAL;
    return utf8_valid(s, n) ? 0 : -EINVAL;
}

int wire_params_set(struct wire_params *p, const char *name, const char *value)
{
    _cleanup_(free_p) char *copy = NULL, *key = NULL;
    size_t i = 0;
    int r = check_name(name);

    if (r == 0)
        r = check_value(value);
    if (r < 0)
        return r;
    while (i < p->n && strcmp(p->items[i].name, name) != 0)
        i++;
    if (i == WIRE_PARAMS_MAX)
        return -ENOBUFS;
    copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    if (i == p->n) {
        key = strdup(name);
        if (!key)
            return -ENOMEM;
        p->items[p->n++].name = TAKE_PTR(key);
    } else {
        free(p->items[i].value);
    }
    p->items[i].value = TAKE_PTR(copy);
    return 0;
}

const char *wire_params_get(const struct wire_params *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->items[i].name, name) == 0)
            return p->items[i].value;
    return NULL;
}

size_t wire_params_count(const struct wire_params *p)
{
    return p->n;
}

const char *wire_params_name(const struct wire_params *p, size_t i)
{
    return p->items[i].name;
}

const char *wire_params_value(const struct wire_params *p, size_t i)
{
    return p->items[i].value;
}
