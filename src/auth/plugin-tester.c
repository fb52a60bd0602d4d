// SPDX-License-Identifier: GPL-3.0-or-later
/* The plugin "tester": an example, and a help to see what clients share. It tells the names of the
 * shared environment in the log, never a value, and says no to everybody, so that the plugins after
 * it decide. */
#include <string.h>

#include "auth/plugin.h"
#include "base/log.h"
#include "base/str.h"

static void tell_env(const struct auth_attempt *a)
{
    const char *at = NULL, *name, *value;
    char names[400] = "";
    size_t n = 0, len = 0;

    while (auth_env_next(&a->env, &at, &name, &value)) {
        n++;
        if (len + strlen(name) + 2 < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len ? " " : "", name);
    }
    log_info("tester: %zu shared variables: %s%s", n, n ? names : "none",
             a->file_name && a->file_name[0] ? "; a file name" : "");
}

static enum auth_verdict authenticate_basic(const struct conf *c, struct auth_attempt *a)
{
    tell_env(a);
    return AUTH_NO;
}

static enum auth_verdict authenticate_bearer(const struct conf *c, struct auth_attempt *a)
{
    tell_env(a);
    return AUTH_NO;
}

static void before_list_of_vms(const struct conf *c, struct auth_attempt *a)
{
    log_info("tester: user %lld lists", (long long)a->user_id);
}

static bool allow_access_to_vm(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    return false;
}

/* An agent passes it on to hooks, where it can be seen to have arrived. */
static void before_connect_to_vm(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    log_info("tester: user %lld connects to VM %llu", (long long)a->user_id,
             (unsigned long long)vm_id);
    if (auth_params_set(a->params, "custom.tester", "was here") < 0)
        log_info("tester: no room for a parameter");
}

const struct auth_plugin auth_plugin_tester = {
    .name = "tester",
    .text = "logs the names of shared variables and rejects everybody",
    .authenticate_basic = authenticate_basic,
    .authenticate_bearer = authenticate_bearer,
    .before_list_of_vms = before_list_of_vms,
    .allow_access_to_vm = allow_access_to_vm,
    .before_connect_to_vm = before_connect_to_vm,
};
