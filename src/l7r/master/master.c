// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-l7r: the master. Owns the listening sockets, the certificate and the settings; starts and
 * watches broker, authd, rpc and workers, and joins them by channels. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/str.h"
#include "conf/main.h"
#include "config.h"
#include "ev/service.h"
#include "ipc/log-msg.h"
#include "l7r/master/master-internal.h"

#define STOP_MS 10000
#define NO_TLS_TEXT "l7r.use_ssl = 0 needs a named l7r.address: passwords would cross every network"
/* How long the sockets wait for the settings of the database. */
#define OPEN_MS 3000

/* Peers of the broker ----------------------------------------------------------------------------
 */

/* Gives the broker its end of a channel; keeps it while there is no broker. */
static void hand_over(struct master *m, enum l7r_peer peer, int *kept)
{
    struct l7r_link link = {.peer = peer};

    if (*kept < 0 || !m->broker)
        return;
    int r = ipc_send(m->broker, &l7r_link_msg, &link, *kept);
    if (r < 0)
        log_error("the broker does not take a channel: %s", strerror(-r));
    *kept = fd_close(*kept);
}

static void authd_spawned(void *arg, int fd, const char *text)
{
    struct master *m = arg;

    m->authd_fd = fd_close(m->authd_fd);
    if (fd < 0)
        log_error("%s", text);
    m->authd_fd = fd;
    hand_over(m, L7R_PEER_AUTHD, &m->authd_fd);
}

static void rpc_spawned(void *arg, int fd, const char *text)
{
    struct master *m = arg;

    m->rpc_fd = fd_close(m->rpc_fd);
    if (fd < 0)
        log_error("%s", text);
    m->rpc_fd = fd;
    hand_over(m, L7R_PEER_RPC, &m->rpc_fd);
}

/* The broker ------------------------------------------------------------------------------------
 */

static int on_ready(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;

    m->instance = ((const struct l7r_ready *)msg)->instance;
    return 0;
}

static int on_certificate(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;
    int r = certificate_take(m, msg, *fd);

    if (r <= 0)
        return r;
    certificate_apply(m);
    return 0;
}

static void setting_changed(void *arg, const struct conf_key *key, int64_t tenant, const char *old)
{
    struct master *m = arg;

    m->changed = true;
    if (strcmp(key->key, "l7r.use_ssl") == 0)
        log_warning("%s of the database has no effect: it belongs into node.conf", key->key);
    else if (m->opened && key->when == CONF_RESTART && str_starts(key->key, "l7r."))
        log_warning("%s has changed: in force after a restart of qvd-l7r", key->key);
}

static void open_sockets(void *arg);

static int on_settings(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;

    m->changed = false;
    conf_on_change(m->conf, setting_changed, m);
    int r = context_take_settings(m, msg, *fd);
    conf_on_change(m->conf, NULL, NULL);
    if (m->changed) {
        ev_timer_arm(m->rotate, (uint64_t)conf_ms(m->conf, "l7r.ssl.tickets.rotate"));
        certificate_apply(m);
    }
    if (!m->opened)
        open_sockets(m);
    return r;
}

static const struct ipc_handler broker_handlers[] = {
    {&l7r_ready_msg,       ~0u, on_ready      },
    {&l7r_certificate_msg, ~0u, on_certificate},
    {&l7r_settings_msg,    ~0u, on_settings   },
};

static void broker_lost(struct master *m)
{
    m->broker = ipc_channel_free(m->broker);
    if (!m->stopping)
        return;
    workers_stop(m, true);
    if (list_empty(&m->procs))
        ev_loop_stop(m->loop, 0);
}

static void broker_closed(void *owner, int reason)
{
    struct master *m = owner;

    if (reason < 0)
        log_error("the broker: %s", strerror(-reason));
    broker_lost(m);
}

/* The workers' channels come before its settings: so it knows whom to hear before it judges what
 * the database tells of them. */
