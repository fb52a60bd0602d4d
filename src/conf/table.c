// SPDX-License-Identifier: GPL-3.0-or-later

/* The table of settings: names, what a value may be, and the nearest name to a wrong one. Knows
 * nothing of files and layers. */

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "conf/conf-internal.h"

#define N CONF_IN_NODE
#define V CONF_IN_VMA
#define C CONF_IN_CLIENT
#define Q CONF_IN_QA
#define K(key_, type_, def_, min_, max_, choices_, scope_, when_, files_, text_)                   \
    {.key = key_,                                                                                  \
     .type = CONF_##type_,                                                                         \
     .def = def_,                                                                                  \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .choices = choices_,                                                                          \
     .scope = CONF_##scope_,                                                                       \
     .when = CONF_##when_,                                                                         \
     .files = files_,                                                                              \
     .text = text_},

static const struct conf_key table[] = {
#include "conf/settings.def"
};

#undef N
#undef V
#undef C
#undef Q
#undef K

const struct conf_key *conf_keys(size_t *ret_n)
{
    *ret_n = ARRAY_SIZE(table);
    return table;
}

size_t conf_index(const struct conf_key *key)
{
    return (size_t)(key - table);
}

bool conf_is_pattern(const struct conf_key *key)
{
    return str_ends(key->key, ".*");
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct conf_key *const *)a)->key,
                  (*(const struct conf_key *const *)b)->key);
}

/* The rows that are no patterns in the order of their names; filled at the first call. */
static const struct conf_key *const *sorted(size_t *ret_n)
{
    static const struct conf_key *rows[ARRAY_SIZE(table)];
    static size_t n;

    if (n == 0) {
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
            if (!conf_is_pattern(&table[i]))
                rows[n++] = &table[i];
        qsort(rows, n, sizeof *rows, by_name);
    }
    *ret_n = n;
    return rows;
}

const struct conf_key *conf_find(const char *name)
{
    const struct conf_key wanted = {.key = name}, *key = &wanted, *best = NULL;
    size_t n, best_len = 0;
    const struct conf_key *const *rows = sorted(&n);
    const struct conf_key *const *found = bsearch(&key, rows, n, sizeof *rows, by_name);

    if (found)
        return *found;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        size_t len = strlen(table[i].key);

        if (len > best_len && conf_is_pattern(&table[i]) &&
            strncmp(table[i].key, name, len - 1) == 0 && name[len - 1] &&
            strcmp(name + len - 1, "*") != 0) {
            best = &table[i];
            best_len = len;
        }
    }
    return best;
}

const char *conf_nearest(const char *name)
{
    const char *best = NULL;
    size_t len = strlen(name);
    unsigned best_distance = len < 6 ? 2 : len < 12 ? 4 : 7;

    if (len > CONF_KEY_MAX)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        unsigned distance;

        if (table[i].type >= CONF_OBSOLETE || conf_is_pattern(&table[i]))
            continue;
        distance = str_distance(name, table[i].key);
        if (distance < best_distance) {
            best_distance = distance;
            best = table[i].key;
        }
    }
    return best;
}

static int value_bool(const char *text, int64_t *ret, struct qvd_error *err)
{
    static const char *const words[2][4] = {
        {"0", "no",  "false", "off"},
        {"1", "yes", "true",  "on" },
    };

    for (int v = 0; v < 2; v++)
        for (size_t i = 0; i < ARRAY_SIZE(words[v]); i++)
            if (strcasecmp(text, words[v][i]) == 0) {
                *ret = v;
                return 0;
            }
    return qvd_error_set(err, -EINVAL, "must be 0 or 1 (or no, yes, off, on, false, true)");
}

static int value_choice(const struct conf_key *key, const char *text, struct qvd_error *err)
{
    const char *at = NULL;
    char word[64];

    while (conf_list_next(key->choices, &at, word, sizeof word))
        if (strcasecmp(word, text) == 0)
            return 0;
    return qvd_error_set(err, -EINVAL, "must be one of: %s", key->choices);
}

/* A plain decimal number; *ret_rest is what follows it. */
static bool number(const char *text, double *ret, const char **ret_rest)
{
    size_t digits = strspn(text, "0123456789");
    size_t fraction = 0;
    char copy[64];

    if (text[digits] == '.')
        fraction = 1 + strspn(text + digits + 1, "0123456789");
    if (digits == 0 || fraction == 1 || str_copy_n(copy, sizeof copy, text, digits + fraction) < 0)
        return false;
    *ret = strtod(copy, NULL);
    *ret_rest = text + digits + fraction;
    return true;
}

static int value_duration(const struct conf_key *key, const char *text, int64_t *ret,
                          struct qvd_error *err)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {
        {"",   1000    },
        {"ms", 1       },
        {"s",  1000    },
        {"m",  60000   },
        {"h",  3600000 },
        {"d",  86400000},
    };
    const char *rest;
    double v;

    if (number(text, &v, &rest))
        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
            if (strcmp(rest, units[i].unit) == 0 && v * units[i].ms >= (double)key->min &&
                v * units[i].ms <= (double)key->max) {
                *ret = (int64_t)(v * units[i].ms + 0.5);
                return 0;
            }
    return qvd_error_set(err, -EINVAL,
                         "must be a time (seconds, or a number with ms, s, m, h or d) between "
                         "%gs and %gs",
                         (double)key->min / 1000, (double)key->max / 1000);
}

static int value_real(const struct conf_key *key, const char *text, double *ret,
                      struct qvd_error *err)
{
    const char *rest;

