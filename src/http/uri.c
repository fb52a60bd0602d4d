// SPDX-License-Identifier: GPL-3.0-or-later
#include "http/uri.h"

#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/str.h"

struct parsed {
    struct http_target target;
    struct http_param params[];
};

/* In place; plus: '+' means blank. */
static must_check int decode(char *s, bool plus)
{
    char *to = s, *begin = s;

    for (; *s; s++) {
        if (*s == '%') {
            int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
            if (low < 0 || (high == 0 && low == 0))
                return -EINVAL;
            *to++ = high << 4 | low;
            s += 2;
        } else {
            *to++ = plus && *s == '+' ? ' ' : *s;
        }
    }
    *to = '\0';
    return utf8_valid(begin, to - begin) ? 0 : -EINVAL;
}

static must_check int parse_query(struct parsed *p, char *query, size_t max)
{
    char *item;

    while ((item = strsep(&query, "&"))) {
        char *value = strchr(item, '=');
        if (!*item)
            continue;
        if (value)
            *value++ = '\0';
        if (p->target.n_params == max)
            return -E2BIG;
        if (decode(item, true) < 0 || (value && decode(value, true) < 0))
            return -EINVAL;
        p->params[p->target.n_params++] = (struct http_param){item, value ? value : ""};
    }
    return 0;
}

int http_target_parse(const char *target, struct http_target **ret_target)
{
    size_t len = strlen(target), max = 1;
    int r = 0;

    for (const char *c = target; *c; c++)
        max += *c == '&';
    if (max > HTTP_PARAMS_MAX)
        max = HTTP_PARAMS_MAX;
    size_t table = sizeof(struct parsed) + max * sizeof(struct http_param);
    struct parsed *p = malloc(table + len + 1);
    if (!p)
        return -ENOMEM;
    char *copy = (char *)p + table;
    memcpy(copy, target, len + 1);
    char *query = strchr(copy, '?');
    if (query)
        *query++ = '\0';
    p->target = (struct http_target){.path = copy, .params = p->params};
    if (*copy != '/' || decode(copy, false) < 0)
        r = -EINVAL;
    else if (query)
        r = parse_query(p, query, max);
    if (r < 0) {
        free(p);
        return r;
    }
    *ret_target = &p->target;
    return 0;
}

struct http_target *http_target_free(struct http_target *t)
{
    if (t)
        free(QVD_CONTAINER(t, struct parsed, target));
    return NULL;
}

const char *http_target_get(const struct http_target *t, const char *key)
{
    for (size_t i = 0; i < t->n_params; i++)
        if (strcmp(t->params[i].key, key) == 0)
            return t->params[i].value;
    return NULL;
}

int http_encode(struct buf *out, const char *s)
{
    static const char digits[] = "0123456789ABCDEF";
    int r = 0;

    for (; *s && r >= 0; s++) {
        unsigned char c = *s;
        char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            strchr("-._~", c))
            r = buf_append(out, s, 1);
        else
            r = buf_append(out, escaped, 3);
    }
    return r;
}

static void wipe_free(char *s, size_t len)
{
    if (s)
        explicit_bzero(s, len);
    free(s);
}

static must_check int parse_basic(const char *s, struct http_auth *ret_auth)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int r = base64_decode(s, strlen(s), &data, &len);

    if (r < 0)
        return r;
    uint8_t *colon = memchr(data, ':', len);
    if (!colon || colon == data || memchr(data, '\0', len)) {
        r = -EINVAL;
    } else {
        *ret_auth = (struct http_auth){.scheme = HTTP_AUTH_BASIC,
                                       .user = strndup((char *)data, colon - data),
                                       .password = strdup((char *)colon + 1)};
        r = ret_auth->user && ret_auth->password ? 0 : -ENOMEM;
        if (r < 0)
            http_auth_done(ret_auth);
    }
    wipe_free((char *)data, len);
    return r;
}

int http_auth_parse(const char *value, struct http_auth *ret_auth)
{
    struct http_auth auth = {0};
    int r = 0;

    if (!value) {
        *ret_auth = auth;
        return 0;
    }
    size_t word = strcspn(value, " ");
    const char *rest = value + word + strspn(value + word, " ");
    if (!*rest)
        return -EINVAL;
    if (word == 5 && strncasecmp(value, "Basic", 5) == 0) {
        r = parse_basic(rest, &auth);
    } else if (word == 6 && strncasecmp(value, "Bearer", 6) == 0 && !strchr(rest, ' ')) {
        auth = (struct http_auth){.scheme = HTTP_AUTH_BEARER, .token = strdup(rest)};
        r = auth.token ? 0 : -ENOMEM;
    } else {
        r = -EINVAL;
    }
    if (r >= 0)
        *ret_auth = auth;
    return r;
}

void http_auth_done(struct http_auth *a)
{
    char *parts[] = {a->user, a->password, a->token};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        wipe_free(parts[i], parts[i] ? strlen(parts[i]) : 0);
    *a = (struct http_auth){0};
}

char *http_auth_basic(const char *user, const char *password)
{
    char *plain = str_printf("%s:%s", user, password);
    char *code = plain ? base64_encode(plain, strlen(plain)) : NULL;
    char *value = code ? str_printf("Basic %s", code) : NULL;

    wipe_free(plain, plain ? strlen(plain) : 0);
    wipe_free(code, code ? strlen(code) : 0);
    return value;
}
