// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Files: whole reads and writes with limits. Blocking: for start-up and small local files only. */

#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* The whole file, with a NUL behind it that is not counted: 0, -errno, -EFBIG over max bytes.
 * *ret_data is new. */
must_check int fs_read(const char *path, size_t max, char **ret_data, size_t *ret_len);
/* Writes beside and renames over path, synced: the file is there whole or not at all. 0 or -errno.
 */
must_check int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode);
/* The same, not synced: for what means nothing after the machine's next start. */
must_check int fs_write_passing(const char *path, const void *data, size_t len, mode_t mode);
/* Makes path and its parents (those with mode 0711): 0 also when there; -errno. */
must_check int fs_mkdirs(const char *path, mode_t mode);
/* Writes all bytes: 0 or -errno. */
must_check int fs_write_all(int fd, const void *data, size_t len);
/* Writes the text into an existing file (sysfs, proc, cgroup) in one write: 0 or -errno. */
must_check int fs_poke(const char *path, const char *text);
must_check int fs_set_nonblock(int fd);
