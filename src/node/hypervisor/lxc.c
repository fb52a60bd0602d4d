// SPDX-License-Identifier: GPL-3.0-or-later
/* Containers: each under a qvd-guard of its own, which outlives us. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "ev/child.h"
#include "node/hypervisor/lxc-config.h"
#include "node/node-internal.h"
#include "node/run.h"

/* How long the guard has to end its VM by force before it is killed itself. */
#define GUARD_KILL_MS 5000

struct lxc {
    struct node_vm *vm;
    struct ev_child *guard;
    struct ev_io *report_io, *ready_io;
    int report, ready;
    struct ev_timer *kill_timer;
    bool started, killed;
    struct ev_deferred end;
    int status;
};

static void close_report(struct lxc *l)
{
    l->report_io = ev_io_free(l->report_io);
    l->report = fd_close(l->report);
}

static void close_ready(struct lxc *l)
{
    l->ready_io = ev_io_free(l->ready_io);
    l->ready = fd_close(l->ready);
}

static void lxc_free(struct lxc *l)
{
    if (!l)
        return;
    close_report(l);
    close_ready(l);
    ev_deferred_cancel(&l->end);
    ev_timer_free(l->kill_timer);
    ev_child_free(l->guard);
    free(l);
}

/* How it ended: the guard's record, or its absence. */
static void tell_end(void *arg)
{
    struct lxc *l = arg;
    struct node_vm *vm = l->vm;
    struct node *n = node_vm_node(vm);
    char text[256], how[32];
    enum node_vm_end end;
    bool dirty = false;

    if (run_exit_read(n->s.run_dir, node_vm_id(vm), &end, text) < 0) {
        end = l->killed ? NODE_END_KILLED : l->started ? NODE_END_CRASHED : NODE_END_FAILED;
        snprintf(text, sizeof text, "its guard ended by %s",
                 ev_child_status_text(l->status, how, sizeof how));
        dirty = true;
    } else if (end == NODE_END_FAILED) {
        size_t len = strlen(text);
        (void)!snprintf(text + len, sizeof text - len, " (%s/lxc/qvd-%llu.log)", n->s.log_dir,
                        (unsigned long long)node_vm_id(vm));
    }
    node_vm_driver_ended(vm, end, end == NODE_END_FAILED ? -EIO : 0, text, dirty);
}

static void on_guard_gone(void *arg, int status)
{
    struct lxc *l = arg;

    l->status = status;
    ev_defer(node_vm_node(l->vm)->loop, &l->end);
}

static void on_report(void *arg, unsigned events)
{
    struct lxc *l = arg;
    char text[64];
    ssize_t n = read(l->report, text, sizeof text - 1);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    close_report(l);
    if (n <= 0 || l->started)
        return;
    text[n] = '\0';
    if (str_starts(text, "started\n")) {
        l->started = true;
        node_vm_driver_started(l->vm);
    }
}

/* Anything written means the same; the bytes are a stranger's and are not looked at. */
static void on_ready(void *arg, unsigned events)
{
    struct lxc *l = arg;

    close_ready(l);
    node_vm_driver_ready(l->vm);
}

static void on_kill_timeout(void *arg)
{
    struct lxc *l = arg;

    if (l->guard)
        (void)ev_child_kill(l->guard, SIGKILL);
}

static must_check int lxc_new(struct node_vm *vm, struct lxc **ret)
{
    struct lxc *l = calloc(1, sizeof *l);

    if (!l)
        return -ENOMEM;
    *l = (struct lxc){.vm = vm, .report = -EBADF, .ready = -EBADF};
    ev_deferred_init(&l->end, tell_end, l);
    if (ev_timer_new(node_vm_node(vm)->loop, on_kill_timeout, l, &l->kill_timer) < 0) {
        free(l);
        return -ENOMEM;
    }
    *ret = l;
    return 0;
}

