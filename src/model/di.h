// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Versions and tags of disk images. */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

#define DI_TAG_DEFAULT "default" /* what a VM follows that names no tag */
#define DI_TAG_HEAD "head"       /* the newest image of its OSF */
#define DI_TAG_MAX 128
#define DI_VERSION_MAX 64

/* "2026-01-31-007": a date and a number, which is what the version of an image is called by default
 * and is then a fixed tag of it. */
struct di_version {
    int year, month, day, number;
};
/* 0 or -EINVAL (not of this form, no such day). */
must_check int di_version_parse(const char *s, struct di_version *ret);
/* dst of DI_VERSION_MAX bytes: 0 or -EINVAL. */
must_check int di_version_format(const struct di_version *v, char *dst);
/* The lowest version of that day whose name is in none of the n tags of the OSF: 0, -ENOSPC (1,000
 * that day), -EINVAL. */
must_check int di_version_next(int year, int month, int day, const char *const *tags, size_t n,
                               char *dst);
/* May an administrator choose it as a version: letters, digits, '.', '_' and '-', at most 64? */
bool di_version_valid(const char *s);
/* May it be a tag: 1 to 128 printable bytes without blanks and commas? */
bool di_tag_valid(const char *s);
/* Is it a tag that no one may set or take away by hand (head, and what looks as a version)? */
bool di_tag_reserved(const char *s);
