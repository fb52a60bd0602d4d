// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/sandbox.h"

#include <grp.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/caps.h"
#include "base/fs.h"

const int sandbox_loop_syscalls[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(dup3), /* a new target of log lines */
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(mprotect),
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(fcntl),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(lseek),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(rseq),
    SCMP_SYS(set_robust_list),
    -1,
};

/* A sanitizer looks for leaks and tells its reports with system calls and files of /proc that we
 * have no need of. Its build, which nobody installs, keeps its root and has a filter that only
 * logs. */
#ifdef __SANITIZE_ADDRESS__
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static must_check int load_filter(const int *syscalls)
{
    scmp_filter_ctx filter = seccomp_init(sanitized ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
    int r = filter ? 0 : -ENOMEM;

    for (const int *s = syscalls; r == 0 && *s != -1; s++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, *s, 0);
    if (r == 0)
        r = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return r;
}

/* Groups first and the user last: afterwards neither can be changed. */
static must_check int become(gid_t gid)
{
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0)
        return -errno;
    return 0;
}

int sandbox_enter(const struct sandbox_spec *spec, struct qvd_error *err)
{
    static const int none[] = {-1};
    const struct passwd *pw = NULL;
    int r;

    if (spec->user) {
        pw = getpwnam(spec->user);
        if (!pw)
            return qvd_error_set(err, -ENOENT, "system user %s is missing; run systemd-sysusers",
                                 spec->user);
        const struct group *gr = spec->group && *spec->group ? getgrnam(spec->group) : NULL;
        if (spec->group && *spec->group && !gr)
            return qvd_error_set(err, -ENOENT, "system group %s is missing", spec->group);
        r = become(gr ? gr->gr_gid : pw->pw_gid);
        if (r < 0)
            return qvd_error_errno(err, r, "cannot take the groups of %s", spec->user);
    }
    if (spec->chroot_dir && !sanitized) {
        r = fs_mkdirs(spec->chroot_dir, 0555);
        if (r < 0 || chroot(spec->chroot_dir) < 0 || chdir("/") < 0)
            return qvd_error_errno(err, r < 0 ? r : errno, "cannot enter %s", spec->chroot_dir);
    }
    if (!spec->keep_capabilities) {
        /* Before the change of user, which takes away the right to do it, and empties our own sets.
         */
        r = caps_keep_bounding(none, err);
        if (r < 0)
            return r;
    }
    if (pw && setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
        return qvd_error_errno(err, errno, "cannot become %s", spec->user);
    if (!spec->keep_capabilities) {
        r = caps_keep_own(none, err);
        if (r < 0)
            return r;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return qvd_error_errno(err, errno, "cannot set no-new-privs");
    if (spec->syscalls) {
        r = load_filter(spec->syscalls);
        if (r < 0)
            return qvd_error_errno(err, r, "cannot load the system call filter");
    }
    return 0;
}
