// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/hypervisor/lxc-config.h"

#include <string.h>

/* How a limit is said to each version of cgroups: one row a limit. */
enum limit { MEMORY, SWAP, PIDS, CPU_WEIGHT, CPU_MAX, LIMIT_MAX };

#define CPU_PERIOD 100000

static const struct {
    enum limit limit;
    const char *v1, *v2;
} limit_table[] = {
    {MEMORY,     "memory.limit_in_bytes",       "memory.max"     },
    {SWAP,       "memory.memsw.limit_in_bytes", "memory.swap.max"},
    {PIDS,       "pids.max",                    "pids.max"       },
    {CPU_WEIGHT, "cpu.shares",                  "cpu.weight"     },
    {CPU_MAX,    "cpu.cfs_quota_us",            "cpu.max"        },
};

static must_check int write_limit(const struct lxc_config *c, size_t row, struct buf *out)
{
    bool v1 = c->cgroup_version == 1;
    const char *key = v1 ? limit_table[row].v1 : limit_table[row].v2;
    const char *prefix = v1 ? "lxc.cgroup." : "lxc.cgroup2.";
    unsigned long long quota = c->limits.cpu_percent * CPU_PERIOD / 100, value = 0;

    switch (limit_table[row].limit) {
    case MEMORY:
        value = c->limits.memory;
        break;
    case SWAP: /* v1 counts both together, v2 swap alone: none beyond the memory either way */
        if (v1 && !c->limits.swap_limit)
            return 0;
        value = v1 ? c->limits.memory : 0;
        break;
    case PIDS:
        value = c->limits.pids;
        break;
    case CPU_WEIGHT:
        value = v1 ? 1024 : 100;
        break;
    case CPU_MAX:
        if (quota == 0)
            return 0;
        if (!v1)
            return buf_printf(out, "%s%s = %llu %d\n", prefix, key, quota, CPU_PERIOD);
        value = quota;
        break;
    default:
        return -EINVAL;
    }
    return buf_printf(out, "%s%s = %llu\n", prefix, key, value);
}

/* What a container may open of the host's devices; it can make none (no mknod in its namespace). */
static const char *const devices[] = {
    "c 1:3 rwm",    /* null */
    "c 1:5 rwm",    /* zero */
    "c 1:7 rwm",    /* full */
    "c 1:8 rwm",    /* random */
    "c 1:9 rwm",    /* urandom */
    "c 5:0 rwm",    /* tty */
    "c 5:1 rwm",    /* console */
    "c 5:2 rwm",    /* ptmx */
    "c 136:* rwm",  /* pts */
    "c 10:229 rwm", /* fuse */
};

static must_check int write_devices(const struct lxc_config *c, struct buf *out)
{
    const char *prefix = c->cgroup_version == 1 ? "lxc.cgroup" : "lxc.cgroup2";
    int r = buf_printf(out, "%s.devices.deny = a\n", prefix);

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(devices); i++)
        r = buf_printf(out, "%s.devices.allow = %s\n", prefix, devices[i]);
    return r;
}

static must_check int write_cgroups(const struct lxc_config *c, struct buf *out)
{
    /* The guest's own root is one below, so that no limit lies within its reach. */
    int r = buf_printf(out,
                       "lxc.cgroup.dir.container = %s/vm\n"
                       "lxc.cgroup.dir.monitor = %s/monitor\n"
                       "lxc.cgroup.dir.monitor.pivot = %s/pivot\n"
                       "lxc.cgroup.dir.container.inner = guest\n",
                       c->cgroup, c->cgroup, c->cgroup);

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(limit_table); i++)
        r = write_limit(c, i, out);
    return r < 0 ? r : write_devices(c, out);
}

static must_check int write_mounts(const struct lxc_config *c, struct buf *out)
{
    int r =
        buf_printf(out,
                   "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed\n"
                   "lxc.mount.entry = %s/dev/secret dev/.qvd/secret none bind,ro,create=file 0 0\n"
                   "lxc.mount.entry = %s/ready dev/.qvd/ready none bind,create=file 0 0\n"
                   "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0\n"
                   "lxc.mount.entry = tmpfs tmp tmpfs nosuid,nodev,mode=1777 0 0\n"
                   "lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=0755 0 0\n",
                   c->run_dir, c->run_dir);

    if (r == 0 && c->own_home)
        r = buf_printf(out,
                       "lxc.mount.entry = %s/home home none bind,nosuid,nodev,create=dir 0 0\n",
                       c->run_dir);
    return r;
}

