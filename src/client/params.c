// SPDX-License-Identifier: GPL-3.0-or-later
/* What connect_to_vm is told about this machine and the wishes of its person (l7r-protocol 5). */
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "client/client-internal.h"
#include "http/uri.h"

/* "Europe/Madrid": from TZ, /etc/timezone or where /etc/localtime points to; "" when unknown. */
static void local_timezone(char *dst, size_t size)
{
    const char *tz = getenv("TZ");
    _cleanup_(free_p) char *text = NULL;
    char link[256];
    size_t len;
    int r = -ENOENT;

    if (tz && *tz == ':')
        tz++;
    if (tz && *tz && *tz != '/')
        r = str_copy(dst, size, tz);
    if (r < 0 && fs_read("/etc/timezone", 256, &text, &len) == 0)
        r = str_copy(dst, size, str_trim(text));
    if (r < 0) {
        ssize_t n = readlink("/etc/localtime", link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        const char *zone = strstr(link, "zoneinfo/");
        r = zone ? str_copy(dst, size, zone + strlen("zoneinfo/")) : -ENOENT;
    }
    if (r < 0 || dst[strspn(dst, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                 "/_+-")] != '\0')
        dst[0] = '\0';
}

/* "es_ES.UTF-8"; "" for the unknown and for C and POSIX, which nobody wants. */
static const char *local_locale(void)
{
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    const char *value = "";

    for (size_t i = 0; i < ARRAY_SIZE(names) && !*value; i++)
        value = getenv(names[i]) ? getenv(names[i]) : "";
    if (strcmp(value, "C") == 0 || strcmp(value, "POSIX") == 0 || strlen(value) > 64 ||
        value[strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                            "_.@-")] != '\0')
        return "";
    return value;
}

static must_check int put(struct buf *out, const char *name, const char *value)
{
    if (!*value)
        return 0;
    int r = buf_printf(out, "&%s=", name);
    return r < 0 ? r : http_encode(out, value);
}

/* 0: not known. */
static must_check int put_number(struct buf *out, const char *name, unsigned value)
{
    return value ? buf_printf(out, "&%s=%u", name, value) : 0;
}

int client_connect_target(struct qvdclient *c, struct buf *out)
{
    const char *timezone = client_option(c, QVDCLIENT_TIMEZONE);
    const char *keyboard = client_option(c, QVDCLIENT_KEYBOARD);
    const char *fullscreen = client_flag(c, QVDCLIENT_FULLSCREEN) ? "1" : "0";
    const char *locale = client_option(c, QVDCLIENT_LOCALE);
    char zone[128] = "";

    if (!*timezone) {
        local_timezone(zone, sizeof zone);
        timezone = zone;
    }
    int r = buf_printf(out, WIRE_L7R_CONNECT "?id=%llu", (unsigned long long)c->vm_id);
    if (r >= 0 && c->again.active)
        r = buf_printf(out, "&%s=%llu", c->goal == GOAL_ASK_END ? WIRE_L7R_ENDED : WIRE_L7R_RESUME,
                       (unsigned long long)c->again.session);
    if (r >= 0)
        r = put(out, "qvd.client.os", "linux");
    if (r >= 0)
        r = put(out, "qvd.client.link", client_option(c, QVDCLIENT_LINK));
    if (r >= 0)
        r = put(out, "qvd.client.geometry", client_option(c, QVDCLIENT_GEOMETRY));
    if (r >= 0)
        r = put(out, "qvd.client.fullscreen", fullscreen);
    if (r >= 0)
        r = put_number(out, "qvd.client.depth", client_display_depth(c->display));
    if (r >= 0)
        r = put_number(out, "qvd.client.monitors", client_display_monitors(c->display));
    if (r >= 0)
        r = put(out, "qvd.client.keyboard",
                *keyboard ? keyboard : client_display_keyboard(c->display));
    if (r >= 0)
        r = put(out, "qvd.client.timezone", timezone);
    if (r >= 0)
        r = put(out, "qvd.client.locale", *locale ? locale : local_locale());
    if (r >= 0)
        r = put(out, "qvd.client.printing.enabled", "0");
    if (r >= 0)
        r = put(out, "qvd.client.nxagent.extra_args", client_option(c, QVDCLIENT_NX_OPTIONS));
    return r;
}
