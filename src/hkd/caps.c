// SPDX-License-Identifier: GPL-3.0-or-later
/* Bounded rights: what a node's work never needs is given up at start, for hkd and all its children
 * (guards, lxc-start, dnsmasq). A container's own root has the rights of its user namespace only,
 * which the kernel makes full again for that namespace. */
#include <linux/capability.h>

#include "base/caps.h"
#include "hkd/hkd-internal.h"

/* Each with who needs it. No no-new-privs here: containers would inherit it and lose their setuid
 * programs. */
static const int kept[] = {
    CAP_CHOWN,            /* homes and overlays of the containers' root */
    CAP_DAC_OVERRIDE,     /* the same */
    CAP_DAC_READ_SEARCH,  /* idmapped mounts of images */
    CAP_FOWNER,           /* the same */
    CAP_FSETID,           /* unpacking keeps setgid */
    CAP_KILL,             /* guests' init has a foreign uid */
    CAP_SETGID,           /* qvd-rpc, qvd-unpack and dnsmasq change their user */
    CAP_SETUID,           /* the same */
    CAP_SETPCAP,          /* they bound themselves; LXC drops rights */
    CAP_SETFCAP,          /* unpacking keeps files' capabilities; idmaps */
    CAP_NET_BIND_SERVICE, /* dnsmasq: 53, 67 */
    CAP_NET_ADMIN,        /* nftables, ports of the bridge, neighbours */
    CAP_NET_RAW,          /* dnsmasq looks whether an address is taken */
    CAP_SYS_CHROOT,       /* qvd-rpc, qvd-unpack */
    CAP_SYS_PTRACE,       /* pidfds and /proc of guests */
    CAP_SYS_ADMIN,        /* mounts, namespaces, cgroups */
    CAP_SYS_NICE,         /* CPU shares */
    CAP_SYS_RESOURCE,     /* limits */
    CAP_MKNOD,            /* LXC's console devices */
    CAP_IPC_LOCK,         /* LXC's and QEMU's memory limits */
    -1,
};

int caps_bound(struct qvd_error *err)
{
    return caps_keep(kept, err);
}