static must_check int write_net(const struct lxc_config *c, struct buf *out)
{
    return buf_printf(out,
                      "lxc.net.0.type = veth\n"
                      "lxc.net.0.link = %s\n"
                      "lxc.net.0.flags = up\n"
                      "lxc.net.0.name = eth0\n"
                      "lxc.net.0.veth.pair = %s\n"
                      "lxc.net.0.hwaddr = %s\n"
                      "lxc.net.0.ipv4.address = %s/%u\n"
                      "lxc.net.0.ipv4.gateway = %s\n"
                      "lxc.sysctl.net.ipv4.ping_group_range = 0 65535\n",
                      c->bridge, c->port, c->mac, c->ip, c->prefix, c->gateway);
}

/* Neither another line nor the end of a shell's word in quotes. */
static bool harmless(const char *s)
{
    return !s || !strpbrk(s, "\n\r'");
}

/* The hook at a start runs before the VM's first process. LXC gives it to a shell behind the word
 * "exec", so its first words are the shell's output, and it needs no other program. The bridge's
 * ports of VMs do not see each other: a second lock beside the firewall, and no start without it.
 * Then the guard hears who the first process is. */
int lxc_config_write(const struct lxc_config *c, struct buf *out)
{
    const char *const texts[] = {c->run_dir, c->guard,   c->log_file, c->console,
                                 c->cgroup,  c->seccomp, c->bridge,   c->port,
                                 c->mac,     c->ip,      c->gateway};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (!harmless(texts[i]))
            return -EINVAL;
    int r = buf_printf(out,
                       "# Written by qvd-hkd for this run of VM %llu; changes are lost.\n"
                       "lxc.uts.name = qvd-%llu\n"
                       "lxc.rootfs.path = dir:%s/root\n"
                       "lxc.init.cmd = /sbin/init\n"
                       "lxc.hook.version = 1\n"
                       "lxc.hook.start-host = 1<>'%s/hook'; "
                       "echo 1 >/sys/class/net/%s/brport/isolated && echo start $LXC_PID\n"
                       "lxc.hook.post-stop = %s --hook stop --run %s\n"
                       "lxc.idmap = u 0 %u 65536\n"
                       "lxc.idmap = g 0 %u 65536\n"
                       "lxc.autodev = 1\n"
                       "lxc.pty.max = 1024\n"
                       "lxc.tty.max = 0\n"
                       "lxc.cap.drop = audit_control audit_read block_suspend mac_admin "
                       "mac_override net_raw\n"
                       "lxc.cap.drop = sys_module sys_rawio sys_time syslog wake_alarm\n"
                       "%s"
                       "lxc.seccomp.profile = %s\n"
                       "lxc.log.level = WARN\n"
                       "lxc.log.file = %s\n"
                       "lxc.console.buffer.size = 64kB\n",
                       (unsigned long long)c->vm, (unsigned long long)c->vm, c->run_dir, c->run_dir,
                       c->port, c->guard, c->run_dir, c->idmap, c->idmap,
                       c->apparmor ? "" : "lxc.apparmor.profile = unconfined\n", c->seccomp,
                       c->log_file);
    /* Without a place for it, it is kept small, and for the time of the start. */
    if (r == 0 && !c->console)
        r = buf_printf(out,
                       "lxc.console.logfile = %s/console\n"
                       "lxc.console.size = 128kB\n",
                       c->run_dir);
    if (r == 0 && c->console)
        r = buf_printf(out,
                       "lxc.console.logfile = %s\n"
                       "lxc.console.size = 1MB\n"
                       "lxc.console.rotate = 1\n",
                       c->console);
    if (r == 0)
        r = write_mounts(c, out);
    if (r == 0)
        r = write_cgroups(c, out);
    return r < 0 ? r : write_net(c, out);
}
