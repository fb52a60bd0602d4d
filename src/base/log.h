// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Log lines of programs: one line a decision, four levels, ids first: "[s:7 u:12 vm:42] text".
 * Goes to stderr, with <N> priorities when the journal reads it, to a file, or to syslog. A child
 * of a daemon finds its parent's target as descriptor 2 and level and facility in the environment
 * (QVD_LOG), so that it needs neither the settings nor a right to open anything; log_take() gives
 * it a new one. Rooms that are libraries log at debug only. Secrets never. */

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

/* Before the first line. program is not copied. Takes what the parent left (see above). */
void log_open(const char *program);
/* Did a daemon start us and leave its target? */
bool log_inherited(void);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Lines go to this file (appended, made 0640) instead of stderr; called again it reopens
 * (logrotate). NULL: back to stderr. 0 or -errno with the former target kept. */
must_check int log_set_file(const char *path);
/* Lines go to a syslog: address is its unix socket ("/dev/log"), or "HOST:PORT", "[IPv6]:PORT" of a
 * remote one (UDP, RFC 5424; a name is looked up, which may take a while), "tcp://HOST:PORT" of one
 * over TCP, which is waited for a second and then asked again by itself. Else never blocks: what
 * syslog does not take is counted, and the number told with the next line. A local socket that
 * was made anew (syslog restarted) is found again at the next line. 0 or -errno (-EINVAL: no such
 * form of address) with the former target kept. */
must_check int log_set_syslog(const char *address, int facility);
/* Number of a facility's name ("daemon" 3, "local0" 16), -1 for none. */
int log_facility(const char *name);
int log_get_facility(void);

/* For daemons: makes the target descriptor 2 too, and tells the children of it by QVD_LOG. */
void log_share(void);
/* The present target, to be passed to a child that is running; still ours. */
int log_fd(void);
/* What a child does with it: takes fd over as descriptor 2 and as target. */
void log_take(int fd, enum log_level level, int facility);
/* For a program that outlives its parent (the guard): opens its parent's file for each line, so
 * that it follows a rotation and holds no file that was rotated away. */
void log_by_name(void);

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
