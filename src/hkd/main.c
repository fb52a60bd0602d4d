// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-hkd: the House Keeping Daemon of a node. Options, the lock against a second one, signals, and
 * the pieces put together. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "conf/main.h"
#include "hkd/hkd-internal.h"

static int check(void *arg, const struct conf *c, struct qvd_error *err)
{
    int r = conf_require(c, err, "nodename", NULL);

    return r < 0 ? r : limits_check(c, err);
}

/* Held until the process ends, however it ends. */
static int take_lock(const struct conf *c)
{
    const char *path = conf_str(c, "internal.hkd.lock.path");
    int fd, r = fs_mkdirs(conf_str(c, "path.run"), 0711);

    if (r < 0) {
        log_error("%s: %s", conf_str(c, "path.run"), strerror(-r));
        return r;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        r = -errno;
        log_error("%s: %s", path, strerror(errno));
        return r;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
        if (errno == EWOULDBLOCK)
            log_error("%s is locked: another qvd-hkd runs on this node", path);
        else
            log_error("%s: %s", path, strerror(errno));
        close(fd);
        return r;
    }
    return fd;
}

static void on_stop(void *arg, int signo)
{
    struct hkd *d = arg;

    log_info("%s: stopping", signo == SIGTERM ? "SIGTERM" : "SIGINT");
    host_stop(d->host, false);
}

static void on_hup(void *arg, int signo)
{
    struct hkd *d = arg;

    conf_main_reload(d->conf);
    askers_log(d->rpc);
    line_look(d->line);
    log_info("settings read again");
}

static void on_db(void *arg, bool up)
{
    struct hkd *d = arg;

    host_db_changed(d->host, up);
}

static void on_listening(void *arg)
{
    struct hkd *d = arg;

    host_listening(d->host);
}

static int open_db(struct hkd *d, struct qvd_error *err)
{
    struct db_options options = {.name = "qvd-hkd", .queue_max = 10000, .one_plan = true};
    struct db_target target;
    int r = db_target_from_conf(d->conf, "hkd", &target, err);

    if (r == 0)
        r = db_new(d->loop, &target, &options, &d->db);
    explicit_bzero(&target.password, sizeof target.password);
    return r;
}

static int build(struct hkd *d, struct qvd_error *err)
{
    int r;

    d->vms = map_new_u64();
    if (!d->vms)
        return -ENOMEM;
    r = open_db(d, err);
    if (r == 0)
        r = askers_new(d->loop, (size_t)conf_int(d->conf, "hkd.rpc.processes"), &d->rpc);
    if (r == 0)
        r = line_new(d, &d->line);
    if (r == 0)
        r = orders_new(d, &d->orders);
    if (r == 0)
        r = host_new(d, &d->host);
    if (r < 0)
        return r;
    db_on_change(d->db, on_db, d);
    db_on_listening(d->db, on_listening, d);
    host_begin(d->host);
    return 0;
}

static void unbuild(struct hkd *d)
{
    size_t at = 0;
    struct vm *vm;

    d->host = host_free(d->host);
    while (d->vms && (at = 0, vm = map_next(d->vms, &at, NULL)))
        vm_free(vm);
    d->orders = orders_free(d->orders);
    d->line = line_free(d->line);
    d->node = node_free(d->node);
    d->rpc = askers_free(d->rpc);
    d->db = db_free(d->db);
    d->vms = map_free(d->vms);
}

static int run(struct hkd *d)
{
    struct ev_signal *term = NULL, *interrupt = NULL, *hup = NULL;
    struct qvd_error err = {0};
    int r = build(d, &err), code = 1;

    if (r == 0 && (ev_signal_new(d->loop, SIGTERM, on_stop, d, &term) < 0 ||
                   ev_signal_new(d->loop, SIGINT, on_stop, d, &interrupt) < 0 ||
                   ev_signal_new(d->loop, SIGHUP, on_hup, d, &hup) < 0))
        r = -ENOMEM;
    if (r < 0)
        log_error("%s", err.text[0] ? err.text : strerror(-r));
    else
        code = ev_loop_run(d->loop);
    unbuild(d);
    ev_signal_free(term);
    ev_signal_free(interrupt);
    ev_signal_free(hup);
    log_info("ended");
    return code;
}

int main(int argc, char **argv)
{
    const struct conf_program program = {
        .name = "qvd-hkd",
        .summary = "keeps the VMs of a node",
        .files = CONF_IN_NODE,
        .check = check,
    };
    _cleanup_(close_p) int lock = -EBADF;
    struct qvd_error err = {0};
    struct hkd d = {0};
    int status = 1;

    d.conf = conf_main(&program, argc, argv, &status);
    if (!d.conf)
        return status;
    lock = take_lock(d.conf);
    if (lock < 0) {
        status = 1;
    } else if (limits_set(d.conf, &err) < 0 || caps_bound(&err) < 0) {
        log_error("%s", err.text);
        status = 1;
    } else if (ev_loop_new(&d.loop) < 0) {
        log_error("out of memory");
        status = 1;
    } else {
        status = run(&d);
        ev_loop_free(d.loop);
    }
    conf_free(d.conf);
    return status;
}
