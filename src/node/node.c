// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/node.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "node/node-internal.h"
#include "node/run.h"

/* /proc/self/ns/pid of a machine's own namespace (linux/proc_ns.h: PROC_PID_INIT_INO). */
#define FIRST_PID_NAMESPACE 4026531836UL

void node_log(struct node *n, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)!vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n->log)
        n->log(n->log_arg, text);
}

/* All texts of the settings, to copy and free them. */
static const char **text_of(struct node_settings *s, size_t i)
{
    const char **const table[] = {
        &s->nodename,    &s->run_dir, &s->lxc_dir,  &s->log_dir,   &s->data_dir,
        &s->libexec_dir, &s->images,  &s->basefs,   &s->overlayfs, &s->homefs,
        &s->cgroup_dir,  &s->bridge,  &s->ip_start, &s->netmask,   &s->gateway,
        &s->dns_server,  &s->domain,  &s->uplinks,  &s->nat_if,    &s->lxc_start,
        &s->dnsmasq,     &s->nft,     &s->ip,       &s->address,   &s->captures,
    };

    return i < ARRAY_SIZE(table) ? table[i] : NULL;
}

static must_check int copy_settings(const struct node_settings *from, struct node_settings *to)
{
    const char **text;
    int r = 0;

    *to = *from;
    for (size_t i = 0; (text = text_of(to, i)); i++) {
        *text = strdup(*text ? *text : "");
        if (!*text)
            r = -ENOMEM;
    }
    return r;
}

/* Root runs it: nobody else may have a hand in it. */
static must_check int check_program(const char *key, const char *path, const char *package,
                                    struct qvd_error *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return qvd_error_set(err, -ENOENT,
                             "%s: there is no %s; install it (package %s) or set %s to where it is",
                             key, path, package, key);
    if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXUSR))
        return qvd_error_set(err, -EACCES, "%s: %s is no program; set %s to one", key, path, key);
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return qvd_error_set(err, -EACCES,
                             "%s: others than root may change %s; mend it: chown root %s; chmod "
                             "go-w %s",
                             key, path, path, path);
    return 0;
}

static must_check int check_programs(const struct node *n, struct qvd_error *err)
{
    const struct {
        const char *key, *path, *package;
    } table[] = {
        {"command.lxc-start", n->s.lxc_start,                      "lxc"         },
        {"command.nft",       n->s.nft,                            "nftables"    },
        {"command.ip",        n->s.ip,                             "iproute2"    },
        {"command.dhcpd",     n->s.use_dhcp ? n->s.dnsmasq : NULL, "dnsmasq-base"},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(table); i++)
        if (table[i].path)
            r = check_program(table[i].key, table[i].path, table[i].package, err);
    return r;
}

static bool file_there(const char *dir, const char *name)
{
    char path[256];

    return str_format(path, sizeof path, "%s/%s", dir, name) == 0 && access(path, F_OK) == 0;
}

/* Which version bears the limits. Both may be mounted; v2 counts when it has the controllers. */
static must_check int find_cgroups(struct node *n, struct qvd_error *err)
{
    const char *dir = n->s.cgroup_dir;
    _cleanup_(free_p) char *controllers = NULL;
    char path[256];

    if (str_format(path, sizeof path, "%s/cgroup.controllers", dir) == 0 &&
        fs_read(path, 4096, &controllers, NULL) == 0 && strstr(controllers, "memory") &&
        strstr(controllers, "pids")) {
        n->cgroup = CGROUP_V2;
        n->swap_limit = true;
        return 0;
    }
    if (!file_there(dir, "memory/memory.limit_in_bytes") || !file_there(dir, "pids") ||
        !file_there(dir, "cpu") || !file_there(dir, "devices"))
        return qvd_error_set(err, -ENOENT,
                             "%s has neither cgroup v2 with memory and pids nor v1 with memory, "
                             "pids, cpu and devices; mount one of them",
                             dir);
    n->cgroup = CGROUP_V1;
    n->swap_limit = file_there(dir, "memory/memory.memsw.limit_in_bytes");
    if (!n->swap_limit)
        node_log(n, "this kernel does not limit swap: a VM may use swap beyond its memory "
                    "(boot with swapaccount=1)");
    return 0;
}

/* cgroups are the machine's: nodes in pid namespaces of their own (demo, tests) keep apart. */
static void mark_cgroups(struct node *n)
{
    struct stat st;

    if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != FIRST_PID_NAMESPACE)
        (void)!snprintf(n->cgroup_mark, sizeof n->cgroup_mark, "-%lu", (unsigned long)st.st_ino);
}

static must_check int make_dir(const char *dir, const char *sub, mode_t mode, struct qvd_error *err)
{
    char path[256];
    int r = str_format(path, sizeof path, "%s%s", dir, sub);

    if (r == 0)
        r = fs_mkdirs(path, mode);
    if (r == 0 && chmod(path, mode) < 0)
        r = -errno;
    return r < 0 ? qvd_error_errno(err, r, "cannot make %s%s", dir, sub) : 0;
}

/* Where LXC's child walks as the container's root: 0711. Trees with programs of others that run as
 * their owner: 0700. */
static must_check int make_dirs(const struct node *n, struct qvd_error *err)
{
    const struct node_settings *s = &n->s;
    const struct {
        const char *dir, *sub;
        mode_t mode;
    } table[] = {
        {s->run_dir,                          "",     0711},
        {s->run_dir,                          "/vm",  0711},
        {s->lxc_dir,                          "",     0711},
        {s->log_dir,                          "/lxc", 0700},
        {s->console_log ? s->captures : NULL, "",     0700},
        {s->basefs,                           "",     0700},
        {s->overlayfs,                        "",     0700},
        {s->homefs,                           "",     0700},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(table); i++)
        r = !table[i].dir ? 0 : make_dir(table[i].dir, table[i].sub, table[i].mode, err);
    return r;
}

