// SPDX-License-Identifier: GPL-3.0-or-later
/* nxagent and the X session as processes. */
#include "vma/agent.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"

#define LINE_MAX_LEN 1024
#define WORDS_MAX 64
/* nxagent's output: nxagent itself holds both ends, so that it can write while no monitor reads. */
#define OUTPUT_DIR QVD_RUNDIR "/vma"
#define OUTPUT_FIFO OUTPUT_DIR "/nxagent.fifo"
#define OUTPUT_BYTES (256 << 10)
/* How long an X session without its display has to end by itself. */
#define LEAVE_MS 3000

/* The X session's process: outlives its agent by the time it needs to end. */
struct xsession {
    struct agent *agent; /* NULL: nobody asks any more */
    struct ev_child *child;
    pid_t pid; /* also of its process group */
    uint64_t began;
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
    uint64_t nxagent_began;
    struct ev_deferred session_gone; /* an adopted agent's X session has ended */
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
    agent_write_pid(0);
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
        (void)kill(-x->pid, signo);
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

/* When a process began, in ticks; 0: there is none. With its pid it names a process for good. */
static uint64_t began_at(pid_t pid)
{
    _cleanup_(free_p) char *text = NULL;
    unsigned long long ticks = 0;
    char path[64];
    size_t len;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (pid <= 0 || fs_read(path, 4096, &text, &len) < 0)
        return 0;
    /* The name in brackets may hold anything: fields are counted behind its end. */
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1,
                        " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d"
                        " %*d %*d %llu",
                        &ticks) != 1)
        return 0;
    return ticks;
}

