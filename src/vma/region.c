// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/region.h"

#include <limits.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#define ZONES "/usr/share/zoneinfo"
#define LOCALTIME "/etc/localtime"
#define FRESH_LOCALTIME "/etc/.localtime.qvd"
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-"

bool region_zone_is_good(const char *s)
{
    return s && *s && *s != '/' && !strstr(s, "..") && strlen(s) <= 64 &&
           s[strspn(s, NAME_CHARS "/")] == '\0';
}

bool region_has_locale(const char *name)
{
    if (!name || !*name || strlen(name) > 64 || name[strspn(name, NAME_CHARS ".@")])
        return false;
    locale_t l = newlocale(LC_CTYPE_MASK | LC_MESSAGES_MASK, name, (locale_t)0);
    if (l)
        freelocale(l);
    return l != (locale_t)0;
}

/* The file of a zone that the image has. */
static bool find_zone(const char *zone, char *path, size_t size)
{
    struct stat st;

    return region_zone_is_good(zone) && str_format(path, size, ZONES "/%s", zone) == 0 &&
           lstat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static bool is_set(const char *path)
{
    char present[PATH_MAX];
    ssize_t n = readlink(LOCALTIME, present, sizeof present - 1);

    present[n > 0 ? n : 0] = '\0';
    return strcmp(present, path) == 0;
}

static must_check int set_zone(const char *path, const char *zone)
{
    _cleanup_(free_p) char *line = str_printf("%s\n", zone);

    if ((unlink(FRESH_LOCALTIME) < 0 && errno != ENOENT) || symlink(path, FRESH_LOCALTIME) < 0 ||
        rename(FRESH_LOCALTIME, LOCALTIME) < 0)
        return -errno;
    log_info("time zone %s", zone);
    return line ? fs_write_atomic("/etc/timezone", line, strlen(line), 0644) : -ENOMEM;
}

void region_set_timezone(const char *zone)
{
    char path[128];

    if (!zone || !*zone)
        return;
    if (!find_zone(zone, path, sizeof path)) {
        log_warning("the client's time zone (%.64s) is not in this image, ignoring it", zone);
        return;
    }
    int r = is_set(path) ? 0 : set_zone(path, zone);
    if (r < 0)
        log_warning("time zone %s cannot be the system's: %s", zone, strerror(-r));
}

bool region_zone_needs_env(const char *zone)
{
    char path[128];

    return find_zone(zone, path, sizeof path) && !is_set(path);
}
