// SPDX-License-Identifier: GPL-3.0-or-later
/* The master: root, without a socket to the outside, a database or a parser. Holds the listening
 * sockets and the certificate's files, keeps qvd-authd and the server running, starts a copier for
 * each image that the server asks for, and removes images' files. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "api/process.h"
#include "base/caps.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/port.h"
#include "base/str.h"
#include "conf/main.h"
#include "config.h"
#include "ev/child.h"
#include "ev/service.h"
#include "ipc/api-msg.h"
#include "ipc/auth-client.h"
#include "ipc/channel.h"
#include "ipc/log-msg.h"

#define LISTENERS_MAX 16
#define COPIERS_MAX 4
#define PAUSE_MAX_MS 10000
#define WELL_MS 30000

struct master {
    struct ev_loop *loop;
    struct conf *conf;
    const char *conf_file;
    int listeners[LISTENERS_MAX];
    size_t n_listeners;
    struct auth_spawner *authd;
    int authd_fd; /* waits for the server */
    struct ev_child *server;
    struct ipc_channel *channel;
    struct ev_timer *again;
    int64_t started;
    uint64_t pause;
    struct ev_child *copiers[COPIERS_MAX];
    bool ready;
};

static void send_tls(struct master *m, bool key)
{
    const char *path = conf_str(m->conf, key ? "path.api.ssl.key" : "path.api.ssl.cert");
    _cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        log_error("%s: %s; the API needs its certificate and key (path.api.ssl.cert, .key)", path,
                  strerror(errno));
    else if (ipc_send(m->channel, &api_tls_msg, &(struct api_tls){.key = key}, fd) < 0)
        log_warning("the server did not take %s", path);
}

static void send_authd(struct master *m)
{
    if (m->authd_fd < 0 || !m->channel)
        return;
    if (ipc_send(m->channel, &api_authd_msg, &(struct api_authd){true}, m->authd_fd) < 0)
        log_warning("the server did not take qvd-authd's channel");
    m->authd_fd = fd_close(m->authd_fd);
}

static void on_authd(void *arg, int fd, const char *text)
{
    struct master *m = arg;

    if (fd < 0) {
        log_error("%s", text);
        return;
    }
    fd_close(m->authd_fd);
    m->authd_fd = fd;
    send_authd(m);
}

/* Each server gets a qvd-authd that nobody else has a channel to. */
static void on_channel_closed(void *owner, int reason)
{
    struct master *m = owner;

    m->channel = ipc_channel_free(m->channel);
    if (m->server)
        (void)ev_child_kill(m->server, SIGTERM);
}

static void on_copier_end(void *arg, int status)
{
    struct ev_child **at = arg;

    /* Its own channel has told the server how it went. */
    *at = ev_child_free(*at);
}

static int on_copy(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;
    const struct api_copy *copy = msg;
    const char *path = QVD_LIBEXECDIR "/qvd-api";
    const char *argv[] = {path, "--copy", m->conf_file ? "--config" : NULL, m->conf_file, NULL};
    struct ev_child **at = NULL;
    struct qvd_error err;
    int fds[2];

    if (!api_file_name_ok(copy->file) || !api_image_name_ok(copy->name))
        return -EBADMSG;
    for (size_t i = 0; i < COPIERS_MAX && !at; i++)
        at = m->copiers[i] ? NULL : &m->copiers[i];
    if (ipc_pair(fds) < 0) {
        log_error("no channel for a copier");
        return 0;
    }
    const struct ev_child_fd pass[] = {
        {fds[1], API_CHANNEL_FD}
    };
    const struct ev_child_spec spec = {
        .path = path, .argv = argv, .fds = pass, .n_fds = 1, .death_signal = SIGTERM};
    int r = at ? ev_child_spawn(m->loop, &spec, on_copier_end, at, at, &err)
               : qvd_error_set(&err, -EBUSY, "%d images are being copied already", COPIERS_MAX);
    if (r < 0)
        log_error("image %s not copied: %s", copy->file, err.text);
    fd_close(fds[1]);
    /* Without a copier the server sees a channel that closes at once. */
    if (ipc_send(m->channel, &api_copier_msg, &(struct api_copier){copy->di}, fds[0]) < 0)
        log_warning("the server did not take the copier's channel");
    fd_close(fds[0]);
    return 0;
}

