// SPDX-License-Identifier: GPL-3.0-or-later
/* What must be gone, and there, before nxagent starts. /tmp is everybody's: nothing in it is
 * followed or opened, what stands in the way is removed or given another name. */
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
#include "vma/agent.h"

#define PID_FILE QVD_RUNDIR "/vma/nxagent.pid"
#define SWEEP_MS 5000
#define SOCKETS "/tmp/.X11-unix"

/* unlink() takes a link for itself; a folder is moved out of the way as it is. */
static must_check int clear(const char *path)
{
    char name[9], aside[128];

    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    int r = random_alnum(name, sizeof name - 1);
    if (r == 0)
        r = str_format(aside, sizeof aside, "/tmp/.qvd-stale-%s", name);
    if (r == 0 && rename(path, aside) < 0)
        r = -errno;
    if (r == 0)
        log_warning("%s was in the way and is now %s", path, aside);
    return r;
}

/* nxagent runs as the user and may not make this folder itself. */
static must_check int make_sockets_dir(struct qvd_error *err)
{
    struct stat st;

    if (lstat(SOCKETS, &st) == 0 && (!S_ISDIR(st.st_mode) || st.st_uid != 0)) {
        int r = clear(SOCKETS);
        if (r < 0)
            return qvd_error_errno(err, r, SOCKETS " of uid %u cannot be removed",
                                   (unsigned)st.st_uid);
    }
    if (mkdir(SOCKETS, 01777) < 0 && errno != EEXIST)
        return qvd_error_errno(err, errno, "cannot make " SOCKETS);
    _cleanup_(close_p) int fd = open(SOCKETS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return qvd_error_errno(err, errno, "cannot open " SOCKETS);
    if (st.st_uid != 0)
        return qvd_error_set(err, -EPERM, SOCKETS " belongs to uid %u, not to root",
                             (unsigned)st.st_uid);
    if (fchmod(fd, 01777) < 0)
        return qvd_error_errno(err, errno, "cannot open " SOCKETS " to all");
    return 0;
}

/* Kept by a persistent overlay, or made by somebody who wants to be in the way, they make nxagent
 * refuse to start. */
int agent_sweep_display(unsigned display, struct qvd_error *err)
{
    char path[64];
    int r = make_sockets_dir(err);

    if (r < 0)
        return r;
    snprintf(path, sizeof path, "/tmp/.X%u-lock", display);
    r = clear(path);
    if (r == 0) {
        snprintf(path, sizeof path, SOCKETS "/X%u", display);
        r = clear(path);
    }
    return r < 0 ? qvd_error_errno(err, r, "%s cannot be removed", path) : 0;
}

void agent_make_runtime_dir(const struct user *u)
{
    char path[64];

    snprintf(path, sizeof path, "/run/user/%u", (unsigned)u->uid);
    if (fs_mkdirs("/run/user", 0755) < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST) ||
        lchown(path, u->uid, u->gid) < 0)
        log_warning("cannot make %s: %s, ignoring it", path, strerror(errno));
}

void agent_write_pid(pid_t pid)
{
    char text[32];

    snprintf(text, sizeof text, "%d\n", (int)pid);
    if (pid == 0)
        (void)unlink(PID_FILE);
    else if (fs_write_atomic(PID_FILE, text, strlen(text), 0644) < 0)
        log_warning("cannot write " PID_FILE ", ignoring it");
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
