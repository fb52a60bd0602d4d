// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"

static const char *const level_table[LOG_LEVEL_MAX] = {
    [LOG_LEVEL_OFF] = "off",   [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warn",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};
/* Priorities of syslog(3), as the service manager wants them. */
static const int priority[LOG_LEVEL_MAX] = {0, 3, 4, 6, 7};

QVD_STRING_TABLE_DEFINE(log_level, enum log_level, level_table, LOG_LEVEL_INVALID)

/* What a line looks like. */
enum form {
    FORM_PLAIN,   /* time, level and program, for a terminal or a file */
    FORM_JOURNAL, /* <N> text */
    FORM_SYSLOG,  /* <N>time program: text, as /dev/log takes it */
    FORM_REMOTE,  /* RFC 5424, a datagram each */
    FORM_STREAM,  /* RFC 5424 over TCP, each ended by a newline (RFC 6587, 3.4.2) */
};
#define STREAM_WORD "tcp://"
#define STREAM_CONNECT_MS 1000
#define STREAM_AGAIN_MS 5000

static struct {
    const char *program;
    enum log_level level;
    int facility;
    int fd;
    enum form form;
    int original;        /* stderr as it was before log_share(); -EBADF: untouched */
    char name[PATH_MAX]; /* of the file or the local socket; "" unknown */
    bool inherited;
    bool own;             /* opened by us, who may open it again; else by our parent */
    char host[256];       /* ours, for FORM_REMOTE */
    bool each_line_opens; /* log_by_name() */
    unsigned lost;
    bool cut;           /* FORM_STREAM: the last line went only in part */
    int64_t tried_last; /* FORM_STREAM: to connect again */
} out = {.program = "qvd",
         .level = LOG_LEVEL_INFO,
         .facility = 3,
         .fd = STDERR_FILENO,
         .original = -EBADF};

/* The target ------------------------------------------------------------------------------------
 */

static enum form form_of(int fd)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof sa, type_len = sizeof(int);
    const char *journal = getenv("JOURNAL_STREAM");
    char mine[64];
    struct stat st;
    int type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 &&
        getsockname(fd, (struct sockaddr *)&sa, &len) == 0) {
        if (type == SOCK_DGRAM)
            return sa.ss_family == AF_UNIX ? FORM_SYSLOG : FORM_REMOTE;
        if (type == SOCK_STREAM && sa.ss_family != AF_UNIX)
            return FORM_STREAM;
    }
    if (!journal || fstat(fd, &st) < 0)
        return FORM_PLAIN;
    (void)snprintf(mine, sizeof mine, "%llu:%llu", (unsigned long long)st.st_dev,
                   (unsigned long long)st.st_ino);
    return strcmp(journal, mine) == 0 ? FORM_JOURNAL : FORM_PLAIN;
}

/* QVD_LOG is "PID LEVEL FACILITY NAME": of the parent, NAME of the file or socket or empty. */
static void from_parent(void)
{
    const char *text = getenv("QVD_LOG");
    char level[16];
    int pid, facility, at = 0;

    if (!text || sscanf(text, "%d %15s %d %n", &pid, level, &facility, &at) < 3 ||
        pid != (int)getppid() || facility < 0 || facility > 23 ||
        log_level_from_string(level) == LOG_LEVEL_INVALID)
        return;
    out.level = log_level_from_string(level);
    out.facility = facility;
    out.inherited = true;
    if (str_copy(out.name, sizeof out.name, at ? text + at : "") < 0)
        out.name[0] = 0;
}

void log_open(const char *program)
{
    tzset(); /* reads a file, which a sandbox would forbid at the first line */
    out.program = program;
    out.form = form_of(STDERR_FILENO);
    if (gethostname(out.host, sizeof out.host - 1) < 0 || !out.host[0])
        strcpy(out.host, "-");
    from_parent();
}

bool log_inherited(void)
{
    return out.inherited;
}

void log_set_level(enum log_level level)
{
    out.level = level;
}

enum log_level log_get_level(void)
{
    return out.level;
}

static void set_target(int fd, enum form form, const char *name)
{
    if (out.fd != STDERR_FILENO && out.fd != fd)
        close(out.fd);
    out.fd = fd;
    out.form = form;
    out.own = *name;
    if (str_copy(out.name, sizeof out.name, name) < 0)
        out.name[0] = 0;
}

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

    return fd < 0 ? -errno : fd;
}