static int on_remove(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;
    const char *name = ((const struct api_remove *)msg)->name;
    const char *images = conf_str(m->conf, "path.storage.images");

    if (!api_image_name_ok(name))
        return -EBADMSG;
    _cleanup_(close_p) int folder = open(images, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || unlinkat(folder, name, 0) < 0)
        log_warning("%s/%s not removed: %s", images, name, strerror(errno));
    else
        log_info("%s/%s removed", images, name);
    return 0;
}

static int on_ready(void *owner, const void *msg, int *fd)
{
    struct master *m = owner;

    if (!m->ready) {
        service_notify("READY=1");
        log_info("ready");
    }
    m->ready = true;
    return 0;
}

static void on_server_end(void *arg, int status)
{
    struct master *m = arg;
    char text[32];

    m->server = ev_child_free(m->server);
    m->channel = ipc_channel_free(m->channel);
    if (clock_ms() - m->started > WELL_MS)
        m->pause = 100;
    log_error("the server ended: %s; starting it again in %u ms",
              ev_child_status_text(status, text, sizeof text), (unsigned)m->pause);
    ev_timer_arm(m->again, m->pause);
    m->pause = m->pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : m->pause * 2;
    auth_spawner_restart(m->authd);
}

static const struct ipc_handler handlers[] = {
    {&api_copy_msg,   ~0u, on_copy  },
    {&api_remove_msg, ~0u, on_remove},
    {&api_ready_msg,  ~0u, on_ready },
};

static void start_server(void *arg)
{
    struct master *m = arg;
    const char *path = QVD_LIBEXECDIR "/qvd-api";
    char count[24];
    struct ev_child_fd pass[LISTENERS_MAX + 1];
    struct qvd_error err;
    int fds[2];

    m->started = clock_ms();
    snprintf(count, sizeof count, "--serve=%zu", m->n_listeners);
    const char *argv[] = {path, count, m->conf_file ? "--config" : NULL, m->conf_file, NULL};
    int r = ipc_pair(fds);
    if (r == 0) {
        pass[0] = (struct ev_child_fd){fds[1], API_CHANNEL_FD};
        for (size_t i = 0; i < m->n_listeners; i++)
            pass[i + 1] = (struct ev_child_fd){m->listeners[i], API_CHANNEL_FD + 1 + (int)i};
        const struct ev_child_spec spec = {.path = path,
                                           .argv = argv,
                                           .fds = pass,
                                           .n_fds = m->n_listeners + 1,
                                           .death_signal = SIGTERM};
        r = ev_child_spawn(m->loop, &spec, on_server_end, m, &m->server, &err);
        fd_close(fds[1]);
        if (r == 0)
            r = ipc_channel_new(m->loop, fds[0], handlers, ARRAY_SIZE(handlers), on_channel_closed,
                                m, &m->channel);
        else
            fd_close(fds[0]);
    }
    if (r < 0) {
        log_error("the server cannot be started: %s", strerror(-r));
        ev_timer_arm(m->again, PAUSE_MAX_MS);
        return;
    }
    send_tls(m, false);
    send_tls(m, true);
    send_authd(m);
}

