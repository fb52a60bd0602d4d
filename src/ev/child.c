// SPDX-License-Identifier: GPL-3.0-or-later
#include "ev/child.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct ev_child {
    struct ev_io *io;
    int pidfd;
    pid_t pid;
    bool ours;
    ev_child_fn *fn;
    void *arg;
};

/* First number that no target uses: sources are moved above it before they are put in place. */
#define SAFE_FD 200

static void reset_signals(void)
{
    sigset_t none;
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    for (int s = 1; s < NSIG; s++)
        (void)sigaction(s, &dfl, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static must_check int place_fds(const struct ev_child_spec *spec, int error_fd)
{
    int high[64], targets[64];
    size_t n = spec->n_fds;

    if (n > ARRAY_SIZE(high) - 3)
        return -E2BIG;
    for (size_t i = 0; i < n; i++) {
        int fd = spec->fds[i].fd;
        if (fd < 0)
            fd = open("/dev/null", O_RDWR);
        high[i] = fcntl(fd, F_DUPFD_CLOEXEC, SAFE_FD);
        targets[i] = spec->fds[i].target;
        if (high[i] < 0)
            return -errno;
    }
    for (int std = 0; std < 3; std++) {
        bool named = false;
        for (size_t i = 0; i < spec->n_fds; i++)
            named |= targets[i] == std;
        if (named)
            continue;
        high[n] = std == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                           : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, SAFE_FD);
        if (high[n] < 0)
            high[n] = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (high[n] >= 0 && high[n] < 3) /* our own std fds may be closed */
            high[n] = fcntl(high[n], F_DUPFD_CLOEXEC, SAFE_FD);
        targets[n++] = std;
    }
    for (size_t i = 0; i < n; i++)
        if (dup2(high[i], targets[i]) < 0)
            return -errno;
    /* All but the targets and the pipe that tells of exec's failure are closed by exec. */
    if (syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) < 0)
        return -errno;
    for (size_t i = 0; i < n; i++)
        if (targets[i] != error_fd && fcntl(targets[i], F_SETFD, 0) < 0)
            return -errno;
    return 0;
}

/* In the parent's memory (see begin()): changes nothing of it, takes no lock, does not return. */
static _Noreturn void in_child(const struct ev_child_spec *spec, pid_t parent, int error_fd)
{
    int r = 0;

    reset_signals();
    if (spec->new_session && setsid() < 0)
        r = -errno;
    if (r == 0 && chdir(spec->dir ? spec->dir : "/") < 0)
        r = -errno;
    if (r == 0)
        r = place_fds(spec, error_fd);
    if (r == 0 && spec->death_signal && !spec->parent_exits_first) {
        if (prctl(PR_SET_PDEATHSIG, spec->death_signal, 0, 0, 0) < 0)
            r = -errno;
        if (getppid() != parent)
            _exit(0);
    }
    if (r == 0) {
        char *const *argv = (char *const *)(uintptr_t)spec->argv;
        if (spec->envp)
            execvpe(spec->path, argv, (char *const *)(uintptr_t)spec->envp);
        else
            execvp(spec->path, argv);
        r = -errno;
    }
    if (write(error_fd, &r, sizeof r) < 0)
        _exit(126);
    _exit(127);
}

/* We wait for exec or its failure anyway; with vfork(2) our memory is not copied for that, which
 * costs more than all the rest. A frame of its own, as the child leaves its traces in it. */
__attribute__((noinline)) static pid_t begin(const struct ev_child_spec *spec, int error_fd)
{
    pid_t parent = getpid(), pid = vfork();

    if (pid == 0)
        in_child(spec, parent, error_fd);
    return pid;
}

static void on_pidfd(void *arg, unsigned events)
{
    struct ev_child *c = arg;
    int status = -1;

    c->io = ev_io_free(c->io);
    if (c->ours) {
        while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    c->pid = -1;
    c->fn(c->arg, status);
}

int ev_child_adopt(struct ev_loop *loop, int pidfd, pid_t pid, ev_child_fn *fn, void *arg,
                   struct ev_child **ret_child)
{
    struct ev_child *c = calloc(1, sizeof *c);

    if (!c) {
        fd_close(pidfd);
        return -ENOMEM;
    }
    *c = (struct ev_child){.pidfd = pidfd, .pid = pid, .fn = fn, .arg = arg};
    int r = ev_io_new(loop, pidfd, EV_IO_IN, on_pidfd, c, &c->io);
    if (r < 0) {
        ev_child_free(c);
        return r;
    }
    *ret_child = c;
    return 0;
}

/* Waits for exec (the pipe closes) or its error. */
static int exec_result(int fd)
{
    int r = 0;
    ssize_t n;

    do
        n = read(fd, &r, sizeof r);
    while (n < 0 && errno == EINTR);
    return n == sizeof r ? r : 0;
}

int ev_child_spawn(struct ev_loop *loop, const struct ev_child_spec *spec, ev_child_fn *fn,
                   void *arg, struct ev_child **ret_child, struct qvd_error *err)
{
    int pipe_fds[2];
    sigset_t all, old;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return qvd_error_errno(err, errno, "cannot start %s", spec->path);
    _cleanup_(close_p) int read_fd = pipe_fds[0], write_fd = -EBADF;
    /* Above every target, so that placing the fds does not close it. */
    write_fd = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, SAFE_FD);
    close(pipe_fds[1]);
    if (write_fd < 0)
        return qvd_error_errno(err, errno, "cannot start %s", spec->path);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old); /* no handler of ours runs in the child */
    pid_t pid = begin(spec, write_fd);
    int saved = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    write_fd = fd_close(write_fd);
    if (pid < 0)
        return qvd_error_errno(err, saved, "cannot start %s", spec->path);
    int r = exec_result(read_fd);
    int pidfd = r < 0 ? -1 : pidfd_open(pid, 0);
    if (r < 0 || pidfd < 0) {
        if (r == 0) {
            r = -errno;
            kill(pid, SIGKILL);
        }
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return qvd_error_errno(err, r, "cannot start %s", spec->path);
    }
    r = ev_child_adopt(loop, pidfd, pid, fn, arg, ret_child);
    if (r < 0) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return qvd_error_errno(err, r, "cannot watch %s", spec->path);
    }
    (*ret_child)->ours = true;
    return 0;
}

pid_t ev_child_pid(const struct ev_child *c)
{
    return c->pid;
}

int ev_child_pidfd(const struct ev_child *c)
{
    return c->pidfd;
}

int ev_child_kill(struct ev_child *c, int signo)
{
    if (c->pid < 0)
        return -ESRCH;
    return pidfd_send_signal(c->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

struct ev_child *ev_child_free(struct ev_child *c)
{
    if (c) {
        ev_io_free(c->io);
        fd_close(c->pidfd);
        free(c);
    }
    return NULL;
}

const char *ev_child_status_text(int status, char *dst, size_t size)
{
    if (status == -1)
        snprintf(dst, size, "unknown end");
    else if (WIFSIGNALED(status))
        snprintf(dst, size, "signal %d", WTERMSIG(status));
    else
        snprintf(dst, size, "exit %d", WEXITSTATUS(status));
    return dst;
}
