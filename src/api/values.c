// SPDX-License-Identifier: GPL-3.0-or-later
/* From the body's members to values of fields, checked by the table. Texts are taken for every
 * type, so that command lines need not know types. */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "api/api-internal.h"
#include "base/str.h"

#define TEXT_MAX_DEFAULT 1024

const char *api_text_of(struct api_request *q, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return json_string_value(v);
    case JSON_INTEGER:
        return api_keep(q, str_printf("%lld", (long long)json_integer_value(v)));
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "";
    default:
        return NULL;
    }
}

static enum admin_status bad(struct qvd_error *err, const struct admin_field *f, const char *wanted)
{
    qvd_error_set(err, ADMIN_INVALID, "%s: %s expected", f->name, wanted);
    return ADMIN_INVALID;
}

static enum admin_status check_int(const struct admin_field *f, const char *text,
                                   struct qvd_error *err)
{
    int64_t value;

    if (str_to_i64(text, f->min, f->max, &value) == 0)
        return ADMIN_OK;
    qvd_error_set(err, ADMIN_INVALID, "%s = %.40s: a whole number from %lld to %lld expected",
                  f->name, text, (long long)f->min, (long long)f->max);
    return ADMIN_INVALID;
}

static enum admin_status check_text(const struct admin_field *f, const char *text,
                                    struct qvd_error *err)
{
    size_t len = strlen(text), max = f->max ? (size_t)f->max : TEXT_MAX_DEFAULT;

    if (!utf8_valid(text, len))
        return bad(err, f, "UTF-8");
    if (len > max || len < (size_t)f->min) {
        qvd_error_set(err, ADMIN_INVALID, "%s: %lld to %zu bytes expected, this has %zu", f->name,
                      (long long)f->min, max, len);
        return ADMIN_INVALID;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return bad(err, f, "no control characters");
    return ADMIN_OK;
}

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = words; n && *at;) {
        size_t len = strcspn(at, " ");
        if (len == n && strncmp(at, word, n) == 0)
            return true;
        at += len + (at[len] == ' ');
    }
    return false;
}

static const char *bool_word(const char *text)
{
    static const char *const yes[] = {"true", "yes", "y", "1", "on"};
    static const char *const no[] = {"false", "no", "n", "0", "off"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return "t";
        if (strcasecmp(text, no[i]) == 0)
            return "f";
    }
    return NULL;
}

/* Logins as they are kept: trimmed, lower-cased unless the setting says otherwise. */
static const char *login_text(struct api_request *q, const char *text)
{
    char *copy = strdup(text);
    char *trimmed = copy ? str_trim(copy) : NULL;
    char *fresh = trimmed ? strdup(trimmed) : NULL;

    free(copy);
    if (fresh && !conf_bool(q->api->conf, "model.user.login.case-sensitive"))
        for (char *c = fresh; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c + 'a' - 'A');
    return api_keep(q, fresh);
}

/* A login with a character that ends it on its way (Basic's colon, what stands before a tenant)
 * could never be used. */
static enum admin_status check_login(struct api_request *q, const struct admin_field *f,
                                     const char *text, struct qvd_error *err)
{
    const char *separators = conf_str(q->api->conf, "l7r.auth.plugin.default.separators");
    const char *at = strpbrk(text, ":");

    if (!at && *separators)
        at = strpbrk(text, separators);
    if (!at || strcmp(f->name, "login") != 0)
        return check_text(f, text, err);
    qvd_error_set(err, ADMIN_INVALID, "login: nobody could log in by a name with \"%c\": %s", *at,
                  *at == ':' ? "the password begins behind it"
                             : "the tenant begins behind it (l7r.auth.plugin.default.separators)");
    return ADMIN_INVALID;
}

/* The database knows calendars; here only that it is no word of its own ("infinity", "now"). */
static enum admin_status check_time(const struct admin_field *f, const char *text,
                                    struct qvd_error *err)
{
    size_t len = strlen(text);

    if (len >= 10 && len <= 40 && strspn(text, "0123456789-") >= 10 &&
        strspn(text, "0123456789-:.+ TZ") == len)
        return ADMIN_OK;
    return bad(err, f, "a time such as 2026-11-30T18:00Z");
}

