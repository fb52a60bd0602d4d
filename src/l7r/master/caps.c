// SPDX-License-Identifier: GPL-3.0-or-later
/* What the master never needs is given up at start, for it and all its children. */
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "l7r/master/master-internal.h"

static const int kept[] = {
    CAP_SETUID,           /* children change their user */
    CAP_SETGID,           /* the same */
    CAP_SETPCAP,          /* they bound themselves */
    CAP_SYS_CHROOT,       /* workers and qvd-rpc enter an empty root */
    CAP_DAC_OVERRIDE,     /* that root is made; the key is read whoever owns it */
    CAP_KILL,             /* children have other users */
    CAP_NET_BIND_SERVICE, /* a port below 1024 */
    CAP_SYS_RESOURCE,     /* open files */
};

static bool is_kept(int cap)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (kept[i] == cap)
            return true;
    return false;
}

int caps_bound(struct qvd_error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return qvd_error_errno(err, errno, "capget");
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (is_kept(cap))
            continue;
        /* EPERM: not root, so there is nothing to give up. */
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return qvd_error_errno(err, errno, "dropping capability %d", cap);
        data[cap / 32].effective &= ~(1u << cap % 32);
        data[cap / 32].permitted &= ~(1u << cap % 32);
    }
    data[0].inheritable = data[1].inheritable = 0;
    if (syscall(SYS_capset, &head, data) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return qvd_error_errno(err, errno, "giving up capabilities");
    return 0;
}
