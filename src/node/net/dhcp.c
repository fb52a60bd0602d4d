// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/net/dhcp.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"
#include "ev/child.h"

/* Pause before a new start: doubled while it does not run for LONG_MS. */
#define PAUSE_MIN_MS 500
#define PAUSE_MAX_MS 30000
#define LONG_MS 60000
/* How long that of a former hkd may take to end. */
#define FORMER_END_MS 1000

struct dhcp {
    struct ev_loop *loop;
    char program[256], dir[128], config[160], hosts[160];
    struct map *known; /* vm id -> its line */
    struct ev_child *child;
    struct ev_timer *again;
    unsigned pause;
    int64_t started;
    node_log_fn *log;
    void *log_arg;
};

static must_check int say(struct buf *out, const char *option, const char *list)
{
    int r = buf_append_str(out, option);

    for (; r == 0 && *list; list++)
        if (!strchr(" \t", *list))
            r = buf_append(out, list, 1);
    return r < 0 ? r : buf_append_str(out, "\n");
}

int dhcp_config(const struct dhcp_settings *s, struct buf *out)
{
    char first[16], mask[16], gw[16], self[16];
    const struct addr_plan *p = s->plan;
    int r = buf_printf(out,
                       "# Written by qvd-hkd; changes are lost.\n"
                       "interface=%s\nexcept-interface=lo\nbind-dynamic\nlisten-address=%s\n"
                       "dhcp-range=%s,static,%s,infinite\ndhcp-option=option:router,%s\n"
                       "dhcp-hostsdir=%s/hosts\ndhcp-leasefile=%s/leases\ndhcp-lease-max=50000\n"
                       "dhcp-authoritative\nno-ping\nno-hosts\ndomain-needed\nbogus-priv\n"
                       "pid-file=\nlog-facility=-\nquiet-dhcp\n",
                       p->bridge, net_ip4_format(p->bridge_address, self),
                       net_ip4_format(p->first, first), net_ip4_format(p->mask, mask),
                       net_ip4_format(p->gateway, gw), s->dir, s->dir);

    if (r == 0)
        r = say(out, "dhcp-option=option:dns-server,", *s->dns ? s->dns : gw);
    if (r == 0 && *s->domain)
        r = say(out, "domain=", s->domain);
    return r;
}

static void note(struct dhcp *d, const char *fmt, ...) printf_like(2, 3);
static void note(struct dhcp *d, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (d->log)
        d->log(d->log_arg, text);
}

static must_check int host_path(const struct dhcp *d, uint64_t id, char *dst, size_t size)
{
    return str_format(dst, size, "%s/%llu", d->hosts, (unsigned long long)id);
}

/* What an earlier run wrote. dnsmasq reads each file that is written again beside what it has of
 * it, and complains of a duplicate: those that say the same are left as they are. */
static must_check int load(struct dhcp *d)
{
    DIR *dir = opendir(d->hosts);
    struct dirent *e;
    int r = dir ? 0 : -errno;

    while (r == 0 && (e = readdir(dir))) {
        char path[200], *line = NULL;
        uint64_t id;
        if (str_to_u64(e->d_name, INT64_MAX, &id) < 0 || host_path(d, id, path, sizeof path) < 0)
            continue;
        r = fs_read(path, 256, &line, NULL);
        if (r == 0)
            r = map_put_u64(d->known, id, line);
        if (r < 0)
            free(line);
    }
    if (dir)
        closedir(dir);
    return r;
}

int dhcp_new(struct ev_loop *loop, const struct dhcp_settings *s, node_log_fn *log, void *log_arg,
             struct dhcp **ret, struct qvd_error *err)
{
    struct buf text;
    struct dhcp *d = calloc(1, sizeof *d);

    if (!d)
        return qvd_error_errno(err, ENOMEM, "dnsmasq");
    *d = (struct dhcp){.loop = loop, .log = log, .log_arg = log_arg};
    buf_init(&text, 0);
    d->known = map_new_u64();
    int r = d->known ? dhcp_config(s, &text) : -ENOMEM;
    if (r == 0)
        r = str_copy(d->program, sizeof d->program, s->program);
    if (r == 0)
        r = str_copy(d->dir, sizeof d->dir, s->dir);
    if (r == 0)
        r = str_format(d->config, sizeof d->config, "%s/dnsmasq.conf", s->dir);
    if (r == 0)
        r = str_format(d->hosts, sizeof d->hosts, "%s/hosts", s->dir);
    if (r == 0)
        r = fs_mkdirs(d->hosts, 0755);
    if (r == 0)
        r = load(d);
    if (r == 0)
        r = fs_write_atomic(d->config, text.data, text.len, 0644);
    /* dnsmasq leaves root before it reads the hosts and writes the leases. */
    if (r == 0 && chmod(d->dir, 0755) < 0)
        r = -errno;
    buf_done(&text);
    if (r < 0) {
        dhcp_free(d);
        return qvd_error_errno(err, r, "cannot write the settings of dnsmasq in %s", s->dir);
    }
    *ret = d;
    return 0;
}

static void on_gone(void *arg, int status)
{
    struct dhcp *d = arg;
    char text[32];
    bool short_run = clock_ms() - d->started < LONG_MS;

    d->child = ev_child_free(d->child);
    d->pause = !short_run || !d->pause       ? PAUSE_MIN_MS
               : d->pause < PAUSE_MAX_MS / 2 ? d->pause * 2
                                             : PAUSE_MAX_MS;
    note(d, "dnsmasq ended (%s); it is started again in %u ms",
         ev_child_status_text(status, text, sizeof text), d->pause);
    ev_timer_arm(d->again, d->pause);
}