static enum admin_status check_value(struct api_request *q, const struct admin_field *f,
                                     const char **text, struct qvd_error *err)
{
    unsigned char room[16];

    switch (f->type) {
    case ADMIN_INT:
        return check_int(f, *text, err);
    case ADMIN_BOOL:
        *text = bool_word(*text);
        return *text ? ADMIN_OK : bad(err, f, "yes or no");
    case ADMIN_WORD:
        if (has_word(f->choices, *text))
            return ADMIN_OK;
        qvd_error_set(err, ADMIN_INVALID, "%s: one of these expected: %s", f->name, f->choices);
        return ADMIN_INVALID;
    case ADMIN_IP:
        return inet_pton(AF_INET, *text, room) == 1 || inet_pton(AF_INET6, *text, room) == 1
                   ? ADMIN_OK
                   : bad(err, f, "an address such as 10.3.0.7");
    case ADMIN_TIME:
        return check_time(f, *text, err);
    case ADMIN_LOGIN:
        *text = login_text(q, *text);
        return *text ? check_login(q, f, *text, err) : bad(err, f, "a text");
    case ADMIN_TEXT:
    case ADMIN_SECRET:
        return check_text(f, *text, err);
    default:
        return bad(err, f, "nothing (it cannot be set)");
    }
}

static enum admin_status unknown(struct api_request *q, const char *name, char letter,
                                 const struct admin_field *f, struct qvd_error *err)
{
    const char *near = NULL;
    unsigned best = 3;

    for (size_t i = 0; !f && i < q->resource->n_fields; i++) {
        unsigned d = str_distance(name, q->resource->fields[i].name);
        if (d < best && admin_may(&q->resource->fields[i], letter)) {
            best = d;
            near = q->resource->fields[i].name;
        }
    }
    if (f)
        qvd_error_set(err, ADMIN_INVALID, "%s: it cannot be %s", f->name,
                      letter == 'e' ? "changed" : "set at creation");
    else
        qvd_error_set(err, ADMIN_BAD, "%s has no field \"%.60s\"%s%s%s", q->resource->name, name,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return f ? ADMIN_INVALID : ADMIN_BAD;
}

static enum admin_status take(struct api_request *q, const char *name, const json_t *v, char letter,
                              struct qvd_error *err)
{
    const struct admin_field *f = admin_field_find(q->resource, name);
    const char *text = api_text_of(q, v);

    if (!f || !admin_may(f, letter))
        return unknown(q, name, letter, f, err);
    if (!f->column) /* tags, tenant...: the resource's own code takes them */
        return ADMIN_OK;
    if (!text || (json_is_string(v) && strlen(text) != json_string_length(v)))
        return bad(err, f, "a text or a number");
    if (q->n_values >= API_VALUES_MAX)
        return bad(err, f, "fewer fields");
    if (!*text && admin_may(f, 'n')) {
        q->values[q->n_values++] = (struct admin_value){f, NULL};
        return ADMIN_OK;
    }
    enum admin_status st = check_value(q, f, &text, err);
    if (st == ADMIN_OK)
        q->values[q->n_values++] = (struct admin_value){f, text};
    return st;
}

/* Two names of one column (osf, osf_id) cannot both be set. */
static enum admin_status no_column_twice(const struct api_request *q, struct qvd_error *err)
{
    for (size_t i = 0; i < q->n_values; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(q->values[i].field->column, q->values[j].field->column) == 0) {
                qvd_error_set(err, ADMIN_BAD, "%s and %s: give only one of them",
                              q->values[j].field->name, q->values[i].field->name);
                return ADMIN_BAD;
            }
    return ADMIN_OK;
}

enum admin_status api_values(struct api_request *q, char letter, struct qvd_error *err)
{
    const char *name;
    json_t *v;
    enum admin_status st;

    json_object_foreach(q->body, name, v)
    {
        st = take(q, name, v, letter, err);
        if (st != ADMIN_OK)
            return st;
    }
    for (size_t i = 0; letter == 'c' && i < q->resource->n_fields; i++) {
        const struct admin_field *f = &q->resource->fields[i];
        if (admin_may(f, 'm') && !json_object_get(q->body, f->name)) {
            qvd_error_set(err, ADMIN_INVALID, "%s needs %s (%s)", q->resource->name, f->name,
                          f->text);
            return ADMIN_INVALID;
        }
    }
    return no_column_twice(q, err);
}

enum admin_status api_member(struct api_request *q, const char *name, bool must, const char **ret,
                             struct qvd_error *err)
{
    const json_t *v = json_object_get(q->body, name);

    *ret = v ? api_text_of(q, v) : NULL;
    if ((v || must) && !*ret) {
        qvd_error_set(err, ADMIN_BAD, "%s: a text expected", name);
        return ADMIN_BAD;
    }
    return ADMIN_OK;
}
