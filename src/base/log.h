// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Log lines of programs: one line a decision, four levels, ids first: "[s:7 u:12 vm:42] text".
 * Goes to stderr: with <N> priorities when the service manager reads it, with time, level and
 * program otherwise. Rooms that are libraries log at debug only. Secrets never. */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/table.h"

enum log_level {
    LOG_LEVEL_OFF,
    LOG_LEVEL_ERROR,   /* the operator must act */
    LOG_LEVEL_WARNING, /* "..., ignoring: ..." */
    LOG_LEVEL_INFO,    /* life-cycle */
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_MAX,
    LOG_LEVEL_INVALID = -1
};
/* The words of log.level in lower case: off, error, warn, info, debug. */
QVD_STRING_TABLE_DECLARE(log_level, enum log_level);

/* Before the first line. program is not copied. */
void log_open(const char *program);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Lines go to this file (appended, made 0640) instead of stderr; called again it reopens
 * (logrotate). NULL: back to stderr. 0 or -errno with the former target kept. */
must_check int log_set_file(const char *path);

/* One line; newlines and control characters of the text are shown as \\xNN. */
void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_get_level() >= LOG_LEVEL_DEBUG)                                                    \
            log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                \
    } while (0)
