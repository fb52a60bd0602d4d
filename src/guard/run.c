// SPDX-License-Identifier: GPL-3.0-or-later
/* The life of one container: lxc-start as our child, the orders TERM (power off) and QUIT (force),
 * and the record of its end. LXC tells us by its hooks, through a FIFO, the first process (see
 * node/hypervisor/lxc-config.c) and whether a reboot was asked for. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "guard/guard.h"

/* How long lxc-start has to end after its container was killed, ms. */
#define LXC_END_MS 2000

struct run {
    struct guard *g;
    int signals, hook;
    pid_t lxc, init;
    int init_fd;
    int lxc_status;
    bool lxc_gone, reboot, term, kill, started;
    int64_t kill_lxc_at; /* clock_ms(); 0: not now */
};

#define ID(run) (unsigned long long)(run)->g->vm

static must_check int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Opened for both ways: it then never tells of an end. */
static must_check int open_hook(const struct guard *g)
{
    char path[256];

    if (str_format(path, sizeof path, "%s/hook", g->run_dir) < 0)
        return -ENAMETOOLONG;
    (void)unlink(path);
    if (mkfifo(path, 0600) < 0)
        return -errno;
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void in_child(const struct guard *g, pid_t parent)
{
    char config[256];
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (str_format(config, sizeof config, "%s/%s/config", g->lxc_dir, g->name) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent ||
        dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(126);
    execl(g->lxc_start, "lxc-start", "-F", "-n", g->name, "-P", g->lxc_dir, "-f", config,
          (char *)NULL);
    log_error("[vm:%llu] cannot run %s: %s", (unsigned long long)g->vm, g->lxc_start,
              strerror(errno));
    _exit(127);
}

static void report(const char *text)
{
    (void)!write(GUARD_REPORT_FD, text, strlen(text));
}

static void on_first_process(struct run *r, const char *number)
{
    uint64_t pid;

    if (r->init > 0 || str_to_u64(number, INT32_MAX, &pid) < 0 || pid < 2)
        return;
    r->init_fd = pidfd_open((pid_t)pid, 0);
    if (r->init_fd < 0)
        return;
    r->init = (pid_t)pid;
    r->started = true;
    report("started\n");
    close(GUARD_REPORT_FD); /* there is nothing more to tell but the record */
    if (r->kill)
        (void)pidfd_send_signal(r->init_fd, SIGKILL, NULL, 0);
    else if (r->g->gateway) /* those who do not hear it learn the VM's place a little later */
        (void)!guard_announce(r->init, r->g->gateway);
}

static void on_hook(struct run *r)
{
    char line[128];
    ssize_t n = read(r->hook, line, sizeof line - 1);

    if (n <= 0)
        return;
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (str_starts(line, "start "))
        on_first_process(r, line + 6);
    else if (strcmp(line, "reboot") == 0)
        r->reboot = true;
}

/* What lxc-stop sends: systemd blocks SIGRTMIN+3 to read it, others power off by SIGPWR. */
static int power_signal(pid_t init)
{
    char path[64];
    _cleanup_(free_p) char *status = NULL;
    uint64_t bit = 1ULL << (SIGRTMIN + 3 - 1), mask = 0;

    if (str_format(path, sizeof path, "/proc/%d/status", (int)init) < 0 ||
        fs_read(path, 65536, &status, NULL) < 0)
        return SIGPWR;
    for (const char *key = "SigBlk:"; key; key = strcmp(key, "SigBlk:") == 0 ? "SigCgt:" : NULL) {
        const char *at = strstr(status, key);
        mask |= at ? strtoull(at + strlen(key), NULL, 16) : 0;
    }
    return mask & bit ? SIGRTMIN + 3 : SIGPWR;
}

static void on_term(struct run *r)
{
    r->term = true;
    if (r->init_fd >= 0) {
        (void)pidfd_send_signal(r->init_fd, power_signal(r->init), NULL, 0);
        return;
    }
    if (!r->lxc_gone) /* nothing of the guest has run yet */
        (void)kill(r->lxc, SIGKILL);
}

static void on_kill(struct run *r)
{
    r->kill = true;
    if (r->init_fd >= 0)
        (void)pidfd_send_signal(r->init_fd, SIGKILL, NULL, 0);
    r->kill_lxc_at = clock_ms() + (r->init_fd >= 0 ? LXC_END_MS : 0);
}

/* All of ours that have ended: lxc-start, and what became ours when it was killed. */
static void reap(struct run *r)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != r->lxc)
            continue;
        r->lxc_gone = true;
        r->lxc_status = status;
    }
}