int log_set_file(const char *path)
{
    int fd = path ? open_file(path) : STDERR_FILENO;

    if (fd < 0)
        return fd;
    if (!path && out.original >= 0) {
        (void)dup3(out.original, STDERR_FILENO, 0);
        out.original = fd_close(out.original);
    }
    set_target(fd, form_of(fd), path ? path : "");
    return 0;
}

static int connect_local(int fd, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (str_copy(sa.sun_path, sizeof sa.sun_path, path) < 0)
        return -ENAMETOOLONG;
    return connect(fd, (const struct sockaddr *)&sa, sizeof sa) < 0 ? -errno : 0;
}

/* Waits a moment only: lines are worth less than a start. */
static int connect_in_time(int fd, const struct addrinfo *a)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;

    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    if (poll(&p, 1, STREAM_CONNECT_MS) != 1)
        return -ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

static int connect_remote(const char *address, int type)
{
    const char *colon = strrchr(address, ':');
    bool bracket = *address == '[';
    size_t len = colon ? (size_t)(colon - address) : 0;
    const struct addrinfo hints = {.ai_socktype = type};
    struct addrinfo *found;
    char host[256];
    int fd = -EHOSTUNREACH;

    if (len < 1 + 2 * (size_t)bracket || !colon[1] ||
        str_copy_n(host, sizeof host, address + bracket, len - 2 * (size_t)bracket) < 0)
        return -EINVAL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -EHOSTUNREACH;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect_in_time(fd, a) < 0) {
            close(fd);
            fd = -EHOSTUNREACH;
        }
    }
    freeaddrinfo(found);
    return fd < 0 ? -EHOSTUNREACH : fd;
}

static int set_stream(const char *address, int facility)
{
    int fd = connect_remote(address + strlen(STREAM_WORD), SOCK_STREAM);

    if (fd < 0)
        return fd;
    set_target(fd, FORM_STREAM, address);
    out.facility = facility;
    out.cut = false;
    return 0;
}

int log_set_syslog(const char *address, int facility)
{
    bool local = *address == '/';
    int fd, r;

    if (str_starts(address, STREAM_WORD))
        return set_stream(address, facility);
    if (str_starts(address, "udp://"))
        address += strlen("udp://");

    /* The same socket, connected again: children hold it too. */
    if (local && out.form == FORM_SYSLOG && strcmp(out.name, address) == 0) {
        r = connect_local(out.fd, address);
        if (r == 0) {
            out.facility = facility;
            out.own = true;
        }
        return r;
    }
    fd =
        local ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : connect_remote(address, SOCK_DGRAM);
    if (fd < 0)
        return local ? -errno : fd;
    r = local ? connect_local(fd, address) : 0;
    if (r < 0) {
        close(fd);
        return r;
    }
    set_target(fd, local ? FORM_SYSLOG : FORM_REMOTE, local ? address : "");
    out.facility = facility;
    return 0;
}

int log_facility(const char *name)
{
    static const char *const names[] = {
        "kern",   "user",   "mail",     "daemon", "auth",   "syslog", "lpr",    "news",
        "uucp",   "cron",   "authpriv", "ftp",    "",       "",       "",       "",
        "local0", "local1", "local2",   "local3", "local4", "local5", "local6", "local7",
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (*name && strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}

int log_get_facility(void)
{
    return out.facility;
}

/* Parent and children --------------------------------------------------------------------------
 */

int log_fd(void)
{
    return out.fd;
}

void log_share(void)
{
    char text[PATH_MAX + 32];

    if (out.fd != STDERR_FILENO) {
        if (out.original < 0)
            out.original = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        if (dup3(out.fd, STDERR_FILENO, 0) >= 0) {
            close(out.fd);
            out.fd = STDERR_FILENO;
        }
    }
    if (str_format(text, sizeof text, "%d %s %d %s", (int)getpid(), level_table[out.level],
                   out.facility, out.name) == 0)
        (void)setenv("QVD_LOG", text, 1);
}

void log_take(int fd, enum log_level level, int facility)
{
    if (dup3(fd, STDERR_FILENO, 0) >= 0)
        set_target(STDERR_FILENO, form_of(STDERR_FILENO), "");
    if (fd != STDERR_FILENO)
        close(fd);
    out.level = level;
    out.facility = facility;
}

void log_by_name(void)
{
    int null;

    out.own = true;
    if (out.form != FORM_PLAIN || out.name[0] != '/' || out.fd != STDERR_FILENO)
        return;
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0 || dup3(null, STDERR_FILENO, 0) < 0)
        return;
    if (null != STDERR_FILENO)
        close(null);
    out.each_line_opens = true;
}

/* Lines -----------------------------------------------------------------------------------------
 */

static size_t head(char *line, size_t size, enum log_level level)
{
    int pri = out.facility * 8 + priority[level];
    struct timespec ts;
    struct tm tm;
    size_t at;

    if (out.form == FORM_JOURNAL)
        return (size_t)snprintf(line, size, "<%d>", priority[level]);
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out.form == FORM_SYSLOG) {
        char when[32];

        localtime_r(&ts.tv_sec, &tm);
        (void)strftime(when, sizeof when, "%b %e %H:%M:%S", &tm);
        return (size_t)snprintf(line, size, "<%d>%s %s[%d]: ", pri, when, out.program,
                                (int)getpid());
    }
    gmtime_r(&ts.tv_sec, &tm);
    at = out.form >= FORM_REMOTE ? (size_t)snprintf(line, size, "<%d>1 ", pri) : 0;
    at += strftime(line + at, size - at, "%Y-%m-%dT%H:%M:%S", &tm);
    at += (size_t)snprintf(line + at, size - at, ".%03ldZ ", ts.tv_nsec / 1000000);
    if (out.form >= FORM_REMOTE)
        return at + (size_t)snprintf(line + at, size - at, "%s %s %d - - ", out.host, out.program,
                                     (int)getpid());
    return at + (size_t)snprintf(line + at, size - at, "%s[%d] %s: ", out.program, (int)getpid(),
                                 level_table[level]);
}

