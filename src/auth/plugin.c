// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/plugin.h"

#include <stdarg.h>
#include <string.h>

#include "auth/password.h"
#include "base/log.h"
#include "conf/conf.h"

static const struct auth_plugin *const plugins[] = {
    &auth_plugin_default,
    &auth_plugin_tester,
};

bool auth_env_next(const struct auth_env *env, const char **at, const char **ret_name,
                   const char **ret_value)
{
    const char *end = env->data + env->len, *p = *at ? *at : env->data;

    if (!env->len || p >= end)
        return false;
    *ret_name = p;
    *ret_value = p + strlen(p) + 1;
    *at = *ret_value + strlen(*ret_value) + 1;
    return true;
}

const char *auth_env_get(const struct auth_env *env, const char *name)
{
    const char *at = NULL, *found, *value;

    while (auth_env_next(env, &at, &found, &value))
        if (strcmp(found, name) == 0)
            return value;
    return NULL;
}

const struct auth_plugin *auth_plugin_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(plugins); i++)
        if (strcmp(plugins[i]->name, name) == 0)
            return plugins[i];
    return NULL;
}

static bool has(const struct auth_plugins *all, const struct auth_plugin *p)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->at[i] == p)
            return true;
    return false;
}

typedef int plugin_fn(void *arg, const struct conf *c, const char *word, struct qvd_error *err);

/* Calls fn for each word of the three settings; its failure ends it, err naming the setting. */
static must_check int each_word(const struct conf *c, int64_t tenant, plugin_fn *fn, void *arg,
                                struct qvd_error *err)
{
    static const char *const keys[] = {"l7r.auth.plugins.head", "l7r.auth.plugins",
                                       "l7r.auth.plugins.tail"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *list = i == 1 ? conf_tenant_str(c, tenant, keys[i]) : conf_str(c, keys[i]);
        const char *at = NULL;
        char word[64];
        while (conf_list_next(list, &at, word, sizeof word))
            if (fn(arg, c, word, err) < 0) {
                (void)qvd_error_wrap(err, "%s", keys[i]);
                return -EINVAL;
            }
    }
    return 0;
}

static int add(void *arg, const struct conf *c, const char *word, struct qvd_error *err)
{
    struct auth_plugins *all = arg;
    const struct auth_plugin *p = auth_plugin_find(word);

    if (!p)
        p = auth_plugin_file(c, word, err);
    if (p && !has(all, p) && all->n < AUTH_PLUGINS_MAX)
        all->at[all->n++] = p;
    return p ? 0 : -EINVAL;
}

int auth_plugins_of(const struct conf *c, int64_t tenant, struct auth_plugins *ret,
                    struct qvd_error *err)
{
    ret->n = 0;
    int r = each_word(c, tenant, add, ret, err);
    if (r == 0 && ret->n == 0)
        return qvd_error_set(err, -EINVAL, "l7r.auth.plugins names none: nobody can log in");
    return r;
}

static int is_ours(void *arg, const struct conf *c, const char *word, struct qvd_error *err)
{
    return auth_plugin_find(word) ? 0 : qvd_error_set(err, -ENOENT, "%s is a file", word);
}

bool auth_plugins_are_files(const struct conf *c, int64_t tenant)
{
    struct qvd_error err;

    return each_word(c, tenant, is_ours, NULL, &err) < 0;
}

static int look(void *arg, const struct conf *c, const char *word, struct qvd_error *err)
{
    size_t *n = arg;

    (*n)++;
    return auth_plugin_find(word) ? 0 : auth_plugin_file_check(c, word, err);
}

int auth_plugins_check(const struct conf *c, struct qvd_error *err)
{
    size_t n = 0;
    int r = each_word(c, -1, look, &n, err);

    if (r == 0 && n == 0)
        return qvd_error_set(err, -EINVAL, "l7r.auth.plugins names none: nobody can log in");
    return r;
}

const char *auth_setting(const struct conf *c, int64_t tenant, const char *key)
{
    const char *own = conf_custom(c, tenant, key);

    return own ? own : conf_find(key) ? conf_tenant_str(c, tenant, key) : NULL;
}

void auth_log(const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_info("plugin: %s", text);
}

/* Hooks -----------------------------------------------------------------------------------------

 * What a plugin leaves behind is looked at before it is used. */

/* Whether it still is a name. */
static must_check int name_check(char dst[LOGIN_NAME_MAX])
{
    dst[LOGIN_NAME_MAX - 1] = 0;
    return login_normalize(dst, true, dst);
}