    if (!number(text, ret, &rest) || *rest || *ret < (double)key->min || *ret > (double)key->max)
        return qvd_error_set(err, -EINVAL, "must be a number between %lld and %lld",
                             (long long)key->min, (long long)key->max);
    return 0;
}

static bool is_ip(const char *text)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static int value_address(const char *text, struct qvd_error *err)
{
    const char *at = NULL;
    char word[64];
    bool any = false;

    while (conf_list_next(text, &at, word, sizeof word)) {
        any = true;
        if (strcmp(word, "*") != 0 && !is_ip(word))
            return qvd_error_set(err, -EINVAL, "must be * or addresses separated by commas");
    }
    return any ? 0 : qvd_error_set(err, -EINVAL, "must be * or an address");
}

static int value_text(const char *text, struct qvd_error *err)
{
    size_t len = strlen(text);

    if (len > CONF_VALUE_MAX)
        return qvd_error_set(err, -EINVAL, "must not be longer than %d bytes", CONF_VALUE_MAX);
    if (!utf8_valid(text, len))
        return qvd_error_set(err, -EINVAL, "must be UTF-8");
    for (size_t i = 0; i < len; i++)
        if (iscntrl((unsigned char)text[i]) && text[i] != '\t' && text[i] != '\n')
            return qvd_error_set(err, -EINVAL, "must not hold control characters");
    return 0;
}

/* A list may be of none; another text only where that is its default. */
static int value_form(const struct conf_key *key, const char *text, struct qvd_error *err)
{
    if (!key->choices || (!*text && (key->type == CONF_LIST || !*key->def)) ||
        form_fits(key->choices, text))
        return 0;
    return qvd_error_set(err, -EINVAL, "must be %s", form_text(key->choices));
}

int conf_value(const struct conf_key *key, const char *text, int64_t *ret_num, double *ret_real,
               struct qvd_error *err)
{
    int r = value_text(text, err);

    *ret_num = 0;
    *ret_real = 0;
    if (r < 0)
        return r;
    if (!*text && !key->def)
        return 0; /* not set: whoever needs it asks conf_require() */
    switch (key->type) {
    case CONF_INT:
        if (str_to_i64(text, key->min, key->max, ret_num) < 0)
            return qvd_error_set(err, -EINVAL, "must be a whole number between %lld and %lld",
                                 (long long)key->min, (long long)key->max);
        return 0;
    case CONF_REAL:
        return value_real(key, text, ret_real, err);
    case CONF_BOOL:
        return value_bool(text, ret_num, err);
    case CONF_CHOICE:
        return value_choice(key, text, err);
    case CONF_DURATION:
        return value_duration(key, text, ret_num, err);
    case CONF_PATH:
        return *text == '/' ? 0 : qvd_error_set(err, -EINVAL, "must be a path that begins with /");
    case CONF_IP:
        return !*text || is_ip(text) ? 0 : qvd_error_set(err, -EINVAL, "must be an IP address");
    case CONF_ADDRESS:
        return value_address(text, err);
    case CONF_STR:
    case CONF_LIST:
        return value_form(key, text, err);
    default:
        return 0;
    }
}

int conf_check(const struct conf_key *key, const char *value, struct qvd_error *err)
{
    struct qvd_error why;
    int64_t num;
    double real;
    int r;

    if (strstr(value, "${"))
        r = value_text(value, &why);
    else
        r = conf_value(key, value, &num, &real, &why);
    if (r < 0)
        return qvd_error_set(err, r, "%s: %s", key->key, why.text);
    return 0;
}

bool conf_list_next(const char *list, const char **at, char *dst, size_t size)
{
    const char *s = *at ? *at : list;
    size_t len;

    s += strspn(s, ", \t\n");
    if (!*s || size == 0)
        return false;
    len = strcspn(s, ", \t\n");
    *at = s + len;
    if (len >= size)
        len = size - 1;
    memcpy(dst, s, len);
    dst[len] = 0;
    return true;
}

const char *conf_idle_note(const struct conf_key *key)
{
    return key->type == CONF_OBSOLETE   ? "is obsolete, ignoring it: "
           : key->type == CONF_RESERVED ? "accepted, without effect in this version"
                                        : NULL;
}

const char *conf_type_name(enum conf_type t)
{
    static const char *const names[CONF_TYPE_MAX] = {
        [CONF_STR] = "text",
        [CONF_INT] = "number",
        [CONF_REAL] = "decimal number",
        [CONF_BOOL] = "0 or 1",
        [CONF_CHOICE] = "choice",
        [CONF_DURATION] = "time",
        [CONF_PATH] = "path",
        [CONF_IP] = "address",
        [CONF_ADDRESS] = "listening address",
        [CONF_LIST] = "list",
        [CONF_SECRET] = "secret",
        [CONF_OBSOLETE] = "obsolete",
        [CONF_RESERVED] = "reserved",
    };

    return (unsigned)t < CONF_TYPE_MAX ? names[t] : NULL;
}

const char *conf_scope_name(enum conf_scope s)
{
    static const char *const names[CONF_SCOPE_MAX] = {"cluster", "tenant", "node", "file"};

    return (unsigned)s < CONF_SCOPE_MAX ? names[s] : NULL;
}

const char *conf_when_name(enum conf_when w)
{
    static const char *const names[CONF_WHEN_MAX] = {"live", "reload", "restart"};

    return (unsigned)w < CONF_WHEN_MAX ? names[w] : NULL;
}
