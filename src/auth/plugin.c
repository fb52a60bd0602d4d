// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/plugin.h"

#include <string.h>

static const struct auth_plugin *const plugins[] = {
    &auth_plugin_default,
};

const struct auth_plugin *auth_plugin_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(plugins); i++)
        if (strcmp(plugins[i]->name, name) == 0)
            return plugins[i];
    return NULL;
}

static bool has(const struct auth_plugin *const *list, size_t n, const struct auth_plugin *p)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == p)
            return true;
    return false;
}

int auth_plugins_of(const struct conf *c, int64_t tenant,
                    const struct auth_plugin *ret[AUTH_PLUGINS_MAX], size_t *ret_n,
                    struct qvd_error *err)
{
    static const char *const keys[] = {"l7r.auth.plugins.head", "l7r.auth.plugins",
                                       "l7r.auth.plugins.tail"};
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *list = i == 1 ? conf_tenant_str(c, tenant, keys[i]) : conf_str(c, keys[i]);
        const char *at = NULL;
        char word[64];
        while (conf_list_next(list, &at, word, sizeof word)) {
            const struct auth_plugin *p = auth_plugin_find(word);
            if (!p)
                return qvd_error_set(err, -EINVAL, "%s: there is no plugin \"%s\"", keys[i], word);
            if (!has(ret, n, p) && n < AUTH_PLUGINS_MAX)
                ret[n++] = p;
        }
    }
    if (n == 0)
        return qvd_error_set(err, -EINVAL, "l7r.auth.plugins names none: nobody can log in");
    *ret_n = n;
    return 0;
}

enum auth_verdict auth_plugins_verify(const struct auth_plugin *const *list, size_t n,
                                      const struct conf *c, struct auth_attempt *a)
{
    enum auth_verdict all = AUTH_NO;

    for (size_t i = 0; i < n; i++) {
        enum auth_verdict v = list[i]->verify(c, a);
        if (v == AUTH_YES)
            return v;
        if (v == AUTH_AWAY)
            all = v;
    }
    return all;
}
