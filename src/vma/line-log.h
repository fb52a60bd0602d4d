// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A file of lines for people to read, kept open from one line to the next. Whoever renames or
 * removes it needs to tell nobody: the next line begins a new one. */

#include <stddef.h>
#include <sys/types.h>

/* Begins as LINE_LOG_CLOSED. */
struct line_log {
    int fd;
    dev_t dev;
    ino_t ino;
};
#define LINE_LOG_CLOSED ((struct line_log){.fd = -1})

/* Appends the line to the file of that path (made with mode 0644). One that is longer than max
 * bytes is named PATH.1 before, over an older one. A line that cannot be written is lost. */
void line_log_put(struct line_log *l, const char *path, off_t max, const char *line);
void line_log_close(struct line_log *l);