static void broker_spawned(void *arg, int fd, const char *text)
{
    struct master *m = arg;

    if (m->broker)
        broker_lost(m);
    if (fd < 0) {
        if (!m->stopping)
            log_error("%s", text);
        return;
    }
    int r = ipc_channel_new(m->loop, fd, broker_handlers, ARRAY_SIZE(broker_handlers),
                            broker_closed, m, &m->broker);
    if (r == 0) {
        workers_link(m);
        hand_over(m, L7R_PEER_AUTHD, &m->authd_fd);
        hand_over(m, L7R_PEER_RPC, &m->rpc_fd);
        r = context_send_broker(m);
    }
    if (r < 0)
        log_error("the broker gets no settings: %s", strerror(-r));
}

/* Signals ---------------------------------------------------------------------------------------
 */

static void on_reload(void *arg, int signo)
{
    struct master *m = arg;
    struct qvd_error err = {0};

    service_notify("RELOADING=1");
    conf_main_reload(m->conf);
    log_info("reload");
    ipc_log_send(m->broker);
    workers_log(m);
    if (certificate_read_files(m, &err) < 0)
        log_error("%s; the former certificate stays", err.text);
    if (m->broker && context_send_broker(m) < 0)
        log_error("the broker does not take new settings");
    auth_spawner_restart(m->auth_spawner);
    m->renew = true;
    certificate_apply(m);
}

void reload_done(struct master *m)
{
    service_notify("READY=1");
}

static void on_end(void *arg, int signo)
{
    struct master *m = arg;
    struct l7r_stop stop = {0};

    if (m->stopping)
        return;
    m->stopping = true;
    service_notify("STOPPING=1");
    log_info("stops: sessions are closed, desktops stay suspended");
    ev_timer_arm(m->stop_limit, STOP_MS);
    /* Helpers end with the broker, which may be before the last worker. */
    ipc_spawner_start_no_more(m->broker_spawner);
    ipc_spawner_start_no_more(m->rpc_spawner);
    auth_spawner_start_no_more(m->auth_spawner);
    workers_stop(m, false);
    if (!m->broker || ipc_send(m->broker, &l7r_stop_msg, &stop, -EBADF) < 0)
        broker_lost(m);
}

static void stop_limit_over(void *arg)
{
    struct master *m = arg;

    log_warning("children did not end in time");
    ev_loop_stop(m->loop, 0);
}

static void rotate(void *arg)
{
    struct master *m = arg;

    ev_timer_arm(m->rotate, (uint64_t)conf_ms(m->conf, "l7r.ssl.tickets.rotate"));
    if (context_new_ticket(m) == 0)
        workers_tell(m);
}

/* Life ------------------------------------------------------------------------------------------
 */

/* A session has two sockets; children inherit the limit. */
static void raise_limits(const struct master *m)
{
    rlim_t want = 2 * (rlim_t)conf_int(m->conf, "l7r.sessions.max") + 256;
    struct rlimit now;

    if (getrlimit(RLIMIT_NOFILE, &now) < 0 || now.rlim_cur >= want)
        return;
    struct rlimit more = {want, now.rlim_max > want ? now.rlim_max : want};
    if (setrlimit(RLIMIT_NOFILE, &more) < 0)
        log_warning("only %llu open files are allowed, l7r.sessions.max needs %llu; raise"
                    " LimitNOFILE",
                    (unsigned long long)now.rlim_cur, (unsigned long long)want);
}

static must_check int start_children(struct master *m)
{
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-l7r-broker", "--user",
                          conf_str(m->conf, "l7r.broker.user"), NULL};
    const struct ipc_spawner_spec broker = {.argv = argv};
    int r = ipc_spawner_new(m->loop, &broker, broker_spawned, m, &m->broker_spawner);

    if (r == 0)
        r = auth_spawner_new(m->loop, m->conf_file, authd_spawned, m, &m->auth_spawner);
    if (r == 0)
        r = rpc_spawner_new(m->loop, NULL, rpc_spawned, m, &m->rpc_spawner);
    if (r == 0)
        certificate_apply(m);
    return r;
}

