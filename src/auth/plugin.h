// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Ways to tell who somebody is. A plugin is a row of operations; which ones a tenant uses, and in
 * what order, is a setting. They run in qvd-authd, where a call may block, one at a time.
 *
 * Adding a plugin is one file and one row in plugin.c. */

#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"

/* One try to log in. login and tenant are normalised. stored: the hash in the database; NULL: the
 * account is not there or has none (the plugin may not behave differently in time). */
struct auth_attempt {
    const char *login, *tenant, *password;
    int64_t tenant_id; /* -1: unknown tenant */
    const char *stored;
    bool rehash; /* set by the plugin: the stored hash is of an old scheme */
};

enum auth_verdict {
    AUTH_NO,
    AUTH_YES,
    AUTH_AWAY, /* cannot tell now: the directory does not answer */
};

struct auth_plugin {
    const char *name; /* the word in l7r.auth.plugins */
    const char *text;
    /* Does the password fit? May block for up to l7r.authd.timeout. */
    enum auth_verdict (*verify)(const struct conf *c, struct auth_attempt *a);
};

/* NULL for the unknown. */
const struct auth_plugin *auth_plugin_find(const char *name);

#define AUTH_PLUGINS_MAX 16
/* Those of a tenant in their order: l7r.auth.plugins.head, l7r.auth.plugins (the tenant's own),
 * l7r.auth.plugins.tail; each once. 0 and *ret_n; -EINVAL with err naming the setting and the word,
 * when one is unknown or none is left. */
must_check int auth_plugins_of(const struct conf *c, int64_t tenant,
                               const struct auth_plugin *ret[AUTH_PLUGINS_MAX], size_t *ret_n,
                               struct qvd_error *err);
/* Asks them in turn: the first YES wins; NO when all say so, else AWAY. */
enum auth_verdict auth_plugins_verify(const struct auth_plugin *const *plugins, size_t n,
                                      const struct conf *c, struct auth_attempt *a);

extern const struct auth_plugin auth_plugin_default;