static must_check int write_config(const struct node *n, const struct node_vm_spec *s,
                                   const char *run_dir)
{
    char dir[224], path[256], guard[256], log[256], console[256], port[16], gateway[16];
    char cgroup[64], seccomp[256];
    unsigned long long id = s->id;
    struct stat st;
    struct buf text;

    if (str_format(dir, sizeof dir, "%s/qvd-%llu", n->s.lxc_dir, id) < 0 ||
        str_format(path, sizeof path, "%s/config", dir) < 0 ||
        str_format(guard, sizeof guard, "%s/qvd-guard", n->s.libexec_dir) < 0 ||
        str_format(seccomp, sizeof seccomp, "%s/lxc.seccomp", n->s.data_dir) < 0 ||
        str_format(log, sizeof log, "%s/lxc/qvd-%llu.log", n->s.log_dir, id) < 0 ||
        str_format(console, sizeof console, "%s/qvd-%llu.console", n->s.captures, id) < 0 ||
        str_format(port, sizeof port, "qvd%llu", id) < 0 ||
        str_format(cgroup, sizeof cgroup, "qvd%s-%llu", n->cgroup_mark, id) < 0)
        return -ENAMETOOLONG;
    struct lxc_config c = {
        .vm = s->id,
        .run_dir = run_dir,
        .guard = guard,
        .log_file = log,
        .console = n->s.console_log ? console : NULL,
        .seccomp = seccomp,
        .cgroup = cgroup,
        .cgroup_version = n->cgroup,
        .idmap = n->s.idmap_base,
        .own_home = s->own_home,
        .apparmor = stat("/sys/kernel/security/apparmor", &st) == 0,
        .limits = {.memory = (uint64_t)s->memory_mb << 20,
                   .pids = n->s.pids_max,
                   .cpu_percent = n->s.cpu_max,
                   .swap_limit = n->swap_limit},
        .bridge = n->net.bridge,
        .port = port,
        .mac = s->mac,
        .ip = s->ip,
        .gateway = net_ip4_format(n->net.gateway, gateway),
        .prefix = n->net.prefix,
    };
    buf_init(&text, 0);
    (void)unlink(log); /* of this run only */
    int r = lxc_config_write(&c, &text);
    if (r == 0)
        r = fs_mkdirs(dir, 0711);
    if (r == 0)
        r = fs_write_passing(path, text.data, text.len, 0600);
    buf_done(&text);
    return r;
}

/* Where a guard finds what the guest wrote, wherever that is kept. */
static must_check int link_console(const struct node *n, const struct node_vm_spec *s,
                                   const char *run_dir)
{
    char console[256], path[256];

    if (str_format(path, sizeof path, "%s/console", run_dir) < 0 ||
        str_format(console, sizeof console, "%s/qvd-%llu.console", n->s.captures,
                   (unsigned long long)s->id) < 0)
        return -ENAMETOOLONG;
    (void)unlink(path);
    return n->s.console_log && symlink(console, path) < 0 ? -errno : 0;
}

static must_check int write_resolv(const struct node *n, const char *run_dir)
{
    char path[256], word[64], gateway[16];
    const char *list = *n->s.dns_server ? n->s.dns_server : net_ip4_format(n->net.gateway, gateway);
    struct buf text;
    int r = str_format(path, sizeof path, "%s/resolv.conf", run_dir);

    buf_init(&text, 4096);
    if (r == 0 && *n->s.domain)
        r = buf_printf(&text, "search %s\n", n->s.domain);
    while (r == 0 && *(list += strspn(list, ", \t"))) {
        size_t len = strcspn(list, ", \t");
        r = str_copy_n(word, sizeof word, list, len);
        if (r == 0)
            r = buf_printf(&text, "nameserver %s\n", word);
        list += len;
    }
    if (r == 0)
        r = fs_write_passing(path, text.data, text.len, 0644);
    buf_done(&text);
    return r;
}

/* The FIFO by which the VM says that its agent listens: written by the container's root alone. */
static must_check int make_ready(struct lxc *l, const char *run_dir, uint32_t owner)
{
    char path[256];
    int r = str_format(path, sizeof path, "%s/ready", run_dir);

    if (r < 0)
        return r;
    (void)unlink(path);
    if (mkfifo(path, 0200) < 0 || chown(path, owner, owner) < 0)
        return -errno;
    l->ready = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (l->ready < 0)
        return -errno;
    return ev_io_new(node_vm_node(l->vm)->loop, l->ready, EV_IO_IN, on_ready, l, &l->ready_io);
}

/* A pipe that holds the secret: it is never in argv, environment or a file of the host. */
static must_check int secret_pipe(const uint8_t *secret)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    int r = fs_write_all(fds[1], secret, NODE_SECRET_LEN);
    close(fds[1]);
    if (r < 0)
        close(fds[0]);
    return r < 0 ? r : fds[0];
}