static must_check int watch_output(struct agent *a, struct qvd_error *err)
{
    a->pipe_fd = open(OUTPUT_FIFO, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    int r =
        a->pipe_fd < 0 ? -errno : ev_io_new(a->loop, a->pipe_fd, EV_IO_IN, on_output, a, &a->io);
    return r < 0 ? qvd_error_errno(err, r, "cannot watch nxagent's output") : 0;
}

/* A new one for each nxagent: nobody of a former session can write into it. */
static must_check int make_output(int *ret_fd, struct qvd_error *err)
{
    int r = fs_mkdirs(OUTPUT_DIR, 0711);

    if (r == 0 && unlink(OUTPUT_FIFO) < 0 && errno != ENOENT)
        r = -errno;
    if (r == 0 && mkfifo(OUTPUT_FIFO, 0600) < 0)
        r = -errno;
    if (r == 0)
        *ret_fd = open(OUTPUT_FIFO, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && *ret_fd < 0)
        r = -errno;
    if (r == 0 && fcntl(*ret_fd, F_SETPIPE_SZ, OUTPUT_BYTES) < 0)
        log_debug(OUTPUT_FIFO " stays small: %s", strerror(errno));
    return r < 0 ? qvd_error_errno(err, r, "cannot start nxagent: " OUTPUT_FIFO) : 0;
}

static must_check int spawn_nxagent(struct agent *a, const char *options_path,
                                    struct qvd_error *err)
{
    char display[16], target[512];
    struct command c;
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
    _cleanup_(close_p) int output = -EBADF;
    r = make_output(&output, err);
    if (r == 0)
        r = watch_output(a, err);
    if (r < 0)
        return r;
    const struct ev_child_fd out[] = {
        {output, 1},
        {output, 2}
    };
    const struct ev_child_spec spec = {.path = c.argv[0],
                                       .argv = c.argv,
                                       .envp = environ_get(a->environ),
                                       .fds = out,
                                       .n_fds = 2,
                                       .dir = a->user.home,
                                       .death_signal = SIGKILL,
                                       .new_session = true};
    /* The kernel forgets the death signal when it becomes the user, by when its number is on
     * record: an agent that is killed in between leaves no nxagent that nobody knows of. */
    r = ev_child_spawn(a->loop, &spec, on_gone, a, &a->nxagent, err);
    if (r < 0)
        return r;
    a->nxagent_pid = ev_child_pid(a->nxagent);
    a->nxagent_began = began_at(a->nxagent_pid);
    agent_write_pid(a->nxagent_pid);
    return 0;
}

static void on_session_gone(void *arg)
{
    struct agent *a = arg;

    a->ops->logged_out(a->owner);
}

static struct agent *agent_new(struct ev_loop *loop, const struct conf *conf,
                               const struct user *user, const struct wire_params *params,
                               unsigned display, const struct agent_ops *ops, void *owner)
{
    struct agent *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    *a = (struct agent){.loop = loop,
                        .conf = conf,
                        .user = *user,
                        .display = display,
                        .ops = ops,
                        .owner = owner,
                        .pipe_fd = -EBADF};
    ev_deferred_init(&a->session_gone, on_session_gone, a);
    a->environ = environ_new(conf, user, params, display);
    return a->environ ? a : agent_free(a);
}

int agent_start(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                const struct wire_params *params, unsigned display, const char *options_path,
                const struct agent_ops *ops, void *owner, struct agent **ret_agent,
                struct qvd_error *err)
{
    struct agent *a = agent_new(loop, conf, user, params, display, ops, owner);
    int r = a ? agent_sweep_display(display, err)
              : qvd_error_set(err, -ENOMEM, "cannot start nxagent: out of memory");

    if (r == 0) {
        agent_make_runtime_dir(user);
        r = spawn_nxagent(a, options_path, err);
    }
    if (r < 0) {
        agent_free(a);
        return r;
    }
    *ret_agent = a;
    return 0;
}

static struct xsession *xsession_new(struct agent *a)
{
    struct xsession *x = calloc(1, sizeof *x);

    if (!x || ev_timer_new(a->loop, on_leave_limit, x, &x->limit) < 0)
        return xsession_free(x);
    x->agent = a;
    return x;
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
    struct xsession *x = xsession_new(a);
    if (!x)
        return qvd_error_set(err, -ENOMEM, "cannot start the X session: out of memory");
    r = ev_child_spawn(a->loop, &spec, on_session_end, x, &x->child, err);
    if (r < 0) {
        xsession_free(x);
        return r;
    }
    x->pid = ev_child_pid(x->child);
    x->began = began_at(x->pid);
    a->session = x;
    return 0;
}

/* A process that is not ours by birth: by its number and its beginning. */
static must_check int adopt(struct ev_loop *loop, pid_t pid, uint64_t began, ev_child_fn *fn,
                            void *arg, struct ev_child **ret_child)
{
    int fd = pid > 0 && began ? pidfd_open(pid, 0) : -1;

    if (fd < 0)
        return -ESRCH;
    if (began_at(pid) != began) {
        fd_close(fd);
        return -ESRCH;
    }
    return ev_child_adopt(loop, fd, pid, fn, arg, ret_child);
}

static void adopt_session(struct agent *a, const struct agent_saved *saved)
{
    struct xsession *x = xsession_new(a);

    if (x && adopt(a->loop, saved->session_pid, saved->session_began, on_session_end, x,
                   &x->child) == 0) {
        x->pid = saved->session_pid;
        x->began = saved->session_began;
        a->session = x;
        return;
    }
    xsession_free(x);
    ev_defer(a->loop, &a->session_gone);
}

int agent_adopt(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                const struct wire_params *params, unsigned display, const struct agent_saved *saved,
                const struct agent_ops *ops, void *owner, struct agent **ret_agent,
                struct qvd_error *err)
{
    struct agent *a = agent_new(loop, conf, user, params, display, ops, owner);

    if (!a)
        return qvd_error_set(err, -ENOMEM, "cannot adopt nxagent: out of memory");
    int r = adopt(loop, saved->pid, saved->began, on_gone, a, &a->nxagent);
    if (r < 0) {
        agent_free(a);
        return qvd_error_errno(err, r, "nxagent %d", (int)saved->pid);
    }
    a->nxagent_pid = saved->pid;
    a->nxagent_began = saved->began;
    r = watch_output(a, err);
    if (r < 0) {
        agent_free(a); /* ends it: without its output nobody knows its state */
        return r;
    }
    if (saved->session_pid)
        adopt_session(a, saved);
    *ret_agent = a;
    return 0;
}

struct agent_saved agent_save(const struct agent *a)
{
    struct agent_saved saved = {0};

    if (a && a->nxagent) {
        saved.pid = a->nxagent_pid;
        saved.began = a->nxagent_began;
        saved.session_pid = a->session ? a->session->pid : 0;
        saved.session_began = a->session ? a->session->began : 0;
    }
    return saved;
}

void agent_signal(struct agent *a, int signo)
{
    if (a->nxagent)
        (void)ev_child_kill(a->nxagent, signo);
    if (signo == SIGTERM || signo == SIGKILL)
        xsession_signal(a->session, signo);
}

static void forget(struct agent *a)
{
    ev_deferred_cancel(&a->session_gone);
    ev_child_free(a->nxagent);
    ev_io_free(a->io);
    fd_close(a->pipe_fd);
    environ_free(a->environ);
    free(a);
}

struct agent *agent_free(struct agent *a)
{
    if (a) {
        if (a->nxagent)
            (void)kill(-a->nxagent_pid, SIGKILL);
        xsession_leave(a->session);
        forget(a);
    }
    return NULL;
}

struct agent *agent_leave(struct agent *a)
{
    if (a) {
        xsession_free(a->session);
        forget(a);
    }
    return NULL;
}
