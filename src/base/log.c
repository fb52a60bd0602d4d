// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char *const level_table[LOG_LEVEL_MAX] = {
    [LOG_LEVEL_OFF] = "off",   [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warn",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};
/* Priorities of syslog(3), as the service manager wants them. */
static const int priority[LOG_LEVEL_MAX] = {0, 3, 4, 6, 7};

QVD_STRING_TABLE_DEFINE(log_level, enum log_level, level_table, LOG_LEVEL_INVALID)

static struct {
    const char *program;
    enum log_level level;
    int fd;
    bool journal; /* stderr is read by the service manager */
} out = {.program = "qvd", .level = LOG_LEVEL_INFO, .fd = STDERR_FILENO};

void log_open(const char *program)
{
    tzset(); /* reads a file, which a sandbox would forbid at the first line */
    out.program = program;
    out.journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level level)
{
    out.level = level;
}

enum log_level log_get_level(void)
{
    return out.level;
}

int log_set_file(const char *path)
{
    int fd = STDERR_FILENO;

    if (path) {
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
            return -errno;
    }
    if (out.fd != STDERR_FILENO)
        close(out.fd);
    out.fd = fd;
    return 0;
}

static size_t head(char *line, size_t size, enum log_level level)
{
    struct timespec ts;
    struct tm tm;
    int n;

    if (out.journal && out.fd == STDERR_FILENO) {
        n = snprintf(line, size, "<%d>", priority[level]);
        return n;
    }
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t at = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(line + at, size - at, ".%03ldZ %s[%d] %s: ", ts.tv_nsec / 1000000, out.program,
                 (int)getpid(), level_table[level]);
    return at + n;
}

/* What others wrote into a text must not make a second line or move a terminal's cursor. */
static size_t append_safe(char *line, size_t at, size_t size, const char *text)
{
    for (const uint8_t *p = (const uint8_t *)text; *p && at + 6 < size; p++) {
        if (*p < 0x20 || *p == 0x7f)
            at += snprintf(line + at, size - at, "\\x%02x", *p);
        else
            line[at++] = *p;
    }
    return at;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char text[2048], line[2304];
    int saved = errno;
    va_list args;

    if (level > out.level || level <= LOG_LEVEL_OFF)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t at = head(line, sizeof line, level);
    at = append_safe(line, at, sizeof line, text);
    line[at++] = '\n';
    /* One write a line, so that lines of several processes do not mix. Nobody to tell on failure.
     */
    if (write(out.fd, line, at) < 0)
        errno = saved;
    errno = saved;
}
