// SPDX-License-Identifier: GPL-3.0-or-later
/* Plugins that are files of their own: NAME.so in path.l7r.auth.plugins. Each is loaded by
 * the process that asks it. */
#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "auth/plugin.h"
#include "base/str.h"
#include "conf/conf.h"

static struct {
    char name[64];
    const struct auth_plugin *plugin;
} loaded[AUTH_PLUGINS_MAX];
static size_t n_loaded;

static must_check int path_of(const struct conf *c, const char *name, char dst[PATH_MAX])
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            return -EINVAL;
    return str_format(dst, PATH_MAX, "%s/%s.so", conf_str(c, "path.l7r.auth.plugins"), name);
}

int auth_plugin_file_check(const struct conf *c, const char *name, struct qvd_error *err)
{
    char path[PATH_MAX];
    struct stat st;

    if (path_of(c, name, path) < 0)
        return qvd_error_set(err, -EINVAL, "\"%.64s\" is no name of a plugin", name);
    if (stat(path, &st) < 0)
        return qvd_error_set(err, -ENOENT, "there is no plugin \"%s\", and no %s", name, path);
    if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
        return qvd_error_set(err, -EPERM,
                             "%s: a plugin must be a file of root's that nobody else"
                             " can change",
                             path);
    return 0;
}

const struct auth_plugin *auth_plugin_file(const struct conf *c, const char *name,
                                           struct qvd_error *err)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < n_loaded; i++)
        if (strcmp(loaded[i].name, name) == 0)
            return loaded[i].plugin;
    if (auth_plugin_file_check(c, name, err) < 0 || path_of(c, name, path) < 0)
        return NULL;
    if (n_loaded == ARRAY_SIZE(loaded) ||
        str_copy(loaded[n_loaded].name, sizeof loaded[n_loaded].name, name) < 0) {
        (void)qvd_error_set(err, -EMFILE, "%s: too many plugins", path);
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct auth_plugin_file *file = library ? dlsym(library, "qvd_auth_plugin") : NULL;
    if (!file) {
        const char *why = dlerror();
        (void)qvd_error_set(err, -EINVAL, "%s", why ? why : "no plugin");
    } else if (file->version != AUTH_PLUGIN_VERSION || file->size != sizeof(struct auth_plugin)) {
        (void)qvd_error_set(err, -EINVAL,
                            "%s was built for another version of QVD: build it with the headers of"
                            " this one",
                            path);
        file = NULL;
    }
    if (!file) {
        if (library)
            (void)dlclose(library);
        return NULL;
    }
    loaded[n_loaded].plugin = file->plugin;
    return loaded[n_loaded++].plugin;
}
