// SPDX-License-Identifier: GPL-3.0-or-later
/* Parameters from and to JSON; apart from params.c, so that a root process can hold parameters
 * without a JSON parser in it. */
#include <jansson.h>
#include <string.h>

#include "base/str.h"
#include "wire/vma.h"

static must_check int set_member(struct wire_params *p, const char *name, const json_t *value)
{
    char text[32];

    if (json_is_null(value))
        return 0;
    if (json_is_string(value)) {
        if (strlen(json_string_value(value)) != json_string_length(value))
            return -EINVAL;
        return wire_params_set(p, name, json_string_value(value));
    }
    if (json_is_boolean(value))
        return wire_params_set(p, name, json_is_true(value) ? "1" : "0");
    if (!json_is_integer(value))
        return -EBADMSG;
    int r = str_format(text, sizeof text, "%lld", (long long)json_integer_value(value));
    return r < 0 ? r : wire_params_set(p, name, text);
}

int wire_params_set_json(struct wire_params *p, const char *json, size_t len)
{
    json_error_t error;
    const char *name;
    json_t *value;

    if (len > WIRE_VMA_BODY_MAX)
        return -ENOBUFS;
    json_auto_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root))
        return -EBADMSG;
    json_object_foreach(root, name, value)
    {
        int r = set_member(p, name, value);
        if (r < 0)
            return r;
    }
    return 0;
}

int wire_params_set_properties(struct wire_params *p, const char *json, size_t len, size_t *ret_bad)
{
    json_error_t error;
    const char *name;
    json_t *value;

    *ret_bad = 0;
    json_auto_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root))
        return -EBADMSG;
    json_object_foreach(root, name, value)
    {
        int r = str_starts(name, "qvd.") ? -EINVAL : set_member(p, name, value);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            ++*ret_bad;
    }
    return 0;
}

char *wire_params_format(const struct wire_params *p)
{
    json_auto_t *root = json_object();

    if (!root)
        return NULL;
    for (size_t i = 0; i < wire_params_count(p); i++)
        if (json_object_set_new(root, wire_params_name(p, i),
                                json_string(wire_params_value(p, i))) < 0)
            return NULL;
    return json_dumps(root, JSON_COMPACT);
}
