// SPDX-License-Identifier: GPL-3.0-or-later
/* The desktop: nxproxy as a child that finds us by a unix socket in a private folder, and the relay
 * between it and the server. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "client/client-internal.h"

#define NX_START_MS 30000
#define NX_EOF_MS 700   /* its connection's end ends it as a rule */
#define NX_TERM_MS 2000 /* then TERM, then KILL */
#define HALF_CLOSE_MS 3000
#define ERRORS_MS 50  /* between two looks at nxproxy's output */
#define LOOK_MAX 32   /* pieces that one takes */
#define QUICK_MS 5000 /* a session that ends sooner by nxproxy has not been one */

bool client_session_possible(struct qvdclient *c)
{
    const char *name = client_option(c, QVDCLIENT_NXPROXY), *path = getenv("PATH");
    char file[1024];

    if (strchr(name, '/'))
        return access(name, X_OK) == 0;
    for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
        size_t n = strcspn(at, ":");
        if (str_format(file, sizeof file, "%.*s/%s", (int)n, at, name) == 0 &&
            access(file, X_OK) == 0)
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

/* --- nxproxy's socket --------------------------------------------------------------------------
 */

static must_check int listen_there(struct client_session *s, char *path, size_t size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (str_format(path, size, "%s/nx", s->dir) < 0 ||
        str_copy(addr.sun_path, sizeof addr.sun_path, path) < 0)
        return -ENAMETOOLONG;
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(s->listen_fd, 1) < 0)
        return -errno;
    return 0;
}

/* --- nxproxy ---------------------------------------------------------------------------------- */

/* What it gets of our environment: nothing that it does not need, and no password. */
static char **make_env(struct qvdclient *c)
{
    static const char *const kept[] = {"PATH", "HOME",   "USER",       "LOGNAME",
                                       "LANG", "LC_ALL", "XAUTHORITY", "XAUTHLOCALHOSTNAME",
                                       "TZ"};
    char **env = calloc(ARRAY_SIZE(kept) + 6, sizeof *env);
    size_t n = 0;

    if (!env)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (getenv(kept[i]))
            env[n++] = str_printf("%s=%s", kept[i], getenv(kept[i]));
    env[n++] = str_printf("DISPLAY=%s", c->display_name);
    env[n++] = str_printf("NX_ROOT=%s", c->session.dir);
    env[n++] = str_printf("NX_TEMP=%s", c->session.dir);
    env[n++] = str_printf("NX_HOME=%s", c->session.dir);
    env[n++] = strdup("NX_CLIENT=/bin/true"); /* its dialogs are not ours */
    return env;
}

static void free_env(char **env)
{
    for (size_t i = 0; env && env[i]; i++)
        free(env[i]);
    free(env);
}

/* The first that can reach us by a unix socket. */
#define NX_LEAST "3.5.99"

static bool too_old(const char *version)
{
    unsigned a = 0, b = 0, c = 0;

    return sscanf(version, "%5u.%5u.%5u", &a, &b, &c) == 3 &&
           a * 1000000000ULL + b * 100000ULL + c < 3 * 1000000000ULL + 5 * 100000ULL + 99;
}

/* A line of nxproxy; the last error tells the person why it failed. */
static void take_error_line(struct qvdclient *c, char *line)
{
    struct client_session *s = &c->session;

    line = str_trim(line);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (!*line)
        return;
    client_debug(c, "nxproxy: %s", line);
    if (str_starts(line, "NXPROXY - Version ") && too_old(line + strlen("NXPROXY - Version ")))
        client_end(c, QVDCLIENT_FAILED,
                   "%s is version %.20s, too old: " NX_LEAST " or later is needed; install the "
                   "package nxproxy of nx-libs, or name another by --nxproxy",
                   client_option(c, QVDCLIENT_NXPROXY), line + strlen("NXPROXY - Version "));
    else if (strcmp(line, "Info: Established X server connection.") == 0)
        client_step(c, QVDCLIENT_STEP_NX, "nxproxy has opened the desktop's window");
    if (str_starts(line, "Error:") || !str_starts(s->last_error, "Error:"))
        snprintf(s->last_error, sizeof s->last_error, "%.*s", (int)sizeof s->last_error - 1, line);
}