static void on_signals(struct run *r)
{
    struct signalfd_siginfo info;

    while (read(r->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGTERM)
            on_term(r);
        else if (info.ssi_signo == SIGQUIT)
            on_kill(r);
    }
    reap(r);
}

static void wait_for_end(struct run *r)
{
    while (!r->lxc_gone) {
        struct pollfd fds[] = {
            {.fd = r->signals, .events = POLLIN},
            {.fd = r->hook,    .events = POLLIN},
        };
        int64_t left = r->kill_lxc_at ? r->kill_lxc_at - clock_ms() : -1;
        int n = poll(fds, ARRAY_SIZE(fds), r->kill_lxc_at && left < 0 ? 0 : (int)left);
        if (n < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            on_hook(r);
        if (fds[0].revents)
            on_signals(r);
        if (r->kill_lxc_at && clock_ms() >= r->kill_lxc_at && !r->lxc_gone) {
            r->kill_lxc_at = clock_ms() + LXC_END_MS;
            (void)kill(r->lxc, SIGKILL);
        }
    }
    on_hook(r); /* what was written just before */
}

/* One word first: hkd reads "END CODE TEXT". */
static void write_record(const struct run *r, const char *end, const char *text)
{
    char path[256], line[320];
    int len;

    if (str_format(path, sizeof path, "%s/exit", r->g->run_dir) < 0)
        return;
    len = snprintf(line, sizeof line, "%s %s\n", end, text);
    int e = fs_write_passing(path, line, (size_t)len < sizeof line ? (size_t)len : sizeof line - 1,
                             0600);
    if (e < 0)
        log_error("[vm:%llu] cannot write %s: %s", ID(r), path, strerror(-e));
}

/* Only its parent hears whether the first process powered off or was killed; LXC does not tell. */
static void tell_end(const struct run *r)
{
    bool ok = WIFEXITED(r->lxc_status) && WEXITSTATUS(r->lxc_status) == 0;

    if (r->kill)
        write_record(r, "killed", "ended by force");
    else if (r->reboot)
        write_record(r, "reboot", "the guest asked for a reboot");
    else if (!r->started && !r->term)
        write_record(r, "failed", "lxc-start could not run it");
    else if (ok || (r->term && !WIFSIGNALED(r->lxc_status)))
        write_record(r, "stopped", r->term ? "powered off as ordered" : "its first process ended");
    else
        write_record(r, "crashed",
                     WIFSIGNALED(r->lxc_status) ? "lxc-start was killed" : "lxc-start failed");
}

static must_check int begin(struct run *r, struct qvd_error *err)
{
    pid_t me = getpid();

    /* The orphans of a killed lxc-start come to us. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return qvd_error_errno(err, errno, "cannot become subreaper");
    r->signals = open_signals();
    if (r->signals < 0)
        return qvd_error_errno(err, r->signals, "cannot watch signals");
    r->hook = open_hook(r->g);
    if (r->hook < 0)
        return qvd_error_errno(err, r->hook, "cannot make the hooks' FIFO in %s", r->g->run_dir);
    int e = guard_storage_take(r->g, err);
    if (e == 0)
        e = guard_rootfs_mount(r->g, err);
    if (e < 0)
        return e;
    r->lxc = fork();
    if (r->lxc == 0)
        in_child(r->g, me);
    return r->lxc < 0 ? qvd_error_errno(err, errno, "cannot fork") : 0;
}

int guard_run(struct guard *g)
{
    struct run r = {.g = g, .signals = -EBADF, .hook = -EBADF, .init_fd = -EBADF};
    struct qvd_error err = {0};

    if (begin(&r, &err) < 0) {
        log_error("[vm:%llu] %s", (unsigned long long)g->vm, err.text);
        /* The overlay that could not be taken is another's: it stays. */
        if (g->overlay_fd >= 0)
            guard_storage_release(g, false);
        write_record(&r, "failed", err.text);
        return 1;
    }
    wait_for_end(&r);
    if (guard_cgroup_clean(g) < 0)
        log_warning("[vm:%llu] processes of its cgroup do not end", (unsigned long long)g->vm);
    reap(&r);
    guard_storage_release(g, guard_failed(g));
    tell_end(&r);
    return 0;
}

int guard_hook(const char *which, const char *run_dir)
{
    char path[256];
    const char *target = getenv("LXC_TARGET");

    if (strcmp(which, "stop") != 0 || !target || strcmp(target, "reboot") != 0)
        return 0;
    int r = str_format(path, sizeof path, "%s/hook", run_dir);
    _cleanup_(close_p) int fd = r < 0 ? r : open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "reboot\n", strlen("reboot\n"));
    return 1; /* LXC then stops instead of rebooting in place */
}
