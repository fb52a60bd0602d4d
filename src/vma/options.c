// SPDX-License-Identifier: GPL-3.0-or-later
/* What of a client's wishes reaches nxagent. */
#include "vma/options.h"

#include <string.h>

#include "base/str.h"
#include "wire/l7r.h"

#define WORD_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.%-"

/* What -x of the client and qvd.client.nxagent.extra_args may set: looks and speed only. accept,
 * connect, listen, options, root, paths, ports and commands are not here. */
static const char *const allowed[] = {
    "backingstore", "cache",   "clipboard", "composite", "data",      "delta",
    "images",       "keyconv", "limit",     "memory",    "pack",      "resize",
    "shmem",        "shpix",   "sleep",     "stream",    "streaming", "textclipboard",
};

struct writer {
    struct buf *out;
    options_dropped_fn *dropped;
    void *arg;
};

static bool good_word(const char *s, const char *more)
{
    char chars[sizeof WORD_CHARS + 8];

    snprintf(chars, sizeof chars, "%s%s", WORD_CHARS, more);
    size_t n = strspn(s, chars);
    return n > 0 && n <= 128 && s[n] == '\0';
}

static must_check int put(struct writer *w, const char *name, const char *value, const char *more)
{
    if (!value || !*value)
        return 0;
    if (!good_word(value, more)) {
        w->dropped(w->arg, name, "its value holds other characters than letters and digits");
        return 0;
    }
    return buf_printf(w->out, ",%s=%s", name, value);
}

static const char *wish(const struct wire_params *params, const char *name, const char *otherwise)
{
    const char *value = wire_params_get(params, name);

    return value && *value ? value : otherwise;
}

static bool is_allowed(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
        if (strcmp(allowed[i], name) == 0)
            return true;
    return false;
}

/* "pack=16m-jpeg-9,limit=0" or with blanks between. */
static must_check int put_extra(struct writer *w, const char *text)
{
    char word[256];
    const char *at = NULL;
    int r = 0;

    while (r >= 0 && conf_list_next(text, &at, word, sizeof word)) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (!value || !is_allowed(word))
            w->dropped(w->arg, word, "not among the options that a client may set");
        else
            r = put(w, word, value, "");
    }
    return r;
}

static must_check int put_link(struct writer *w, const char *fallback, const char *wished,
                               const char *extra)
{
    const char *word = wire_l7r_link(wished);

    if (!word) {
        w->dropped(w->arg, "link", "no link and no rate");
        word = wire_l7r_link(fallback);
    }
    int r = word ? put(w, "link", word, "") : 0;
    /* nxagent would take JPEG for this one; here bytes cost nothing. */
    if (r == 0 && word && str_eq(word, "local") && !strstr(extra, "pack="))
        r = buf_append_str(w->out, ",pack=nopack");
    return r;
}

static bool prints(const struct conf *conf, const struct wire_params *params)
{
    return conf_bool(conf, "vma.printing.enable") &&
           str_eq(wish(params, "qvd.client.printing.enabled", "0"), "1");
}

int options_tell_hooks(const struct conf *conf, struct wire_params *params)
{
    char port[16];

    snprintf(port, sizeof port, "%d", (int)conf_int(conf, "vma.display") + 2000);
    int r = wire_params_set(params, "qvd.printing.enabled", prints(conf, params) ? "1" : "0");
    return r < 0 ? r : wire_params_set(params, "qvd.printing.port", port);
}

/* Ports in the VM, as the original's: display + 2000 and + 11000. */
static must_check int put_channels(struct writer *w, const struct conf *conf,
                                   const struct wire_params *params, unsigned display)
{
    const char *flavor = wish(params, "qvd.client.printing.flavor", "ipp");
    int r = 0;

    if (conf_bool(conf, "vma.audio.enable"))
        r = buf_append_str(w->out, ",media=1");
    if (r == 0 && conf_bool(conf, "vma.slave.enable"))
        r = buf_append_str(w->out, ",slave=1");
    if (r == 0 && prints(conf, params))
        r = buf_printf(w->out, ",%s=%u", str_eq(flavor, "cifs") ? "smb" : "cups", display + 2000);
    return r;
}

/* A desktop that lives on passes "fullscreen" over, and takes "geometry=fullscreen", the size of
 * its new display with it, only after "resize". A geometry counts once in nxagent's life: the
 * first. */
static must_check int put_size(struct writer *w, const struct wire_params *params, bool resumed)
{
    const char *full = wish(params, "qvd.client.fullscreen", "");

    if (resumed && str_eq(full, "1"))
        return buf_append_str(w->out, ",resize=1,geometry=fullscreen");
    int r = put(w, "geometry", wish(params, "qvd.client.geometry", ""), "");
    return r < 0 || !*full ? r : put(w, "fullscreen", str_eq(full, "1") ? "1" : "0", "");
}

int options_write(const struct conf *conf, const struct wire_params *params, unsigned display,
                  bool resumed, struct buf *out, options_dropped_fn *dropped, void *arg)
{
    struct writer w = {out, dropped, arg};
    const char *keyboard =
        wish(params, "qvd.client.keyboard", conf_str(conf, "vma.default.client.keyboard"));
    const char *link = conf_str(conf, "vma.default.client.link");
    const char *extra = wish(params, "qvd.client.nxagent.extra_args", "");
    /* bypass: a desktop may be resumed on a display of other depths (nxagent otherwise refuses). */
    int r = buf_append_str(out, "nx/nx,tolerancechecks=bypass");

    if (r == 0)
        r = put(&w, "keyboard", keyboard, "/");
    if (r == 0)
        r = put(&w, "client", wish(params, "qvd.client.os", ""), "");
    if (r == 0)
        r = put_link(&w, link, wish(params, "qvd.client.link", link), extra);
    if (r == 0)
        r = put_size(&w, params, resumed);
    /* Asking for the monitors of a display that has just gone ends nxagent (design/002). */
    if (r == 0)
        r = put(&w, "xinerama", str_eq(wish(params, "qvd.client.monitors", ""), "1") ? "0" : "1",
                "");
    if (r == 0)
        r = put_channels(&w, conf, params, display);
    if (r == 0)
        r = put_extra(&w, extra);
    return r < 0 ? r : buf_printf(out, ":%u\n", display);
}