static void close_errors(struct client_session *s)
{
    s->errors_io = ev_io_free(s->errors_io);
    s->errors_timer = ev_timer_free(s->errors_timer);
    s->errors_fd = fd_close(s->errors_fd);
}

/* Lines are put together again, long ones cut. */
static void read_errors(struct qvdclient *c)
{
    struct client_session *s = &c->session;
    char text[2048];
    ssize_t n = 1;

    for (int look = 0; look < LOOK_MAX && n > 0; look++) {
        n = read(s->errors_fd, text, sizeof text);
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] != '\n' && s->line_len + 1 < sizeof s->line) {
                s->line[s->line_len++] = text[i];
                continue;
            }
            s->line[s->line_len] = '\0';
            s->line_len = 0;
            take_error_line(c, s->line);
        }
    }
    if (n == 0 || (n < 0 && errno != EAGAIN))
        close_errors(s);
}

/* It writes a word a call, and its desktop waits for us too: what it says next is looked at later,
 * all at once. */
static void on_errors(void *arg, unsigned events)
{
    struct qvdclient *c = arg;
    struct client_session *s = &c->session;

    read_errors(c);
    if (s->errors_io && ev_io_set(s->errors_io, 0) == 0)
        ev_timer_arm(s->errors_timer, ERRORS_MS);
}

static void on_errors_timer(void *arg)
{
    struct qvdclient *c = arg;

    if (ev_io_set(c->session.errors_io, EV_IO_IN) < 0)
        ev_timer_arm(c->session.errors_timer, ERRORS_MS);
}

static void forget_nx(struct client_session *s)
{
    close_errors(s);
    s->line_len = 0;
    s->last_error[0] = '\0';
    s->started_ms = 0;
    s->nx_ended_first = s->ended_by_us = false;
    client_dir_remove(s);
}

/* nxproxy has ended: did it fail? */
static void judge(struct qvdclient *c)
{
    struct client_session *s = &c->session;
    bool quick = clock_ms() - s->started_ms < QUICK_MS;
    char text[32];

    if (!s->nx_ended_first || s->ended_by_us || c->result != QVDCLIENT_OK || s->child_status == 0 ||
        (!quick && WIFEXITED(s->child_status)))
        return;
    c->result = QVDCLIENT_SESSION;
    (void)snprintf(c->text, sizeof c->text,
                   quick ? "the desktop could not be shown: %s%s%s" : "nxproxy crashed: %s%s%s",
                   s->last_error[0] ? s->last_error : "nxproxy failed, ",
                   s->last_error[0] ? ", " : "",
                   ev_child_status_text(s->child_status, text, sizeof text));
}

static void on_child(void *arg, int status)
{
    struct qvdclient *c = arg;
    struct client_session *s = &c->session;
    char text[32];

    if (s->errors_fd >= 0)
        read_errors(c);
    client_debug(c, "nxproxy ended: %s", ev_child_status_text(status, text, sizeof text));
    s->child = ev_child_free(s->child);
    s->child_status = status;
    if (c->state == QVDCLIENT_RECONNECTING) {
        forget_nx(s);
        client_again_nx_gone(c);
    } else if (c->state == QVDCLIENT_STARTING_NX) {
        client_end(c, QVDCLIENT_SESSION, "nxproxy failed: %s",
                   s->last_error[0] ? s->last_error : text);
    } else if (c->state == QVDCLIENT_ENDING && c->down) {
        ev_timer_disarm(c->timer);
        if (client_session_end(c))
            client_finished(c);
    }
    /* While connected the relay sees its end too, and tells. */
}

