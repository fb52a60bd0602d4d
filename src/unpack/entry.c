// SPDX-License-Identifier: GPL-3.0-or-later
#include "unpack/entry.h"

#include <string.h>

#include "base/str.h"

/* A name in a message: its beginning, with what is not printable replaced. */
static const char *quoted(const char *name, char *buf, size_t size)
{
    size_t i = 0;

    for (; name[i] && i + 4 < size; i++)
        buf[i] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    memcpy(buf + i, name[i] ? "..." : "", name[i] ? 4 : 1);
    return buf;
}

static must_check int refuse(struct qvd_error *err, const char *name, const char *why)
{
    char buf[96];

    return qvd_error_set(err, -EINVAL, "entry \"%s\" %s", quoted(name, buf, sizeof buf), why);
}

int entry_path(const char *name, char *buf, struct qvd_error *err)
{
    size_t len = strlen(name);

    buf[0] = '\0';
    if (len > ENTRY_NAME_MAX)
        return refuse(err, name, "has a name longer than 3800 bytes");
    if (!utf8_valid(name, len))
        return refuse(err, name, "has a name that is not UTF-8; rename it in the image");
    if (name[0] == '/')
        return refuse(err, name, "has an absolute name; pack the image with tar -C ROOT .");
    for (const char *part = name; *part;) {
        size_t n = strcspn(part, "/");
        if (n == 2 && memcmp(part, "..", 2) == 0)
            return refuse(err, name, "leads out of the image by \"..\"");
        if (n > 255)
            return refuse(err, name, "has a part longer than 255 bytes");
        if (n > 0 && !(n == 1 && *part == '.')) {
            size_t at = strlen(buf);
            if (at)
                buf[at++] = '/';
            memcpy(buf + at, part, n);
            buf[at + n] = '\0';
        }
        part += n + (part[n] == '/');
    }
    return 0;
}

static must_check int judge_hard_link(const struct entry *e, struct qvd_error *err)
{
    char target[ENTRY_NAME_MAX + 1];

    if (!e->target || !*e->target)
        return refuse(err, e->name, "is a hard link to nothing");
    if (entry_path(e->target, target, NULL) < 0 || !*target)
        return refuse(err, e->name, "is a hard link that leads out of the image");
    return 0;
}

int entry_judge(const struct entry *e, const char *path, enum entry_verdict *ret_verdict,
                struct qvd_error *err)
{
    bool in_dev = str_starts(path, "dev/");

    *ret_verdict = ENTRY_TAKE;
    if (e->uid < 0 || e->uid > ENTRY_ID_MAX || e->gid < 0 || e->gid > ENTRY_ID_MAX)
        return refuse(err, e->name, "has an owner or group beyond 65535");
    if (e->size < 0)
        return refuse(err, e->name, "has a negative size");
    if (!*path && e->kind != ENTRY_FOLDER)
        return refuse(err, e->name, "would replace the root folder");
    switch (e->kind) {
    case ENTRY_FILE:
    case ENTRY_FOLDER:
    case ENTRY_FIFO:
        return 0;
    case ENTRY_SYMLINK:
        /* Where it points is the container's matter: nothing is ever unpacked through it. */
        if (!e->target || !*e->target || strlen(e->target) > ENTRY_NAME_MAX)
            return refuse(err, e->name, "is a symbolic link without a usable target");
        return 0;
    case ENTRY_HARD_LINK:
        return judge_hard_link(e, err);
    case ENTRY_SOCKET:
        *ret_verdict = ENTRY_SKIP;
        return 0;
    case ENTRY_DEVICE:
        if (!in_dev)
            return refuse(err, e->name, "is a device outside /dev");
        *ret_verdict = ENTRY_SKIP;
        return 0;
    case ENTRY_OTHER:
        break;
    }
    return refuse(err, e->name, "is of an unknown type");
}

bool entry_xattr_ok(const char *name)
{
    return strcmp(name, "security.capability") == 0 ||
           (str_starts(name, "user.") && !str_starts(name, "user.overlay."));
}