static must_check int spawn_guard(struct lxc *l, const char *run_dir, struct qvd_error *err)
{
    struct node *n = node_vm_node(l->vm);
    const struct node_vm_spec *s = node_vm_spec_of(l->vm);
    unsigned long long id = s->id, di = s->di_id, user = s->user_id;
    char guard[256], vm[24], base[512], overlay[512], home[512], idmap[16], cgroup[64];
    char gateway[16];
    const char *argv[32];
    size_t a = 0;
    int report[2];

    if (str_format(guard, sizeof guard, "%s/qvd-guard", n->s.libexec_dir) < 0 ||
        str_format(vm, sizeof vm, "%llu", id) < 0 ||
        str_format(base, sizeof base, "%s/%s", n->s.basefs, s->image) < 0 ||
        str_format(overlay, sizeof overlay, "%s/%llu-%llu-overlayfs", n->s.overlayfs, di, id) < 0 ||
        str_format(home, sizeof home, "%s/%llu-%llu-homefs", n->s.homefs, id, user) < 0 ||
        str_format(idmap, sizeof idmap, "%u", n->s.idmap_base) < 0 ||
        str_format(cgroup, sizeof cgroup, "qvd%s-%llu", n->cgroup_mark, id) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "a path of the storage is too long");
    const char *const fixed[] = {
        guard,         "--vm",        vm,       "--run",       run_dir,
        "--lxc",       n->s.lxc_dir,  "--base", base,          "--idmap",
        idmap,         "--cgroup",    cgroup,   "--cgroup-fs", n->s.cgroup_dir,
        "--lxc-start", n->s.lxc_start};
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        argv[a++] = fixed[i];
    if (s->use_overlay) {
        argv[a++] = "--overlay";
        argv[a++] = overlay;
        if (!s->persistent)
            argv[a++] = "--fresh";
    }
    if (s->own_home) {
        argv[a++] = "--home";
        argv[a++] = home;
    }
    argv[a++] = "--announce";
    argv[a++] = net_ip4_format(n->net.gateway, gateway);
    argv[a] = NULL;
    _cleanup_(close_p) int secret = secret_pipe(s->secret);
    if (secret < 0 || pipe2(report, O_CLOEXEC) < 0)
        return qvd_error_errno(err, secret < 0 ? secret : errno, "cannot make pipes");
    l->report = report[0];
    _cleanup_(close_p) int theirs = report[1];
    struct ev_child_fd fds[] = {
        {secret, 3},
        {theirs, 4}
    };
    struct ev_child_spec spec = {.path = guard,
                                 .argv = argv,
                                 .fds = fds,
                                 .n_fds = ARRAY_SIZE(fds),
                                 .new_session = true,
                                 .parent_exits_first = true};
    int r = fs_set_nonblock(l->report);
    if (r == 0)
        r = ev_io_new(n->loop, l->report, EV_IO_IN, on_report, l, &l->report_io);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot watch the guard");
    return ev_child_spawn(n->loop, &spec, on_guard_gone, l, &l->guard, err);
}

static int start(struct node_vm *vm, struct qvd_error *err)
{
    struct node *n = node_vm_node(vm);
    const struct node_vm_spec *s = node_vm_spec_of(vm);
    char run_dir[256];
    struct lxc *l;
    int r = lxc_new(vm, &l);

    if (r == 0) {
        *node_vm_driver_data(vm) = l;
        r = run_path(n->s.run_dir, s->id, NULL, run_dir);
    }
    if (r == 0)
        r = write_config(n, s, run_dir);
    if (r == 0)
        r = link_console(n, s, run_dir);
    if (r == 0)
        r = write_resolv(n, run_dir);
    if (r == 0)
        r = make_ready(l, run_dir, n->s.idmap_base);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot write the settings of its container");
    return spawn_guard(l, run_dir, err);
}

static int adopt(struct node_vm *vm, int pidfd, int pid, struct qvd_error *err)
{
    struct lxc *l;
    int r = lxc_new(vm, &l);

    if (r < 0) {
        fd_close(pidfd);
        return qvd_error_errno(err, r, "cannot adopt it");
    }
    *node_vm_driver_data(vm) = l;
    l->started = true;
    r = ev_child_adopt(node_vm_node(vm)->loop, pidfd, pid, on_guard_gone, l, &l->guard);
    return r < 0 ? qvd_error_errno(err, r, "cannot watch its guard") : 0;
}

static int term(struct node_vm *vm)
{
    struct lxc *l = *node_vm_driver_data(vm);

    return l && l->guard ? ev_child_kill(l->guard, SIGTERM) : -ESRCH;
}

static int kill_it(struct node_vm *vm)
{
    struct lxc *l = *node_vm_driver_data(vm);

    if (!l || !l->guard)
        return -ESRCH;
    l->killed = true;
    if (!ev_timer_armed(l->kill_timer))
        ev_timer_arm(l->kill_timer, GUARD_KILL_MS);
    return ev_child_kill(l->guard, SIGQUIT);
}

static int pid_of(const struct node_vm *vm)
{
    const struct lxc *l = *node_vm_driver_data((struct node_vm *)(uintptr_t)vm);
    int pid = l && l->guard ? ev_child_pid(l->guard) : 0;

    return pid > 0 ? pid : 0;
}

static void forget(struct node_vm *vm)
{
    lxc_free(*node_vm_driver_data(vm));
    *node_vm_driver_data(vm) = NULL;
}

const struct hypervisor hypervisor_lxc = {
    .name = "lxc",
    .has_image = true,
    .has_port = true,
    .start = start,
    .adopt = adopt,
    .term = term,
    .kill = kill_it,
    .pid = pid_of,
    .forget = forget,
};