/* It reads what strangers send: what it may take of this machine has an end. */
static void bound(pid_t pid)
{
    static const struct {
        int resource;
        struct rlimit limit;
    } limits[] = {
        {RLIMIT_CORE,   {0, 0}                      },
        {RLIMIT_NOFILE, {256, 256}                  },
        {RLIMIT_AS,     {4ULL << 30, 4ULL << 30}    },
        {RLIMIT_FSIZE,  {256ULL << 20, 256ULL << 20}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
        (void)prlimit(pid, limits[i].resource, &limits[i].limit, NULL);
}

static must_check int spawn(struct qvdclient *c, const char *socket_path, struct qvd_error *err)
{
    struct client_session *s = &c->session;
    const char *more = client_option(c, QVDCLIENT_NXPROXY_OPTIONS), *name = strrchr(s->dir, '-');
    _cleanup_(free_p) char *display = str_printf("nx/nx,connect=unix:%s,root=%s,id=qvd%s%s%s:40",
                                                 socket_path, s->dir, name, *more ? "," : "", more);
    const char *argv[] = {"nxproxy", "-S", display, NULL};
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return qvd_error_errno(err, errno, "nxproxy");
    s->errors_fd = fds[0];
    char **env = make_env(c);
    struct ev_child_fd child_fds[] = {
        {fds[1], 1},
        {fds[1], 2}
    };
    struct ev_child_spec spec = {.path = client_option(c, QVDCLIENT_NXPROXY),
                                 .argv = argv,
                                 .envp = (const char *const *)env,
                                 .fds = child_fds,
                                 .n_fds = 2,
                                 .death_signal = SIGKILL, /* it is not trusted to end */
                                 .new_session = true};
    int r = env && display ? fs_set_nonblock(fds[0]) : -ENOMEM;
    if (r >= 0)
        r = ev_io_new(c->loop, s->errors_fd, EV_IO_IN, on_errors, c, &s->errors_io);
    if (r >= 0)
        r = ev_timer_new(c->loop, on_errors_timer, c, &s->errors_timer);
    if (r < 0)
        qvd_error_errno(err, r, "nxproxy");
    else
        r = ev_child_spawn(c->loop, &spec, on_child, c, &s->child, err);
    if (r >= 0) {
        bound(ev_child_pid(s->child));
        client_display_allow(c->display, ev_child_pid(s->child));
    }
    close(fds[1]);
    free_env(env);
    return r;
}

/* --- the relay -------------------------------------------------------------------------------- */

static void on_relay_done(void *owner, const struct stream_relay_stats *stats,
                          const struct qvd_error *why)
{
    struct qvdclient *c = owner;
    struct client_session *s = &c->session;

    s->stats = *stats;
    s->relay = stream_relay_free(s->relay);
    s->nx_ended_first = stats->ended == STREAM_B;
    client_debug(c, "session: %llu bytes in, %llu out: %s",
                 (unsigned long long)stats->bytes[STREAM_A],
                 (unsigned long long)stats->bytes[STREAM_B], why->text);
    /* Without TLS an end says nothing about its reason: the server knows. */
    bool cut = (why->code && why->code != -ETIMEDOUT) || !c->tls;
    if (!s->nx_ended_first && client_again_possible(c))
        client_again_begin(c, cut, why->code ? why->text : "the connection was closed");
    else if (why->code && why->code != -ETIMEDOUT && !s->nx_ended_first)
        client_end(c, QVDCLIENT_SESSION, "the connection to %s broke: %s", c->host_port, why->text);
    else if (!s->nx_ended_first && stats->bytes[STREAM_A] == 0)
        client_end(c, QVDCLIENT_SESSION, "%s ended the session before the desktop came",
                   c->host_port);
    else
        client_end(c, QVDCLIENT_OK, s->nx_ended_first ? "disconnected" : "the session has ended");
}

static void on_listen(void *arg, unsigned events)
{
    struct qvdclient *c = arg;
    struct client_session *s = &c->session;
    struct stream *local;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    s->listen_io = ev_io_free(s->listen_io);
    s->listen_fd = fd_close(s->listen_fd);
    ev_timer_disarm(c->timer);
    int r = stream_new(c->loop, fd, NULL, 0, NULL, NULL, &local);
    if (r >= 0)
        r = stream_relay_start(c->loop, TAKE_PTR(s->server), local, HALF_CLOSE_MS, on_relay_done, c,
                               &s->relay);
    if (r < 0) {
        client_end(c, QVDCLIENT_FAILED, "%s", strerror(-r));
        return;
    }
    s->started_ms = clock_ms();
    client_again_connected(c);
    client_set_state(c, QVDCLIENT_CONNECTED);
}

/* A line that is dead without a word is noticed within half a minute. */
static void watch_line(struct stream *stream)
{
    static const struct {
        int name, value;
    } options[] = {
        {TCP_KEEPIDLE,     10   },
        {TCP_KEEPINTVL,    5    },
        {TCP_KEEPCNT,      3    },
        {TCP_USER_TIMEOUT, 25000},
    };

    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        (void)setsockopt(stream_fd(stream), IPPROTO_TCP, options[i].name, &options[i].value,
                         sizeof(int));
}

void client_session_start(struct qvdclient *c, struct stream *stream)
{
    struct client_session *s = &c->session;
    char path[sizeof s->dir + 8];
    struct qvd_error err;

    s->server = stream;
    watch_line(stream);
    /* Servers that cannot tell a cut from an end are not known to say good-bye either. */
    if (c->again.session)
        stream_end_told(stream);
    client_set_state(c, QVDCLIENT_STARTING_NX);
    int r = client_dir_make(s);
    if (r >= 0)
        r = listen_there(s, path, sizeof path);
    if (r >= 0)
        r = ev_io_new(c->loop, s->listen_fd, EV_IO_IN, on_listen, c, &s->listen_io);
    if (r < 0)
        qvd_error_errno(&err, r, "the socket for nxproxy");
    else
        r = spawn(c, path, &err);
    if (r < 0)
        client_end(c, QVDCLIENT_FAILED, "%s", err.text);
    else
        ev_timer_arm(c->timer, NX_START_MS);
}

void client_session_kill(struct qvdclient *c)
{
    struct client_session *s = &c->session;
    int signo = s->ended_by_us ? SIGKILL : SIGTERM;

    if (!s->child || ev_child_pid(s->child) <= 0)
        return;
    client_debug(c, "nxproxy does not end: signal %d", signo);
    s->ended_by_us = true;
    /* It is the leader of a group: helpers of its own go with it. */
    (void)kill(-ev_child_pid(s->child), signo);
    if (signo == SIGTERM)
        ev_timer_arm(c->timer, NX_TERM_MS);
}

static void close_all(struct client_session *s)
{
    s->listen_io = ev_io_free(s->listen_io);
    s->listen_fd = fd_close(s->listen_fd);
    s->server = stream_free(s->server);
    if (s->relay)
        s->stats = *stream_relay_stats(s->relay);
    s->relay = stream_relay_free(s->relay);
}

static void forget(struct qvdclient *c)
{
    c->display = client_display_free(c->display);
    forget_nx(&c->session);
}

bool client_session_reset(struct qvdclient *c)
{
    struct client_session *s = &c->session;

    close_all(s);
    ev_timer_disarm(c->timer);
    if (!s->child) {
        forget_nx(s);
        return true;
    }
    /* What it shows is of the line that is no more. */
    s->ended_by_us = true;
    if (ev_child_pid(s->child) > 0)
        (void)kill(-ev_child_pid(s->child), SIGKILL);
    return false;
}

bool client_session_end(struct qvdclient *c)
{
    struct client_session *s = &c->session;

    close_all(s);
    if (!s->child) {
        judge(c);
        forget(c);
        return true;
    }
    if (s->started_ms)
        ev_timer_arm(c->timer, NX_EOF_MS);
    else
        client_session_kill(c);
    return false;
}

void client_session_drop(struct qvdclient *c)
{
    struct client_session *s = &c->session;
    pid_t pid = s->child ? ev_child_pid(s->child) : -1;

    close_all(s);
    if (pid > 0) {
        (void)kill(-pid, SIGKILL);
        s->child = ev_child_free(s->child);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    forget(c);
}
