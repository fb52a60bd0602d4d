// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/params.h"

#include <jansson.h>
#include <string.h>

#include "base/str.h"

/* A name or value takes at most so many bytes of JSON: six for each of its own. */
#define ESCAPED(text) (6 * strlen(text) + 8)

struct auth_params {
    json_t *all;
    size_t size;
};

struct auth_params *auth_params_new(void)
{
    struct auth_params *p = calloc(1, sizeof *p);

    if (p && !(p->all = json_object()))
        return auth_params_free(p);
    return p;
}

struct auth_params *auth_params_free(struct auth_params *p)
{
    if (p)
        json_decref(p->all);
    free(p);
    return NULL;
}

int auth_params_set(struct auth_params *p, const char *name, const char *value)
{
    size_t size = p->size + ESCAPED(name) + ESCAPED(value);

    if (!name[0] || !utf8_valid(name, strlen(name)) || !utf8_valid(value, strlen(value)))
        return -EINVAL;
    if (size > AUTH_PARAMS_MAX)
        return -E2BIG;
    if (json_object_set_new(p->all, name, json_string(value)) < 0)
        return -ENOMEM;
    p->size = size;
    return 0;
}

char *auth_params_json(const struct auth_params *p)
{
    return json_dumps(p->all, JSON_COMPACT);
}
