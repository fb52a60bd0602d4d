// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Ways to tell who somebody is. A plugin is a row of hooks, any of which may be missing; which
 * plugins a tenant uses, and in what order, is a setting.
 *
 * A plugin is one file and one row in plugin.c: then it runs in qvd-authd's loop, and must not
 * wait. Or it is a shared object of its own, which sees of QVD this header only
 * (docs/administration.md, "A plugin of your own"). That one is trusted with what it decides, but
 * may block, hang and crash: each question of a tenant who has one is a process of its own, made
 * from qvd-authd for it, which loads the plugins, asks all of them, and ends with its answer or
 * after l7r.authd.timeout. So nothing is kept from call to call. */

#include <stddef.h>
#include <stdint.h>

#include "auth/login.h"
#include "auth/params.h"

struct conf;
struct qvd_error;

/* What the client shares of its environment: "name NUL value NUL", in its order. Secrets may be
 * among the values: never log those. */
struct auth_env {
    const char *data;
    size_t len;
};
/* Walks it: *at begins as NULL; false at the end. */
for_plugins bool auth_env_next(const struct auth_env *env, const char **at, const char **ret_name,
                               const char **ret_value);
/* NULL: not shared. */
for_plugins const char *auth_env_get(const struct auth_env *env, const char *name);

/* One try to log in, as the hooks find and change it. */
struct auth_attempt {
    /* What came. */
    const char *typed;     /* the login, tenant inside; "" with a token */
    const char *password;  /* split() takes the token away from it */
    const char *token;     /* the bearer's; or of the second factor, NULL: none */
    const char *source;    /* the client's address, "" unknown */
    const char *file_name; /* of list_of_vm: what the application shall open; "" none */
    struct auth_env env;
    /* Who it is, normalised, as far as known. authenticate_basic() may change login.name;
     * authenticate_bearer() sets all of it. */
    struct login login;
    int64_t user_id;    /* 0: not known yet */
    int64_t tenant_id;  /* -1: unknown tenant */
    const char *stored; /* the hash in the database; NULL: no such account, or it has none (which
                           may make no difference in time) */
    /* What comes of it. */
    bool rehash;                /* the stored hash is of an old scheme */
    struct auth_params *params; /* for the VM's agent: set what it shall be told */
};

enum auth_verdict {
    AUTH_NO,
    AUTH_YES,
    AUTH_AWAY, /* cannot tell now: the directory does not answer */
};

#define AUTH_VMS_MAX 500
struct auth_vms {
    uint64_t ids[AUTH_VMS_MAX];
    size_t n;
};

struct auth_plugin {
    const char *name; /* the word in l7r.auth.plugins */
    const char *text;
    /* Cuts a->typed into ret: 0, or -EINVAL (the next plugin is asked). */
    int (*find_tenant)(const struct conf *c, const struct auth_attempt *a, struct login *ret);
    /* Change dst of LOGIN_NAME_MAX in place, after the usual trimming and lower-casing. 0, or
     * -EINVAL: nobody's. */
    int (*normalize_tenant)(const struct conf *c, char *dst);
    int (*normalize_login)(const struct conf *c, char *dst);
    /* Takes the second factor off what was typed as the password: true and both, which live in a's
     * memory; false: not mine. */
    bool (*split)(const struct conf *c, const struct auth_attempt *a, char *password, char *token,
                  size_t size);
    /* Does the password fit? */
    enum auth_verdict (*authenticate_basic)(const struct conf *c, struct auth_attempt *a);
    /* Does the second factor? */
    enum auth_verdict (*authenticate_second)(const struct conf *c, struct auth_attempt *a);
    /* It was good, and the account is known. */
    void (*after_authenticate)(const struct conf *c, struct auth_attempt *a);
    /* A token that is no password of ours: sets a->login when it knows it. */
    enum auth_verdict (*authenticate_bearer)(const struct conf *c, struct auth_attempt *a);
    /* Of each request of somebody who is known, whether or not his login was asked for again; only
     * who has one of these costs his users' requests the question. */
    void (*before_list_of_vms)(const struct conf *c, struct auth_attempt *a);
    /* The VMs to show in place of his own: 0; -ENOENT: not mine. */
    int (*list_of_vm)(const struct conf *c, struct auth_attempt *a, struct auth_vms *ret);
    /* May he have that VM, though it is another's? */
    bool (*allow_access_to_vm)(const struct conf *c, struct auth_attempt *a, uint64_t vm_id);
    void (*before_connect_to_vm)(const struct conf *c, struct auth_attempt *a, uint64_t vm_id);
};