static must_check int master_init(struct master *m)
{
    static const struct {
        int signo;
        ev_signal_fn *fn;
    } signals[] = {
        {SIGHUP,  on_reload},
        {SIGTERM, on_end   },
        {SIGINT,  on_end   },
    };
    int r = context_new_ticket(m);

    if (r == 0)
        r = context_new_ticket(m);
    if (r == 0)
        r = ev_timer_new(m->loop, open_sockets, m, &m->open_limit);
    if (r == 0)
        r = certificate_init(m);
    if (r == 0)
        r = ev_timer_new(m->loop, rotate, m, &m->rotate);
    if (r == 0)
        r = ev_timer_new(m->loop, stop_limit_over, m, &m->stop_limit);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(signals); i++)
        r = ev_signal_new(m->loop, signals[i].signo, signals[i].fn, m, &m->signals[i]);
    if (r == 0)
        ev_timer_arm(m->rotate, (uint64_t)conf_ms(m->conf, "l7r.ssl.tickets.rotate"));
    if (r == 0)
        ev_timer_arm(m->open_limit, OPEN_MS);
    return r;
}

static void master_done(struct master *m)
{
    m->broker_spawner = ipc_spawner_free(m->broker_spawner);
    m->rpc_spawner = ipc_spawner_free(m->rpc_spawner);
    m->auth_spawner = auth_spawner_free(m->auth_spawner);
    m->broker = ipc_channel_free(m->broker);
    QVD_LIST_FOREACH (p, &m->procs, struct proc, node)
        (void)ev_child_kill(p->child, SIGKILL);
    certificate_done(m);
    explicit_bzero(m->tickets, sizeof m->tickets);
}

static int check(void *arg, const struct conf *c, struct qvd_error *err)
{
    int r = conf_require(c, err, "nodename", "l7r.user", "l7r.broker.user", NULL);

    if (r == 0 && !conf_bool(c, "l7r.use_ssl")) {
        if (strchr(conf_str(c, "l7r.address"), '*'))
            return qvd_error_set(err, -EINVAL, NO_TLS_TEXT);
        log_warning("l7r.use_ssl = 0: passwords are not encrypted on the way to %s",
                    conf_str(c, "l7r.address"));
    }
    return r;
}

/* Once: address, port and number of the sockets are settings that the database may hold. Without it
 * they are those of the file. */
static void open_sockets(void *arg)
{
    struct master *m = arg;
    struct qvd_error err = {0};

    if (m->opened || m->stopping)
        return;
    ev_timer_disarm(m->open_limit);
    raise_limits(m);
    if (!m->use_ssl && strchr(conf_str(m->conf, "l7r.address"), '*'))
        (void)qvd_error_set(&err, -EINVAL, NO_TLS_TEXT);
    else if (sockets_open(m, &err) == 0)
        m->opened = true;
    if (!m->opened) {
        log_error("%s", err.text);
        ev_loop_stop(m->loop, 1);
        return;
    }
    if (workers_open(m) < 0) {
        log_error("cannot start: out of memory");
        ev_loop_stop(m->loop, 1);
        return;
    }
    workers_start(m);
}

/* authd reads the same file. */
static const char *conf_file(int argc, char **argv)
{
    const char *file = NULL;

    for (int i = 1; i < argc; i++) {
        if ((strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--config") == 0) && i + 1 < argc)
            file = argv[++i];
        else if (str_starts(argv[i], "--config="))
            file = argv[i] + strlen("--config=");
        else if (str_starts(argv[i], "-f"))
            file = argv[i] + 2;
    }
    return file;
}

int main(int argc, char **argv)
{
    static struct master m = {.rpc_fd = -EBADF, .authd_fd = -EBADF, .counts_fd = -EBADF};
    static const struct conf_program program = {
        .name = "qvd-l7r",
        .summary = "takes in clients and relays their desktops",
        .files = CONF_IN_NODE,
        .check = check,
    };
    struct qvd_error err = {0};
    int status = 1;

    m.conf = conf_main(&program, argc, argv, &status);
    if (!m.conf)
        return status;
    m.conf_file = conf_file(argc, argv);
    m.use_ssl = conf_bool(m.conf, "l7r.use_ssl");
    list_init(&m.procs);
    raise_limits(&m);
    if (caps_bound(&err) < 0 || certificate_read_files(&m, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    if (ev_loop_new(&m.loop) < 0 || master_init(&m) < 0 || start_children(&m) < 0) {
        log_error("cannot start: out of memory or descriptors");
        return 1;
    }
    status = ev_loop_run(m.loop);
    master_done(&m);
    log_info("ends");
    return status;
}