static must_check int make_parts(struct node *n, struct qvd_error *err)
{
    char unpacker[256], dhcp_dir[256];
    struct image_settings images = {.images = n->s.images,
                                    .basefs = n->s.basefs,
                                    .unpacker = unpacker,
                                    .max_bytes = n->s.image_max_bytes,
                                    .max_entries = n->s.image_max_entries,
                                    .log = n->log,
                                    .log_arg = n->log_arg};
    struct dhcp_settings dhcp = {.plan = &n->net,
                                 .program = n->s.dnsmasq,
                                 .dir = dhcp_dir,
                                 .dns = n->s.dns_server,
                                 .domain = n->s.domain};
    int r = str_format(unpacker, sizeof unpacker, "%s/qvd-unpack", n->s.libexec_dir);

    if (r == 0)
        r = str_format(dhcp_dir, sizeof dhcp_dir, "%s/dhcp", n->s.run_dir);
    n->vms = map_new_u64();
    n->left = map_new_u64();
    n->records = map_new_u64();
    if (!n->vms || !n->left || !n->records)
        r = -ENOMEM;
    if (r == 0)
        r = batch_new(n->loop, n->s.nft, "-f", NULL, &n->nft);
    if (r == 0)
        r = batch_new(n->loop, n->s.ip, "-batch", NULL, &n->ip);
    if (r == 0)
        r = batch_new(n->loop, n->s.ip, "-force", "-batch", &n->links);
    if (r == 0)
        r = purge_new(n->loop, n->log, n->log_arg, &n->purge);
    if (r == 0)
        r = images_new(n->loop, &images, n->purge, &n->images);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot begin");
    return n->s.use_dhcp ? dhcp_new(n->loop, &dhcp, n->log, n->log_arg, &n->dhcp, err) : 0;
}

static void check_forward(struct node *n)
{
    _cleanup_(free_p) char *text = NULL;

    if (n->net.gateway == n->net.bridge_address &&
        fs_read("/proc/sys/net/ipv4/ip_forward", 16, &text, NULL) == 0 && *text == '0')
        node_log(n, "net.ipv4.ip_forward is 0: VMs reach this node only, not what lies beyond it");
}

static must_check int set_up(struct node *n, struct qvd_error *err)
{
    const struct node_settings *s = &n->s;
    int r = addr_plan_read(s->bridge, s->ip_start, s->netmask, s->gateway, s->uplinks, s->nat_if,
                           &n->net, err);

    if (r == 0)
        r = addr_bridge_check(&n->net, err);
    if (r == 0 && *s->address)
        r = addr_node_check(&n->net, s->nodename, s->address, err);
    if (r == 0)
        r = check_programs(n, err);
    if (r == 0)
        r = find_cgroups(n, err);
    if (r == 0)
        r = make_dirs(n, err);
    if (r < 0)
        return r;
    struct passwd *pw = getpwnam("qvd-broker");
    n->broker_uid = pw ? (int)pw->pw_uid : -1;
    if (!pw)
        node_log(n, "there is no user qvd-broker: no session can reach a VM from this node (run "
                    "systemd-sysusers)");
    mark_cgroups(n);
    check_forward(n);
    return make_parts(n, err);
}

int node_new(struct ev_loop *loop, const struct node_settings *settings, node_log_fn *log,
             void *arg, struct node **ret_node, struct qvd_error *err)
{
    struct node *n = calloc(1, sizeof *n);

    if (!n)
        return qvd_error_errno(err, ENOMEM, "cannot begin");
    n->loop = loop;
    n->log = log;
    n->log_arg = arg;
    int r = copy_settings(settings, &n->s);
    r = r < 0 ? qvd_error_errno(err, r, "cannot begin") : set_up(n, err);
    if (r < 0) {
        node_free(n);
        return r;
    }
    *ret_node = n;
    return 0;
}

static struct map *free_values(struct map *m)
{
    void *value;

    for (size_t at = 0; m && (value = map_next(m, &at, NULL));)
        free(value);
    return map_free(m);
}

struct node *node_free(struct node *n)
{
    const char **text;

    if (!n)
        return NULL;
    node_begin_free(n->begin);
    dhcp_free(n->dhcp);
    purge_free(n->purge);
    images_free(n->images);
    batch_free(n->nft);
    batch_free(n->ip);
    batch_free(n->links);
    map_free(n->vms);
    free_values(n->left);
    free_values(n->records);
    for (size_t i = 0; (text = text_of(&n->s, i)); i++)
        free((char *)(uintptr_t)*text);
    free(n);
    return NULL;
}

const char *node_cgroup_text(const struct node *n)
{
    return n->cgroup == CGROUP_V1 ? "cgroup v1" : "cgroup v2";
}

size_t node_running(const struct node *n, uint64_t *ret_ids, size_t max)
{
    size_t count = 0;
    uint64_t id;

    for (size_t at = 0; map_next(n->left, &at, &id); count++)
        if (count < max)
            ret_ids[count] = id;
    return count;
}

int node_lease_all(struct node *n, const struct node_lease *leases, size_t count)
{
    return n->dhcp ? dhcp_all(n->dhcp, leases, count) : 0;
}

int node_lease_set(struct node *n, const struct node_lease *lease)
{
    return n->dhcp ? dhcp_set(n->dhcp, lease) : 0;
}

int node_lease_remove(struct node *n, uint64_t vm_id)
{
    return n->dhcp ? dhcp_remove(n->dhcp, vm_id) : 0;
}