static must_check int normalize(const struct auth_plugins *p, const struct conf *c, struct login *l)
{
    bool keep_case = conf_bool(c, "model.user.login.case-sensitive");
    int r;

    l->name[LOGIN_NAME_MAX - 1] = l->tenant[LOGIN_NAME_MAX - 1] = 0;
    r = login_normalize(l->name, keep_case, l->name);
    if (r == 0)
        r = login_normalize(l->tenant, keep_case, l->tenant);
    for (size_t i = 0; r == 0 && i < p->n; i++) {
        if (p->at[i]->normalize_tenant && p->at[i]->normalize_tenant(c, l->tenant) != 0)
            r = -EINVAL;
        if (r == 0 && p->at[i]->normalize_login && p->at[i]->normalize_login(c, l->name) != 0)
            r = -EINVAL;
    }
    if (r == 0)
        r = name_check(l->tenant);
    return r == 0 ? name_check(l->name) : r;
}

int auth_find_tenant(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i]->find_tenant && p->at[i]->find_tenant(c, a, &a->login) == 0)
            return normalize(p, c, &a->login);
    return -EINVAL;
}

typedef enum auth_verdict verdict_fn(const struct conf *c, struct auth_attempt *a);

/* The first YES wins, with whom it named; whoever cannot tell makes a NO of others uncertain. */
static void ask_one(verdict_fn *fn, const struct conf *c, struct auth_attempt *a,
                    enum auth_verdict *all)
{
    const struct login before = a->login;

    if (!fn || *all == AUTH_YES)
        return;
    enum auth_verdict v = fn(c, a);
    bool yes = v == AUTH_YES && name_check(a->login.name) == 0 && name_check(a->login.tenant) == 0;
    if (!yes)
        a->login = before;
    if (yes || v == AUTH_AWAY)
        *all = v;
}

static enum auth_verdict ask_for_both(const struct auth_plugins *p, const struct conf *c,
                                      struct auth_attempt *a)
{
    enum auth_verdict first = AUTH_NO, second = AUTH_NO;

    for (size_t i = 0; i < p->n; i++)
        ask_one(p->at[i]->authenticate_basic, c, a, &first);
    if (first != AUTH_YES || !a->token)
        return first;
    for (size_t i = 0; i < p->n; i++)
        ask_one(p->at[i]->authenticate_second, c, a, &second);
    return second;
}

enum auth_verdict auth_basic(const struct auth_plugins *p, const struct conf *c,
                             struct auth_attempt *a)
{
    char password[2 * PASSWORD_MAX], token[2 * PASSWORD_MAX];
    const char *typed = a->password;

    for (size_t i = 0; !a->token && i < p->n; i++)
        if (p->at[i]->split && p->at[i]->split(c, a, password, token, sizeof password)) {
            password[sizeof password - 1] = token[sizeof token - 1] = 0;
            a->password = password;
            a->token = token;
        }
    enum auth_verdict v = ask_for_both(p, c, a);
    a->password = typed;
    a->token = NULL;
    explicit_bzero(password, sizeof password);
    explicit_bzero(token, sizeof token);
    return v;
}

void auth_after(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i]->after_authenticate)
            p->at[i]->after_authenticate(c, a);
}

enum auth_verdict auth_bearer(const struct auth_plugins *p, const struct conf *c,
                              struct auth_attempt *a)
{
    enum auth_verdict v = AUTH_NO;

    for (size_t i = 0; i < p->n; i++)
        ask_one(p->at[i]->authenticate_bearer, c, a, &v);
    return v;
}

bool auth_asks(const struct auth_plugins *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct auth_plugin *one = p->at[i];
        if (one->before_list_of_vms || one->list_of_vm || one->allow_access_to_vm ||
            one->before_connect_to_vm)
            return true;
    }
    return false;
}

/* Without what is no id. */
static void tidy(struct auth_vms *vms)
{
    size_t n = 0;

    for (size_t i = 0; i < vms->n; i++)
        if (vms->ids[i] && vms->ids[i] <= INT64_MAX)
            vms->ids[n++] = vms->ids[i];
    vms->n = n;
}

bool auth_before_list(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                      struct auth_vms *ret)
{
    ret->n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i]->before_list_of_vms)
            p->at[i]->before_list_of_vms(c, a);
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i]->list_of_vm && p->at[i]->list_of_vm(c, a, ret) == 0 &&
            ret->n <= AUTH_VMS_MAX) {
            tidy(ret);
            return true;
        }
    ret->n = 0;
    return false;
}

bool auth_allow(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                uint64_t vm_id)
{
    bool allowed = false;

    for (size_t i = 0; !allowed && i < p->n; i++)
        allowed = p->at[i]->allow_access_to_vm && p->at[i]->allow_access_to_vm(c, a, vm_id);
    return allowed;
}

void auth_before_connect(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                         uint64_t vm_id)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i]->before_connect_to_vm)
            p->at[i]->before_connect_to_vm(c, a, vm_id);
}
