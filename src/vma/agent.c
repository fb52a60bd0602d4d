// SPDX-License-Identifier: GPL-3.0-or-later
/* nxagent and the X session as processes. */
#include "vma/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"

#define LINE_MAX_LEN 1024
#define WORDS_MAX 64
#define PID_FILE QVD_RUNDIR "/vma/nxagent.pid"
#define SWEEP_MS 5000
/* How long an X session without its display has to end by itself. */
#define LEAVE_MS 3000

/* The X session's process: outlives its agent by the time it needs to end. */
struct xsession {
    struct agent *agent; /* NULL: nobody asks any more */
    struct ev_child *child;
    struct ev_timer *limit;
};

struct agent {
    struct ev_loop *loop;
    const struct conf *conf;
    struct user user;
    unsigned display;
    struct environ_list *environ;
    const struct agent_ops *ops;
    void *owner;
    struct ev_child *nxagent;
    pid_t nxagent_pid; /* also of its process group */
    struct xsession *session;
    int pipe_fd;
    struct ev_io *io;
    char line[LINE_MAX_LEN + 1];
    size_t line_len;
};

/* The words of a setting, as argv entries in store. */
static size_t split(const char *text, char *store, size_t size, const char **argv, size_t max)
{
    const char *at = NULL;
    size_t n = 0;

    while (n < max && conf_list_next(text, &at, store, size)) {
        size_t len = strlen(store) + 1;
        argv[n++] = store;
        store += len;
        size -= len;
    }
    return n;
}

static void tell_line(struct agent *a)
{
    a->line[a->line_len] = '\0';
    a->line_len = 0;
    if (a->line[0])
        a->ops->line(a->owner, a->line);
}

static void take_bytes(struct agent *a, const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n')
            tell_line(a);
        else if (a->line_len < LINE_MAX_LEN)
            a->line[a->line_len++] = data[i] >= 0x20 && data[i] < 0x7f ? data[i] : '?';
    }
}

