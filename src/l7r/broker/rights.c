// SPDX-License-Identifier: GPL-3.0-or-later
/* What the broker may do: dial, speak with the database and with its channels. */
#include <sys/syscall.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "l7r/broker/broker-internal.h"

/* Beside what every loop of ours needs. */
static const int own_syscalls[] = {
    /* the loop is made after it */
    SYS_epoll_create1, SYS_pipe2, SYS_eventfd2,
    /* dialling into VMs, libpq */
    SYS_socket, SYS_connect, SYS_bind, SYS_socketpair, SYS_ioctl, SYS_dup, SYS_sendmmsg,
    /* libpq and OpenSSL beneath it: names, certificates, who we are */
    SYS_openat, SYS_access, SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_stat, SYS_statx,
    SYS_getdents64, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getppid, SYS_uname,
    SYS_sysinfo, SYS_prlimit64,
    /* names are looked up in a thread */
    SYS_clone, SYS_clone3, SYS_sched_getaffinity,
    /* settings come in memory files */
    SYS_pread64, SYS_memfd_create, -1};

int broker_enter_sandbox(const char *user)
{
    int all[160];
    size_t n = 0;
    struct qvd_error err = {0};

    for (const int *s = sandbox_loop_syscalls; *s != -1 && n < ARRAY_SIZE(all) - 40; s++)
        all[n++] = *s;
    for (const int *s = own_syscalls; *s != -1 && n < ARRAY_SIZE(all) - 1; s++)
        all[n++] = *s;
    all[n] = -1;
    const struct sandbox_spec spec = {.user = user, .syscalls = all};
    int r = sandbox_enter(&spec, &err);
    if (r < 0)
        log_error("%s", err.text);
    return r;
}