/* For plugins: a setting, of the table or of their own ("auth.NAME.*"), as the attempt's tenant has
 * it (-1: that for all); NULL when it is not set. Lives until the hook returns. */
for_plugins const char *auth_setting(const struct conf *c, int64_t tenant, const char *key);
/* For plugins: one line in the log. Never a password, a token or a shared value. */
for_plugins void auth_log(const char *fmt, ...) printf_like(1, 2);

/* A shared object tells its plugin by this, outside of all functions. */
#define AUTH_PLUGIN_VERSION 1
struct auth_plugin_file {
    unsigned version, size;
    const struct auth_plugin *plugin;
};
#define AUTH_PLUGIN_EXPORT(p)                                                                      \
    for_plugins extern const struct auth_plugin_file qvd_auth_plugin;                              \
    const struct auth_plugin_file qvd_auth_plugin = {AUTH_PLUGIN_VERSION,                          \
                                                     sizeof(struct auth_plugin), &(p)}

/* One of our own; NULL for the unknown. */
const struct auth_plugin *auth_plugin_find(const char *name);
/* One that is a file; NULL with err. To be called without rights: it runs the file's code. */
must_check const struct auth_plugin *auth_plugin_file(const struct conf *c, const char *name,
                                                      struct qvd_error *err);
/* Whether there is such a file, which is not loaded: 0 or -errno with err. */
must_check int auth_plugin_file_check(const struct conf *c, const char *name,
                                      struct qvd_error *err);

#define AUTH_PLUGINS_MAX 16
struct auth_plugins {
    const struct auth_plugin *at[AUTH_PLUGINS_MAX];
    size_t n;
};
/* Those of a tenant in their order: l7r.auth.plugins.head, l7r.auth.plugins (the tenant's own; -1:
 * that for all), l7r.auth.plugins.tail; each once. 0; -EINVAL with err naming the setting and the
 * word, when one is unknown or none is left. */
must_check int auth_plugins_of(const struct conf *c, int64_t tenant, struct auth_plugins *ret,
                               struct qvd_error *err);

/* Whether one of a tenant's is a file (or unknown); loads none. */
bool auth_plugins_are_files(const struct conf *c, int64_t tenant);

/* Whether all that the settings for all tenants name are there; loads none. 0 or -EINVAL with err.
 */
must_check int auth_plugins_check(const struct conf *c, struct qvd_error *err);

/* The hooks in their order, each over all plugins. */

/* The first that finds a tenant wins; then both parts are normalised, by the common rule and each
 * plugin's in turn. Fills a->login: 0; -EINVAL: nobody's. */
must_check int auth_find_tenant(const struct auth_plugins *p, const struct conf *c,
                                struct auth_attempt *a);
/* Password, and second factor where one was typed: of each the first YES wins; NO when all say so,
 * else AWAY. */
enum auth_verdict auth_basic(const struct auth_plugins *p, const struct conf *c,
                             struct auth_attempt *a);
/* All that want to know. */
void auth_after(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a);
enum auth_verdict auth_bearer(const struct auth_plugins *p, const struct conf *c,
                              struct auth_attempt *a);

/* Whether one of them wants to be asked at each request. */
bool auth_asks(const struct auth_plugins *p);
/* Lists and logins: all hear of it; the first that has a list wins: true and *ret. */
bool auth_before_list(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                      struct auth_vms *ret);
/* One yes is enough. */
bool auth_allow(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                uint64_t vm_id);
void auth_before_connect(const struct auth_plugins *p, const struct conf *c, struct auth_attempt *a,
                         uint64_t vm_id);

extern const struct auth_plugin auth_plugin_default;
extern const struct auth_plugin auth_plugin_tester;