/* Binds api.url: https://ADDRESS:PORT/, ADDRESS *, digits, or [IPv6]. */
static must_check int bind_url(const char *url, int *ret_fd, struct qvd_error *err)
{
    char host[64];
    int64_t port = 443;
    const char *at = url + strlen("https://");
    bool bracket = *at == '[';
    size_t n = bracket ? strcspn(++at, "]") : strcspn(at, ":/");
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    const int on = 1, off = 0;

    if (str_copy_n(host, sizeof host, at, n) < 0)
        return qvd_error_set(err, -EINVAL, "api.url = %s: the address is too long", url);
    at += n + bracket;
    if (*at == ':') {
        char digits[8];
        size_t len = strcspn(++at, "/");
        if (str_copy_n(digits, sizeof digits, at, len) < 0 ||
            str_to_i64(digits, 1, 65535, &port) < 0)
            return qvd_error_set(err, -EINVAL, "api.url = %s: port 1 to 65535 expected", url);
    }
    char mapped[80];
    snprintf(mapped, sizeof mapped, "%s%s", strchr(host, ':') ? "" : "::ffff:", host);
    if (strcmp(host, "*") != 0 && inet_pton(AF_INET6, mapped, &sa.sin6_addr) != 1)
        return qvd_error_set(err, -EINVAL, "api.url = %s: * or an address in digits expected", url);
    sa.sin6_port = htons((uint16_t)port);
    _cleanup_(close_p) int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0 ||
        bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 512) < 0) {
        char who[200];
        if (errno != EADDRINUSE)
            return qvd_error_errno(err, errno, "api.url = %s", url);
        return qvd_error_set(err, -EADDRINUSE, "api.url = %s: the port is taken: %s", url,
                             port_holder((uint16_t)port, who, sizeof who));
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void on_signal(void *arg, int signo)
{
    struct master *m = arg;

    if (signo == SIGHUP) {
        conf_main_reload(m->conf);
        ipc_log_send(m->channel);
        if (m->channel) {
            send_tls(m, false);
            send_tls(m, true);
        }
        log_info("settings and certificate read again");
        return;
    }
    service_notify("STOPPING=1");
    ev_loop_stop(m->loop, 0);
}

/* What the master and its children need of root, for good. */
static must_check int give_up_rights(struct qvd_error *err)
{
    static const int kept[] = {
        CAP_SETUID,           /* children change their user */
        CAP_SETGID,           /* the same */
        CAP_SETPCAP,          /* they bound themselves */
        CAP_DAC_OVERRIDE,     /* key, staging and images, whoever owns them */
        CAP_KILL,             /* children have other users */
        CAP_NET_BIND_SERVICE, /* a port below 1024 */
        -1,
    };
    int r = caps_keep(kept, err);

    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = qvd_error_errno(err, errno, "cannot set no-new-privs");
    return r;
}

int api_master(struct conf *conf, const char *conf_file)
{
    struct master m = {.conf = conf, .conf_file = conf_file, .authd_fd = -EBADF, .pause = 100};
    struct ev_signal *signals[3] = {NULL};
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct qvd_error err;
    int r;

    if (give_up_rights(&err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    m.n_listeners = (size_t)service_listen_fds("api", m.listeners, LISTENERS_MAX);
    if (m.n_listeners == 0) {
        r = bind_url(conf_str(conf, "api.url"), &m.listeners[0], &err);
        if (r < 0) {
            log_error("%s", err.text);
            return 1;
        }
        m.n_listeners = 1;
    }
    r = ev_loop_new(&m.loop);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++)
        r = ev_signal_new(m.loop, numbers[i], on_signal, &m, &signals[i]);
    if (r == 0)
        r = ev_timer_new(m.loop, start_server, &m, &m.again);
    if (r == 0)
        r = auth_spawner_new(m.loop, conf_file, on_authd, &m, &m.authd);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        return 1;
    }
    ev_timer_arm(m.again, 0);
    r = ev_loop_run(m.loop);
    auth_spawner_free(m.authd);
    if (m.server)
        (void)ev_child_kill(m.server, SIGTERM);
    ev_child_free(m.server);
    for (size_t i = 0; i < COPIERS_MAX; i++)
        ev_child_free(m.copiers[i]);
    ipc_channel_free(m.channel);
    ev_timer_free(m.again);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        ev_signal_free(signals[i]);
    ev_loop_free(m.loop);
    return r;
}