/* false: nothing more to read now. */
static bool read_some(struct agent *a)
{
    char data[4096];
    ssize_t n = read(a->pipe_fd, data, sizeof data);

    if (n > 0) {
        take_bytes(a, data, n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        a->io = ev_io_free(a->io);
        a->pipe_fd = fd_close(a->pipe_fd);
    }
    return false;
}

static void on_output(void *arg, unsigned events)
{
    (void)read_some(arg);
}

static void on_gone(void *arg, int status)
{
    struct agent *a = arg;
    char how[32];

    /* Its last words come before the news of its end. */
    while (a->pipe_fd >= 0 && read_some(a))
        ;
    a->nxagent = ev_child_free(a->nxagent);
    /* Its own helpers hold the display's sockets. */
    (void)kill(-a->nxagent_pid, SIGKILL);
    (void)unlink(PID_FILE);
    a->ops->gone(a->owner, ev_child_status_text(status, how, sizeof how));
}

static struct xsession *xsession_free(struct xsession *x)
{
    if (x) {
        ev_timer_free(x->limit);
        ev_child_free(x->child);
        free(x);
    }
    return NULL;
}

static void on_session_end(void *arg, int status)
{
    struct xsession *x = arg;
    struct agent *a = x->agent;
    char how[32];

    log_info("X session ended (%s)", ev_child_status_text(status, how, sizeof how));
    xsession_free(x);
    if (a) {
        a->session = NULL;
        a->ops->logged_out(a->owner);
    }
}

static void xsession_signal(struct xsession *x, int signo)
{
    if (x)
        (void)kill(-ev_child_pid(x->child), signo);
}

static void on_leave_limit(void *arg)
{
    xsession_signal(arg, SIGKILL);
}

/* Its display is gone: it may end in its own time, and is reaped when it has. */
static void xsession_leave(struct xsession *x)
{
    if (x) {
        x->agent = NULL;
        xsession_signal(x, SIGTERM);
        ev_timer_arm(x->limit, LEAVE_MS);
    }
}

/* Kept by a persistent overlay, they make nxagent refuse to start. */
static must_check int sweep_locks(unsigned display, struct qvd_error *err)
{
    char path[64];

    snprintf(path, sizeof path, "/tmp/.X%u-lock", display);
    (void)unlink(path);
    snprintf(path, sizeof path, "/tmp/.X11-unix/X%u", display);
    (void)unlink(path);
    /* nxagent runs as the user and may not make this folder itself. /tmp is everybody's: a link or
     * a folder of another is not ours to open to all. */
    if (mkdir("/tmp/.X11-unix", 01777) < 0 && errno != EEXIST)
        return qvd_error_errno(err, errno, "cannot make /tmp/.X11-unix");
    _cleanup_(close_p) int fd =
        open("/tmp/.X11-unix", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return qvd_error_errno(err, errno, "cannot open /tmp/.X11-unix");
    if (st.st_uid != 0)
        return qvd_error_set(err, -EPERM,
                             "/tmp/.X11-unix belongs to uid %u, not to root; remove it",
                             (unsigned)st.st_uid);
    if (fchmod(fd, 01777) < 0)
        return qvd_error_errno(err, errno, "cannot open /tmp/.X11-unix to all");
    return 0;
}

static void make_runtime_dir(const struct user *u)
{
    char path[64];

    snprintf(path, sizeof path, "/run/user/%u", (unsigned)u->uid);
    if (fs_mkdirs("/run/user", 0755) < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST) ||
        lchown(path, u->uid, u->gid) < 0)
        log_warning("cannot make %s: %s, ignoring it", path, strerror(errno));
}

static void write_pid(pid_t pid)
{
    char text[32];

    snprintf(text, sizeof text, "%d\n", (int)pid);
    if (fs_write_atomic(PID_FILE, text, strlen(text), 0644) < 0)
        log_warning("cannot write " PID_FILE ", ignoring it");
}

/* argv and its texts for the agent or the session, all for qvd-vma --run-as. */
struct command {
    const char *argv[WORDS_MAX];
    char spec[USER_SPEC_MAX];
    char store[4096];
};

static must_check int begin_command(const struct agent *a, struct command *c, size_t *ret_n)
{
    c->argv[0] = "/proc/self/exe";
    c->argv[1] = "--run-as";
    c->argv[2] = c->spec;
    *ret_n = 3;
    return user_spec(&a->user, conf_str(a->conf, "vma.user.umask"), c->spec);
}

static must_check int spawn_nxagent(struct agent *a, const char *options_path,
                                    struct qvd_error *err)
{
    char display[16], target[512];
    struct command c;
    int fds[2];
    size_t n;

    int r = begin_command(a, &c, &n);
    if (r == 0)
        r = str_format(target, sizeof target, "nx/nx,options=%s:%u", options_path, a->display);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot start nxagent");
    snprintf(display, sizeof display, ":%u", a->display);
    const char *const args[] = {conf_str(a->conf, "command.nxagent"),
                                display,
                                "-ac",
                                "-nolisten",
                                "tcp",
                                "-name",
                                "QVD",
                                "-display",
                                target};
    for (size_t i = 0; i < ARRAY_SIZE(args); i++)
        c.argv[n++] = args[i];
    n += split(conf_str(a->conf, "command.nxagent.args.extra"), c.store, sizeof c.store, c.argv + n,
               WORDS_MAX - 1 - n);
    c.argv[n] = NULL;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return qvd_error_errno(err, errno, "cannot start nxagent");
    a->pipe_fd = fds[0];
    /* The writing side blocks as programs expect it. */
    (void)fcntl(fds[1], F_SETFL, 0);
    const struct ev_child_fd out[] = {
        {fds[1], 1},
        {fds[1], 2}
    };
    const struct ev_child_spec spec = {.path = c.argv[0],
                                       .argv = c.argv,
                                       .envp = environ_get(a->environ),
                                       .fds = out,
                                       .n_fds = 2,
                                       .dir = a->user.home,
                                       .new_session = true};
    r = ev_child_spawn(a->loop, &spec, on_gone, a, &a->nxagent, err);
    fd_close(fds[1]);
    if (r < 0)
        return r;
    a->nxagent_pid = ev_child_pid(a->nxagent);
    write_pid(a->nxagent_pid);
    r = ev_io_new(a->loop, a->pipe_fd, EV_IO_IN, on_output, a, &a->io);
    return r < 0 ? qvd_error_errno(err, r, "cannot watch nxagent") : 0;
}

int agent_start(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                const struct wire_params *params, unsigned display, const char *options_path,
                const struct agent_ops *ops, void *owner, struct agent **ret_agent,
                struct qvd_error *err)
{
    struct agent *a = calloc(1, sizeof *a);

    if (!a)
        return qvd_error_set(err, -ENOMEM, "cannot start nxagent: out of memory");
    *a = (struct agent){.loop = loop,
                        .conf = conf,
                        .user = *user,
                        .display = display,
                        .ops = ops,
                        .owner = owner,
                        .pipe_fd = -EBADF};
    a->environ = environ_new(conf, user, params, display);
    int r = a->environ ? sweep_locks(display, err)
                       : qvd_error_set(err, -ENOMEM, "cannot start nxagent: out of memory");
    if (r == 0) {
        make_runtime_dir(user);
        r = spawn_nxagent(a, options_path, err);
    }
    if (r < 0) {
        agent_free(a);
        return r;
    }
    *ret_agent = a;
    return 0;
}

int agent_login(struct agent *a, struct qvd_error *err)
{
    struct command c;
    size_t n;

    int r = begin_command(a, &c, &n);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot start the X session");
    c.argv[n++] = conf_str(a->conf, "command.x-session");
    n += split(conf_str(a->conf, "command.x-session.args.extra"), c.store, sizeof c.store,
               c.argv + n, WORDS_MAX - 1 - n);
    c.argv[n] = NULL;
    /* Xsession keeps a log of its own in the home; the monitor's is none for strangers. */
    const struct ev_child_fd nowhere[] = {
        {-EBADF, 1},
        {-EBADF, 2}
    };
    const struct ev_child_spec spec = {.path = c.argv[0],
                                       .argv = c.argv,
                                       .envp = environ_get(a->environ),
                                       .fds = nowhere,
                                       .n_fds = 2,
                                       .dir = a->user.home,
                                       .new_session = true};
    struct xsession *x = calloc(1, sizeof *x);
    if (!x || ev_timer_new(a->loop, on_leave_limit, x, &x->limit) < 0) {
        xsession_free(x);
        return qvd_error_set(err, -ENOMEM, "cannot start the X session: out of memory");
    }
    x->agent = a;
    r = ev_child_spawn(a->loop, &spec, on_session_end, x, &x->child, err);
    if (r < 0) {
        xsession_free(x);
        return r;
    }
    a->session = x;
    return 0;
}

void agent_signal(struct agent *a, int signo)
{
    if (a->nxagent)
        (void)ev_child_kill(a->nxagent, signo);
    if (signo == SIGTERM || signo == SIGKILL)
        xsession_signal(a->session, signo);
}

struct agent *agent_free(struct agent *a)
{
    if (a) {
        if (a->nxagent)
            (void)kill(-a->nxagent_pid, SIGKILL);
        xsession_leave(a->session);
        ev_child_free(a->nxagent);
        ev_io_free(a->io);
        fd_close(a->pipe_fd);
        environ_free(a->environ);
        free(a);
    }
    return NULL;
}

/* The group's other processes are nobody's children of ours: asked for until they are gone. */
static void wait_group(pid_t group)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    for (int i = 0; i < SWEEP_MS / 5 && kill(-group, 0) == 0; i++)
        (void)nanosleep(&pause, NULL);
}

void agent_sweep(void)
{
    _cleanup_(free_p) char *text = NULL, *name = NULL;
    char path[64];
    int64_t pid;
    size_t len;

    if (fs_read(PID_FILE, 32, &text, &len) < 0 || str_to_i64(str_trim(text), 2, 1 << 22, &pid) < 0)
        return;
    _cleanup_(close_p) int fd = pidfd_open(pid, 0);
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    /* The number may be another's by now: only a process of that name is ended, with its group. */
    if (fd >= 0 && fs_read(path, 64, &name, &len) == 0 && str_starts(name, "nxagent")) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        log_warning("ending nxagent %d of an earlier start", (int)pid);
        (void)kill(-(pid_t)pid, SIGKILL);
        (void)poll(&p, 1, SWEEP_MS); /* before the loop runs */
        wait_group(pid);
    }
    (void)unlink(PID_FILE);
}
