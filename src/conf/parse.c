// SPDX-License-Identifier: GPL-3.0-or-later

/* Reader of settings files: "key = value" or "key: value" lines, # and ! comments, a backslash at a
 * line's end joins the next one, a backslash before a character takes it as it is (Java's
 * properties, as the original's files were). Knows nothing of which keys there are. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "conf/conf-internal.h"

struct reader {
    const char *name, *at, *end;
    char *buffer;  /* room for the longest line */
    unsigned line; /* of the logical line that is being read */
    unsigned next_line;
    struct qvd_error *err;
};

void conf_entries_done(struct conf_entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->v[i].key);
        free(e->v[i].value);
    }
    free(e->v);
    *e = (struct conf_entries){0};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

/* One logical line in the reader's buffer, lines joined, without its end; escapes are kept. */
static char *logical_line(struct reader *r)
{
    char *line = r->buffer;
    size_t n = 0;

    r->line = r->next_line;
    while (r->at < r->end) {
        char c = *r->at++;

        if (c == '\\' && r->at < r->end && (*r->at == '\n' || *r->at == '\r')) {
            if (*r->at == '\r' && r->at + 1 < r->end && r->at[1] == '\n')
                r->at++;
            r->at++;
            r->next_line++;
            while (r->at < r->end && is_blank(*r->at))
                r->at++;
            continue;
        }
        if (c == '\\' && r->at < r->end) {
            line[n++] = c;
            line[n++] = *r->at++;
            continue;
        }
        if (c == '\r' && r->at < r->end && *r->at == '\n')
            continue;
        if (c == '\n') {
            r->next_line++;
            break;
        }
        line[n++] = c;
    }
    line[n] = 0;
    return line;
}

/* Takes the backslashes away, in place, from s to its end. A trailing lone one stays. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (*s == '\\' && s[1]) {
            s++;
            *to++ = (char)(*s == 'n' ? '\n' : *s == 't' ? '\t' : *s);
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

static bool key_char(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

static int add(struct conf_entries *e, size_t *size, const char *key, size_t key_len,
               const char *value, unsigned line)
{
    struct conf_entry *entry;

    if (e->n == CONF_ENTRIES_MAX)
        return -E2BIG;
    if (e->n == *size) {
        size_t bigger = *size ? *size * 2 : 32;
        struct conf_entry *v = reallocarray(e->v, bigger, sizeof *v);

        if (!v)
            return -ENOMEM;
        e->v = v;
        *size = bigger;
    }
    entry = &e->v[e->n];
    entry->key = strndup(key, key_len);
    entry->value = strdup(value);
    entry->line = line;
    e->n++;
    return entry->key && entry->value ? 0 : -ENOMEM;
}

static void cut_end(char *s)
{
    size_t n = strlen(s);

    while (n > 0 && is_blank(s[n - 1]) && !(n > 1 && s[n - 2] == '\\'))
        n--;
    s[n] = 0;
}

/* One logical line: 0, -EINVAL, -ENOMEM. */
static int parse_line(struct reader *r, char *line, struct conf_entries *e, size_t *size)
{
    char *s = line, *value;
    size_t key_len = 0;

    while (is_blank(*s) || *s == '\r')
        s++;
    if (!*s || *s == '#' || *s == '!')
        return 0;
    while (key_char(s[key_len]))
        key_len++;
    value = s + key_len;
    while (is_blank(*value))
        value++;
    if (key_len == 0 || (*value != '=' && *value != ':'))
        return qvd_error_set(r->err, -EINVAL,
                             "%s:%u: expected \"key = value\" (keys are letters, digits, '.', '_' "
                             "and '-')",
                             r->name, r->line);
    if (key_len > CONF_KEY_MAX)
        return qvd_error_set(r->err, -EINVAL, "%s:%u: the key is longer than %d characters",
                             r->name, r->line, CONF_KEY_MAX);
    value++;
    while (is_blank(*value))
        value++;
    cut_end(value);
    unescape(value);
    if (strlen(value) > CONF_VALUE_MAX)
        return qvd_error_set(r->err, -EINVAL, "%s:%u: %.*s: the value is longer than %d bytes",
                             r->name, r->line, (int)key_len, s, CONF_VALUE_MAX);
    return add(e, size, s, key_len, value, r->line);
}

int conf_parse(const char *name, const char *text, size_t len, struct conf_entries *ret,
               struct qvd_error *err)
{
    _cleanup_(free_p) char *buffer = NULL;
    struct reader r = {name, text, text + len, NULL, 1, 1, err};
    struct conf_entries e = {0};
    size_t size = 0;
    int error = 0;

    if (len > CONF_FILE_MAX)
        return qvd_error_set(err, -EINVAL, "%s: larger than %d bytes", name, CONF_FILE_MAX);
    if (!utf8_valid(text, len))
        return qvd_error_set(err, -EINVAL, "%s: not UTF-8 text", name);
    r.buffer = buffer = malloc(len + 1);
    if (!buffer)
        return qvd_error_set(err, -ENOMEM, "%s: out of memory", name);
    while (r.at < r.end && error == 0)
        error = parse_line(&r, logical_line(&r), &e, &size);
    if (error < 0) {
        conf_entries_done(&e);
        if (error == -E2BIG)
            return qvd_error_set(err, -EINVAL, "%s:%u: more than %d settings", name, r.line,
                                 CONF_ENTRIES_MAX);
        return error == -ENOMEM ? qvd_error_set(err, -ENOMEM, "%s: out of memory", name) : error;
    }
    *ret = e;
    return 0;
}