/* What others wrote into a text must not make a second line or move a terminal's cursor. */
static size_t append_safe(char *line, size_t at, size_t size, const char *text)
{
    for (const uint8_t *p = (const uint8_t *)text; *p && at + 6 < size; p++) {
        if (*p < 0x20 || *p == 0x7f)
            at += (size_t)snprintf(line + at, size - at, "\\x%02x", *p);
        else
            line[at++] = (char)*p;
    }
    return at;
}

static bool send_stream(const char *line, size_t len)
{
    /* The receiver finds the next line's beginning again. */
    if (out.cut && send(out.fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        out.cut = false;
    ssize_t n = out.cut ? -1 : send(out.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && (size_t)n < len)
        out.cut = true;
    return n == (ssize_t)len;
}

/* The server was restarted, or is: it is asked again now and then. */
static bool put_stream(const char *line, size_t len)
{
    if (send_stream(line, len))
        return true;
    if (errno == EAGAIN || !out.own || clock_ms() - out.tried_last < STREAM_AGAIN_MS)
        return false;
    out.tried_last = clock_ms();
    int fd = connect_remote(out.name + strlen(STREAM_WORD), SOCK_STREAM);
    if (fd < 0)
        return false;
    bool moved = dup3(fd, out.fd, out.fd == STDERR_FILENO ? 0 : O_CLOEXEC) >= 0;
    close(fd);
    out.cut = false;
    return moved && send_stream(line, len);
}

/* One write a line, so that lines of several processes do not mix. */
static bool put(const char *line, size_t len)
{
    bool datagram = out.form >= FORM_SYSLOG;

    if (out.each_line_opens) {
        _cleanup_(close_p) int fd = open_file(out.name);
        return fd >= 0 && write(fd, line, len) >= 0;
    }
    if (!datagram)
        return write(out.fd, line, len) >= 0;
    if (out.form == FORM_STREAM)
        return put_stream(line, len);
    if (send(out.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    /* Restarted: its socket is another now. A child has no name of it; its parent's call mends the
     * socket that they share. */
    return errno != EAGAIN && out.form == FORM_SYSLOG && out.own &&
           connect_local(out.fd, out.name) == 0 &&
           send(out.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static void tell_lost(void)
{
    char line[512];
    size_t at = head(line, sizeof line, LOG_LEVEL_WARNING);

    at += (size_t)snprintf(line + at, sizeof line - at, "%u lines before were lost", out.lost);
    if (out.form < FORM_SYSLOG || out.form == FORM_STREAM)
        line[at++] = '\n';
    if (put(line, at))
        out.lost = 0;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char text[2048], line[2816];
    int saved = errno;
    va_list args;

    if (level > out.level || level <= LOG_LEVEL_OFF)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (out.lost)
        tell_lost();
    size_t at = head(line, sizeof line, level);
    at = append_safe(line, at, sizeof line, text);
    if (out.form < FORM_SYSLOG || out.form == FORM_STREAM)
        line[at++] = '\n';
    /* Nobody to tell on failure. */
    if (!put(line, at))
        out.lost++;
    errno = saved;
}
