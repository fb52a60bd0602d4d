// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/environ.h"

#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "vma/region.h"

#define ENTRIES_MAX 128
#define FILE_MAX 65536

struct environ_list {
    size_t n;
    char *entries[ENTRIES_MAX + 1];
};

struct environ_list *environ_free(struct environ_list *e)
{
    for (size_t i = 0; e && i < e->n; i++)
        free(e->entries[i]);
    free(e);
    return NULL;
}

const char *const *environ_get(const struct environ_list *e)
{
    return (const char *const *)e->entries;
}

static must_check int put(struct environ_list *e, const char *name, const char *value)
{
    size_t len = strlen(name), i = 0;
    char *entry = str_printf("%s=%s", name, value);

    if (!entry)
        return -ENOMEM;
    while (i < e->n && (strncmp(e->entries[i], name, len) != 0 || e->entries[i][len] != '='))
        i++;
    if (i == ENTRIES_MAX) {
        free(entry);
        return -ENOBUFS;
    }
    if (i == e->n)
        e->n++;
    else
        free(e->entries[i]);
    e->entries[i] = entry;
    return 0;
}

int environ_parse_line(char *line, const char **ret_name, const char **ret_value)
{
    char *s = str_trim(line);

    *ret_name = *ret_value = NULL;
    if (*s == '\0' || *s == '#')
        return 0;
    if (str_starts(s, "export "))
        s = str_trim(s + strlen("export "));
    char *equals = strchr(s, '=');
    if (!equals)
        return -EINVAL;
    *equals = '\0';
    char *value = equals + 1;
    size_t n = strlen(value);
    if (n >= 2 && (*value == '"' || *value == '\'') && value[n - 1] == *value) {
        value[n - 1] = '\0';
        value++;
    }
    size_t good = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    if (good == 0 || s[good])
        return -EINVAL;
    *ret_name = s;
    *ret_value = value;
    return 0;
}

/* What cannot be read or understood in the image's files is passed over, as login programs do. */
static must_check int put_file(struct environ_list *e, const char *path)
{
    _cleanup_(free_p) char *text = NULL;
    const char *name, *value;
    char *rest = NULL;
    size_t len;

    if (fs_read(path, FILE_MAX, &text, &len) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (environ_parse_line(line, &name, &value) < 0 || !name)
            continue;
        int r = put(e, name, value);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What the client asks for, where the image has it. */
static must_check int put_wishes(struct environ_list *e, const struct wire_params *params)
{
    const char *zone = wire_params_get(params, "qvd.client.timezone");
    const char *lang = wire_params_get(params, "qvd.client.locale");
    int r = 0;

    if (lang && *lang && !region_has_locale(lang))
        log_warning("the client's language (%.64s) is not in this image, ignoring it", lang);
    else if (lang && *lang)
        r = put(e, "LANG", lang);
    return r == 0 && region_zone_needs_env(zone) ? put(e, "TZ", zone) : r;
}

static must_check int fill(struct environ_list *e, const struct conf *conf, const struct user *user,
                           const struct wire_params *params, unsigned display)
{
    char screen[16], runtime[64];
    int r = put(e, "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games");

    snprintf(screen, sizeof screen, ":%u", display);
    snprintf(runtime, sizeof runtime, "/run/user/%u", (unsigned)user->uid);
    if (r == 0)
        r = put(e, "LANG", conf_str(conf, "vma.default.lang"));
    if (r == 0)
        r = put_file(e, "/etc/locale.conf");
    if (r == 0)
        r = put_file(e, "/etc/default/locale");
    if (r == 0)
        r = put_file(e, "/etc/environment");
    const char *const fixed[][2] = {
        {"HOME",    user->home   },
        {"USER",    user->name   },
        {"LOGNAME", user->name   },
        {"SHELL",   conf_str(conf, "vma.user.shell")},
        {"DISPLAY",         screen             },
        {"XDG_RUNTIME_DIR",         runtime},
 /* nxagent's dialogs, which nobody could answer. */
        {"NX_CLIENT",         "/bin/true"                   },
    };
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(fixed); i++)
        r = put(e, fixed[i][0], fixed[i][1]);
    return r < 0 ? r : put_wishes(e, params);
}

struct environ_list *environ_new(const struct conf *conf, const struct user *user,
                                 const struct wire_params *params, unsigned display)
{
    struct environ_list *e = calloc(1, sizeof *e);

    if (!e || fill(e, conf, user, params, display) < 0)
        return environ_free(e);
    return e;
}
