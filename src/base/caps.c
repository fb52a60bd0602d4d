// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/caps.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static bool is_kept(const int *kept, int cap)
{
    for (; *kept >= 0; kept++)
        if (*kept == cap)
            return true;
    return false;
}

int caps_keep_bounding(const int *kept, struct qvd_error *err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        /* EPERM: not root, so there is nothing to give up. */
        if (!is_kept(kept, cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return qvd_error_errno(err, errno, "cannot drop capability %d", cap);
    return 0;
}

int caps_keep_own(const int *kept, struct qvd_error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return qvd_error_errno(err, errno, "cannot read capabilities");
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int cap = 0; cap < 64; cap++) {
        if (is_kept(kept, cap))
            continue;
        data[cap / 32].effective &= ~(1u << cap % 32);
        data[cap / 32].permitted &= ~(1u << cap % 32);
    }
    data[0].inheritable = data[1].inheritable = 0;
    if (syscall(SYS_capset, &head, data) < 0)
        return qvd_error_errno(err, errno, "cannot give up capabilities");
    return 0;
}

int caps_keep(const int *kept, struct qvd_error *err)
{
    int r = caps_keep_bounding(kept, err);

    return r < 0 ? r : caps_keep_own(kept, err);
}