static void on_again(void *arg)
{
    struct dhcp *d = arg;
    struct qvd_error err;

    if (dhcp_start(d, &err) < 0) {
        note(d, "dnsmasq: %s", err.text);
        ev_timer_arm(d->again, PAUSE_MAX_MS);
    }
}

/* That of an hkd that was killed lives on: the kernel forgets whose death is a process's own when
 * it changes its user. It has our settings in its command line. */
static void end_former(struct dhcp *d, const char *option)
{
    DIR *proc = opendir("/proc");
    struct dirent *e;

    while (proc && (e = readdir(proc))) {
        char path[64];
        _cleanup_(free_p) char *line = NULL;
        size_t len = 0, name;
        uint64_t pid;

        if (str_to_u64(e->d_name, INT32_MAX, &pid) < 0 ||
            str_format(path, sizeof path, "/proc/%d/cmdline", (int)pid) < 0)
            continue;
        _cleanup_(close_p) int fd = pidfd_open((pid_t)pid, 0);
        if (fd < 0 || fs_read(path, 4096, &line, &len) < 0 || len == 0)
            continue;
        name = strlen(line) + 1;
        if (name >= len || !str_ends(line, "dnsmasq") ||
            strcmp(line + name, "--keep-in-foreground") != 0 ||
            name + strlen(line + name) + 1 >= len ||
            strcmp(line + name + strlen(line + name) + 1, option) != 0)
            continue;
        note(d, "dnsmasq of a former qvd-hkd (process %d) is ended", (int)pid);
        if (pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0) {
            struct pollfd gone = {.fd = fd, .events = POLLIN};
            (void)poll(&gone, 1, FORMER_END_MS);
        }
    }
    if (proc)
        closedir(proc);
}

int dhcp_start(struct dhcp *d, struct qvd_error *err)
{
    char option[180];
    const char *argv[] = {"dnsmasq", "--keep-in-foreground", option, NULL};
    struct ev_child_spec spec = {.path = d->program, .argv = argv, .death_signal = SIGKILL};
    int r = str_format(option, sizeof option, "--conf-file=%s", d->config);

    if (r == 0 && !d->again) {
        end_former(d, option);
        r = ev_timer_new(d->loop, on_again, d, &d->again);
    }
    if (r < 0)
        return qvd_error_errno(err, r, "dnsmasq");
    d->started = clock_ms();
    return ev_child_spawn(d->loop, &spec, on_gone, d, &d->child, err);
}

/* dnsmasq takes new and changed files by itself as soon as they are closed. */
static must_check int write_line(const struct dhcp *d, uint64_t id, const char *line)
{
    char path[200];

    if (host_path(d, id, path, sizeof path) < 0)
        return -ENAMETOOLONG;
    _cleanup_(close_p) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : fs_write_all(fd, line, strlen(line));
}

/* 1: it stood differently there, so that dnsmasq must read all again. */
static must_check int set(struct dhcp *d, const struct node_lease *l)
{
    char mac[18];
    uint32_t ip;
    char *old = map_get_u64(d->known, l->vm_id);

    if (addr_mac(l->mac, mac) < 0 || net_ip4_parse(l->ip, &ip) < 0)
        return -EINVAL;
    _cleanup_(free_p) char *line = str_printf("%s,%s\n", mac, l->ip);
    if (!line)
        return -ENOMEM;
    if (old && strcmp(old, line) == 0)
        return 0;
    int r = write_line(d, l->vm_id, line);
    if (r == 0)
        r = map_put_u64(d->known, l->vm_id, line);
    if (r < 0)
        return r;
    line = NULL;
    free(old);
    return old ? 1 : 0;
}

static void read_again(struct dhcp *d)
{
    if (d->child)
        (void)ev_child_kill(d->child, SIGHUP);
}

int dhcp_set(struct dhcp *d, const struct node_lease *lease)
{
    int r = set(d, lease);

    if (r > 0)
        read_again(d);
    return r < 0 ? r : 0;
}

static must_check int forget(struct dhcp *d, uint64_t id)
{
    char path[200];

    free(map_take_u64(d->known, id));
    if (host_path(d, id, path, sizeof path) < 0)
        return -ENAMETOOLONG;
    return unlink(path) < 0 ? -errno : 0;
}

int dhcp_remove(struct dhcp *d, uint64_t vm_id)
{
    int r = forget(d, vm_id);

    if (r == 0)
        read_again(d);
    return r == -ENOENT ? 0 : r;
}

int dhcp_all(struct dhcp *d, const struct node_lease *leases, size_t count)
{
    struct map *wanted = map_new_u64();
    DIR *dir = opendir(d->hosts);
    struct dirent *e;
    bool again = false;
    int r = wanted && dir ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < count; i++) {
        r = map_put_u64(wanted, leases[i].vm_id, d);
        if (r == 0)
            r = set(d, &leases[i]);
        again |= r > 0;
        r = r > 0 ? 0 : r;
    }
    while (r == 0 && dir && (e = readdir(dir))) {
        uint64_t id;
        if (str_to_u64(e->d_name, INT64_MAX, &id) < 0 || map_get_u64(wanted, id))
            continue;
        r = forget(d, id);
        again = true;
    }
    if (dir)
        closedir(dir);
    map_free(wanted);
    if (again)
        read_again(d);
    return r;
}

struct dhcp *dhcp_free(struct dhcp *d)
{
    size_t at = 0;

    if (!d)
        return NULL;
    if (d->child)
        (void)ev_child_kill(d->child, SIGTERM);
    ev_child_free(d->child);
    ev_timer_free(d->again);
    for (char *line; d->known && (line = map_next(d->known, &at, NULL));)
        free(line);
    map_free(d->known);
    free(d);
    return NULL;
}
