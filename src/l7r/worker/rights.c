// SPDX-License-Identifier: GPL-3.0-or-later
/* What a worker may still do once it has begun. */
#include <sys/syscall.h>
#include <time.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "config.h"
#include "l7r/worker/worker-internal.h"

#define CHROOT_DIR QVD_RUNDIR "/empty"

static const int own_syscalls[] = {SYS_accept4, SYS_pread64, SYS_dup, -1};

int worker_enter_sandbox(const char *user)
{
    int all[128];
    size_t n = 0;
    struct qvd_error err = {0};

    for (const int *s = sandbox_loop_syscalls; *s != -1 && n < ARRAY_SIZE(all) - 8; s++)
        all[n++] = *s;
    for (const int *s = own_syscalls; *s != -1; s++)
        all[n++] = *s;
    all[n] = -1;
    tzset();
    const struct sandbox_spec spec = {.user = user, .chroot_dir = CHROOT_DIR, .syscalls = all};
    int r = sandbox_enter(&spec, &err);
    if (r < 0)
        log_error("%s", err.text);
    return r;
}
