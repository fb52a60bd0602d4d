// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What an entry of an image may be: the rules, without touching a file.
 *
 * An image is a stranger's archive, unpacked by root: everything that a root file system does not
 * need is refused, rather than mended, so that nobody finds half an image. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Longest name of an entry or target of a link, in bytes (PATH_MAX less what stands before it). */
#define ENTRY_NAME_MAX 3800
/* The containers' map has ids 0 to 65535. */
#define ENTRY_ID_MAX 65535

enum entry_kind {
    ENTRY_FILE,
    ENTRY_FOLDER,
    ENTRY_SYMLINK,
    ENTRY_HARD_LINK,
    ENTRY_DEVICE, /* character or block */
    ENTRY_FIFO,
    ENTRY_SOCKET,
    ENTRY_OTHER,
};

struct entry {
    const char *name; /* as it stands in the archive */
    enum entry_kind kind;
    const char *target; /* of a link */
    int64_t uid, gid, size;
};

enum entry_verdict {
    ENTRY_TAKE,
    ENTRY_SKIP, /* a device in /dev or a socket: made anew by whoever needs it */
};

/* The name below the root: without "./" and "/" at both ends ("" for the root itself), in buf of
 * ENTRY_NAME_MAX + 1. 0; -EINVAL with err for a name that leads elsewhere or is no name. */
must_check int entry_path(const char *name, char *buf, struct qvd_error *err);

/* 0 and *ret_verdict; -EINVAL with err that quotes the entry. path: of entry_path(). */
must_check int entry_judge(const struct entry *e, const char *path, enum entry_verdict *ret_verdict,
                           struct qvd_error *err);

/* Extended attributes that an image may carry: file capabilities and the users' own. Never those
 * by which overlayfs is told where files are. */
bool entry_xattr_ok(const char *name);
