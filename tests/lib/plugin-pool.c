// SPDX-License-Identifier: GPL-3.0-or-later
/* A plugin as somebody else writes it: users share VMs that the setting auth.pool.vms names. What
 * auth.pool.does tells it can hang, crash and say nonsense instead. */
#include <stdlib.h>
#include <string.h>

#include "auth/plugin.h"

static bool does(const struct conf *c, const struct auth_attempt *a, const char *what)
{
    const char *set = auth_setting(c, a->tenant_id, "auth.pool.does");

    return set && strcmp(set, what) == 0;
}

static size_t shared(const struct conf *c, const struct auth_attempt *a, uint64_t *ids, size_t max)
{
    const char *at = auth_setting(c, a->tenant_id, "auth.pool.vms");
    size_t n = 0;
    char *end;

    while (at && *at && n < max) {
        ids[n] = strtoull(at, &end, 10);
        if (end == at)
            break;
        at = end + strspn(end, " ,");
        n++;
    }
    return n;
}

static enum auth_verdict authenticate_basic(const struct conf *c, struct auth_attempt *a)
{
    if (does(c, a, "crashes"))
        *(volatile int *)NULL = 1;
    while (does(c, a, "hangs"))
        ;
    if (does(c, a, "nonsense")) {
        memset(&a->login, 0xff, sizeof a->login);
        return (enum auth_verdict)(strcmp(a->password, "wrong") == 0 ? AUTH_YES : 77);
    }
    return AUTH_NO;
}

static int list_of_vm(const struct conf *c, struct auth_attempt *a, struct auth_vms *ret)
{
    if (does(c, a, "nonsense")) {
        ret->n = SIZE_MAX;
        return 0;
    }
    ret->n = shared(c, a, ret->ids, AUTH_VMS_MAX - 1);
    ret->ids[ret->n++] = UINT64_MAX;
    return 0;
}

static bool allow_access_to_vm(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    uint64_t ids[AUTH_VMS_MAX];
    size_t n = does(c, a, "lists") ? shared(c, a, ids, AUTH_VMS_MAX) : 0;

    for (size_t i = 0; i < n; i++)
        if (ids[i] == vm_id)
            return true;
    return false;
}

static void before_connect_to_vm(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    auth_log("pool: VM %llu for user %lld", (unsigned long long)vm_id, (long long)a->user_id);
    if (auth_params_set(a->params, "custom.pool", a->login.name) < 0)
        auth_log("pool: no room for a parameter");
}

static const struct auth_plugin pool = {
    .name = "pool",
    .text = "users share VMs",
    .authenticate_basic = authenticate_basic,
    .list_of_vm = list_of_vm,
    .allow_access_to_vm = allow_access_to_vm,
    .before_connect_to_vm = before_connect_to_vm,
};
AUTH_PLUGIN_EXPORT(pool);
