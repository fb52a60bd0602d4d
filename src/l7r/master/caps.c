// SPDX-License-Identifier: GPL-3.0-or-later
/* What the master never needs is given up at start, for it and all its children. */
#include <linux/capability.h>
#include <sys/prctl.h>

#include "base/caps.h"
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
    -1,
};

int caps_bound(struct qvd_error *err)
{
    int r = caps_keep(kept, err);

    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = qvd_error_errno(err, errno, "cannot set no-new-privs");
    return r;
}
