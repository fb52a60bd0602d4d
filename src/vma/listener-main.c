// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-vma-listener: started by qvd-vma with its channel as descriptor 3 and the listening socket as
 * 4; gives up all rights before the first byte. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "config.h"
#include "vma/listener.h"
#include "wire/vma.h"

enum { MONITOR_FD = 3, SOCKET_FD = 4, SYSCALLS_MAX = 128 };

/* The loop's calls and accept4. */
static void make_filter(int syscalls[SYSCALLS_MAX])
{
    size_t n = 0;

    while (sandbox_loop_syscalls[n] != -1 && n < SYSCALLS_MAX - 2) {
        syscalls[n] = sandbox_loop_syscalls[n];
        n++;
    }
    syscalls[n++] = SYS_accept4;
    syscalls[n] = -1;
}

static int serve(const char *user)
{
    int syscalls[SYSCALLS_MAX];
    const struct sandbox_spec spec = {
        .user = user, .chroot_dir = QVD_RUNDIR "/empty", .syscalls = syscalls};
    struct listener *listener = NULL;
    struct ev_loop *loop = NULL;
    struct qvd_error err;

    make_filter(syscalls);
    int r = wire_vma_warm_up();
    if (r == 0)
        r = ev_loop_new(&loop);
    if (r == 0)
        r = fs_set_nonblock(MONITOR_FD);
    if (r == 0)
        r = fs_set_nonblock(SOCKET_FD);
    if (r == 0)
        r = listener_new(loop, MONITOR_FD, SOCKET_FD, &listener);
    if (r < 0) {
        log_error("cannot serve: %s", strerror(-r));
        return 1;
    }
    r = sandbox_enter(&spec, &err);
    if (r < 0)
        log_error("%s", err.text);
    int status = r < 0 ? 1 : ev_loop_run(loop);
    listener_free(listener);
    ev_loop_free(loop);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("qvd-vma-listener " QVD_VERSION);
        return 0;
    }
    if (argc != 2 || argv[1][0] == '-' || fcntl(MONITOR_FD, F_GETFD) < 0 ||
        fcntl(SOCKET_FD, F_GETFD) < 0) {
        fputs("usage: qvd-vma-listener USER\n"
              "Started by qvd-vma with its channel as descriptor 3 and a listening socket as 4.\n",
              stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    log_open("qvd-vma-listener");
    return serve(argv[1]);
}
