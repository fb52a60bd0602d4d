// SPDX-License-Identifier: GPL-3.0-or-later
#include "unpack/jail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/caps.h"

/* A sanitizer looks for leaks at our end, with system calls and files of /proc that we have no need
 * of. Its build, which nobody installs, has a filter that only logs and can find back. */
#ifdef __SANITIZE_ADDRESS__
#define CAP_TO_RETURN CAP_SYS_CHROOT
#define OTHER_CALLS SCMP_ACT_LOG

static int outside;

static void go_back(void)
{
    if (fchdir(outside) < 0 || chroot(".") < 0)
        abort();
}

static must_check int find_back(void)
{
    outside = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return outside < 0 ? -errno : -atexit(go_back);
}
#else
#define CAP_TO_RETURN -1
#define OTHER_CALLS SCMP_ACT_KILL_PROCESS

static must_check int find_back(void)
{
    return 0;
}
#endif

static const int kept[] = {CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
                           CAP_SETFCAP, CAP_TO_RETURN,    -1};

/* Files, memory, time; no process, socket, mount, key or module. */
static const int allowed[] = {
    SCMP_SYS(read),         SCMP_SYS(pread64),
    SCMP_SYS(readv),        SCMP_SYS(write),
    SCMP_SYS(pwrite64),     SCMP_SYS(writev),
    SCMP_SYS(open),         SCMP_SYS(openat),
    SCMP_SYS(close),        SCMP_SYS(lseek),
    SCMP_SYS(fstat),        SCMP_SYS(stat),
    SCMP_SYS(lstat),        SCMP_SYS(newfstatat),
    SCMP_SYS(statx),        SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),      SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),      SCMP_SYS(rmdir),
    SCMP_SYS(unlink),       SCMP_SYS(unlinkat),
    SCMP_SYS(rename),       SCMP_SYS(renameat),
    SCMP_SYS(link),         SCMP_SYS(linkat),
    SCMP_SYS(symlink),      SCMP_SYS(symlinkat),
    SCMP_SYS(readlink),     SCMP_SYS(readlinkat),
    SCMP_SYS(mknod),        SCMP_SYS(mknodat),
    SCMP_SYS(chmod),        SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),     SCMP_SYS(chown),
    SCMP_SYS(lchown),       SCMP_SYS(fchown),
    SCMP_SYS(fchownat),     SCMP_SYS(utimensat),
    SCMP_SYS(futimesat),    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),    SCMP_SYS(access),
    SCMP_SYS(faccessat),    SCMP_SYS(faccessat2),
    SCMP_SYS(getdents64),   SCMP_SYS(setxattr),
    SCMP_SYS(lsetxattr),    SCMP_SYS(fsetxattr),
    SCMP_SYS(getxattr),     SCMP_SYS(lgetxattr),
    SCMP_SYS(fgetxattr),    SCMP_SYS(listxattr),
    SCMP_SYS(llistxattr),   SCMP_SYS(flistxattr),
    SCMP_SYS(chdir),        SCMP_SYS(fchdir),
    SCMP_SYS(umask),        SCMP_SYS(fcntl),
    SCMP_SYS(dup),          SCMP_SYS(syncfs),
    SCMP_SYS(fsync),        SCMP_SYS(mmap),
    SCMP_SYS(munmap),       SCMP_SYS(mremap),
    SCMP_SYS(mprotect),     SCMP_SYS(madvise),
    SCMP_SYS(brk),          SCMP_SYS(futex),
    SCMP_SYS(getrandom),    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),
    SCMP_SYS(getuid),       SCMP_SYS(geteuid),
    SCMP_SYS(getgid),       SCMP_SYS(getegid),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill),       SCMP_SYS(exit),
    SCMP_SYS(exit_group),   SCMP_SYS(restart_syscall),
};

static must_check int filter(void)
{
    scmp_filter_ctx ctx = seccomp_init(OTHER_CALLS);
    int r = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    /* File flags (chattr) are not restored; libarchive asks all the same. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl), 0);
    if (r == 0)
        r = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return r;
}

int jail_enter(const char *dir, uint64_t max_bytes, struct qvd_error *err)
{
    struct rlimit size = {max_bytes, max_bytes}, core = {0, 0};

    if (find_back() < 0 || chroot(dir) < 0 || chdir("/") < 0)
        return qvd_error_errno(err, errno, "cannot make %s the root", dir);
    if (setrlimit(RLIMIT_FSIZE, &size) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
        return qvd_error_errno(err, errno, "cannot set limits");
    int r = caps_keep(kept, err);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return qvd_error_errno(err, errno, "cannot set no-new-privs");
    r = filter();
    return r < 0 ? qvd_error_errno(err, r, "cannot load the system call filter") : 0;
}
