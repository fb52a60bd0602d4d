// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* From an archive on a descriptor into the folder that is the process's root. */

#include <stdint.h>

#include "base/error.h"

struct extract_limits {
    uint64_t max_bytes, max_entries;
};

struct extract_counts {
    uint64_t entries, bytes, skipped;
    char first_skipped[64]; /* name of one, for the note; "" when none */
};

/* percent of the archive read, whenever it grew. */
typedef void extract_progress_fn(void *arg, unsigned percent);

/* Takes fd (not owned) of an archive of archive_size bytes: tar, plain or packed by gzip, xz or
 * zstd. 0 and *ret_counts; -errno with err telling which entry and why. What was made so far stays.
 */
must_check int extract(int fd, uint64_t archive_size, const struct extract_limits *limits,
                       extract_progress_fn *progress, void *arg, struct extract_counts *ret_counts,
                       struct qvd_error *err);
