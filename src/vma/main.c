// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-vma: the agent in a VM. The monitor: root, looks after the desktop, takes typed orders from
 * its listener, parses nothing of the network. A plain child of any init; needs no service manager
 * and no pid file. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/log.h"
#include "conf/main.h"
#include "config.h"
#include "ev/service.h"
#include "ipc/channel.h"
#include "ipc/log-msg.h"
#include "ipc/spawner.h"
#include "vma/hook.h"
#include "vma/msg.h"
#include "vma/orders.h"
#include "vma/user.h"

/* How long the desktop has to end when we are told to. */
#define END_MS 4000
#define BIND_MS 5000

struct monitor {
    struct ev_loop *loop;
    struct conf *conf;
    uint8_t secret[WIRE_VMA_SECRET_LEN];
    int socket;
    struct ipc_spawner *spawner;
    struct ipc_channel *channel;
    struct orders *orders;
    struct ev_signal *signals[5];
    struct ev_timer *end;
    bool ending, leaving, told_ready;
};

static void on_result(void *owner, const struct vma_result *result)
{
    struct monitor *m = owner;

    if (m->channel && ipc_send(m->channel, &vma_result_msg, result, -EBADF) < 0)
        log_warning("an answer was lost: the listener takes none");
    if (m->ending && session_state(orders_session(m->orders)) == NX_STOPPED)
        ev_loop_stop(m->loop, 0);
}

static const struct orders_ops orders_ops = {.result = on_result};

static int on_order(void *owner, const void *msg, int *fd)
{
    struct monitor *m = owner;
    const struct vma_order *order = msg;
    struct wire_params *params = wire_params_new();

    if (!params)
        return -ENOMEM;
    int r = vma_params_unpack(order->params.data, order->params.len, params);
    if (r < 0) {
        wire_params_free(params);
        return r;
    }
    orders_take(m->orders, order->id, (enum wire_vma_function)order->function, order->serial,
                params);
    return 0;
}

static int on_sent(void *owner, const void *msg, int *fd)
{
    struct monitor *m = owner;

    orders_sent(m->orders, ((const struct vma_sent *)msg)->id);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&vma_order_msg, ~0u, on_order},
    {&vma_sent_msg,  ~0u, on_sent },
};

static void on_listener_gone(void *owner, int reason)
{
    struct monitor *m = owner;

    m->channel = ipc_channel_free(m->channel);
    orders_forget_waiting(m->orders);
    if (reason < 0) {
        log_error("the listener broke the rules (%s) and is replaced", strerror(-reason));
        ipc_spawner_restart(m->spawner);
    }
}

/* The port listens: whoever waits for this VM may ask now. Without a reader nobody waits. */
static void tell_ready(struct monitor *m)
{
    const char *path = conf_str(m->conf, "vma.ready.file");

    if (!m->told_ready) {
        m->told_ready = true;
        service_notify("READY=1");
    }
    _cleanup_(close_p) int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || write(fd, "1", 1) != 1)
        log_debug("%s: %s", path, strerror(errno));
}

static void on_spawned(void *arg, int fd, const char *text)
{
    struct monitor *m = arg;
    const struct vma_hello hello = {
        .secret = {m->secret, sizeof m->secret}
    };

    if (fd < 0) {
        log_error("%s", text);
        return;
    }
    m->channel = ipc_channel_free(m->channel);
    orders_forget_waiting(m->orders);
    int r = ipc_channel_new(m->loop, fd, handlers, ARRAY_SIZE(handlers), on_listener_gone, m,
                            &m->channel);
    if (r == 0)
        r = ipc_send(m->channel, &vma_hello_msg, &hello, -EBADF);
    if (r < 0)
        log_error("the listener cannot be greeted: %s", strerror(-r));
    else
        tell_ready(m);
}

/* The listener of a monitor that was killed holds the port until it has noticed. */
static must_check int bind_port(int fd, const struct sockaddr_in *addr)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (int i = 0; i < BIND_MS / 10; i++) {
        if (bind(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 && listen(fd, 64) == 0)
            return 0;
        if (errno != EADDRINUSE)
            break;
        (void)nanosleep(&pause, NULL); /* before the loop runs */
    }
    return -errno;
}

static must_check int open_socket(struct monitor *m, struct qvd_error *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(conf_int(m->conf, "vma.port"))};
    int one = 1;

    m->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (m->socket < 0 || setsockopt(m->socket, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind_port(m->socket, &addr) < 0)
        return qvd_error_errno(err, errno, "cannot listen on port %d",
                               (int)conf_int(m->conf, "vma.port"));
    return 0;
}

static must_check int read_secret(struct monitor *m, struct qvd_error *err)
{
    const char *path = conf_str(m->conf, "vma.secret.file");
    _cleanup_(free_p) char *data = NULL;
    size_t len = 0;

    int r = fs_read(path, WIRE_VMA_SECRET_LEN, &data, &len);
    if (r == 0 && len != WIRE_VMA_SECRET_LEN)
        r = -EINVAL;
    if (r < 0)
        return qvd_error_errno(err, r, "%s must hold the %d bytes of this VM's key", path,
                               WIRE_VMA_SECRET_LEN);
    memcpy(m->secret, data, len);
    explicit_bzero(data, len);
    return 0;
}

static void end_now(void *arg)
{
    ev_loop_stop(((struct monitor *)arg)->loop, 0);
}

/* TERM, INT: the desktop ends in good order first, if it can. The order's answer ends the loop. */
static void on_end_signal(void *arg, int signo)
{
    struct monitor *m = arg;
    struct wire_params *params = wire_params_new();

    if (m->ending || !params || session_state(orders_session(m->orders)) == NX_STOPPED) {
        wire_params_free(params);
        ev_loop_stop(m->loop, 0);
        return;
    }
    log_info("ending");
    m->ending = true;
    service_notify("STOPPING=1");
    m->spawner = ipc_spawner_free(m->spawner);
    m->channel = ipc_channel_free(m->channel);
    ev_timer_arm(m->end, END_MS);
    orders_take(m->orders, 0, WIRE_VMA_X_STOP, UINT64_MAX, params);
}

static void on_hup(void *arg, int signo)
{
    struct monitor *m = arg;

    conf_main_reload(m->conf);
    ipc_log_send(m->channel);
}

/* An X server tells its parent so that it is ready, if it thinks that the parent wants it. */
static void on_usr1(void *arg, int signo)
{
}

/* For an upgrade of the agent: the desktop stays and is adopted by the next monitor. */
static void on_usr2(void *arg, int signo)
{
    struct monitor *m = arg;

    log_info("ending; the desktop is left to the next agent");
    m->leaving = true;
    ev_loop_stop(m->loop, 0);
}

static must_check int watch_signals(struct monitor *m)
{
    static const struct {
        int signo;
        ev_signal_fn *fn;
    } table[] = {
        {SIGTERM, on_end_signal},
        {SIGINT,  on_end_signal},
        {SIGHUP,  on_hup       },
        {SIGUSR1, on_usr1      },
        {SIGUSR2, on_usr2      },
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(table); i++)
        r = ev_signal_new(m->loop, table[i].signo, table[i].fn, m, &m->signals[i]);
    return r;
}

static must_check int begin(struct monitor *m, struct qvd_error *err)
{
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-vma-listener", conf_str(m->conf, "vma.user"), NULL};
    int r = read_secret(m, err);

    if (r == 0)
        r = open_socket(m, err);
    if (r < 0)
        return r;
    const struct ev_child_fd pass[] = {
        {m->socket, 4}
    };
    const struct ipc_spawner_spec spec = {.argv = argv, .fds = pass, .n_fds = 1};
    r = ev_loop_new(&m->loop);
    if (r == 0)
        r = watch_signals(m);
    if (r == 0)
        r = ev_timer_new(m->loop, end_now, m, &m->end);
    if (r == 0)
        r = orders_new(m->loop, m->conf, &orders_ops, m, &m->orders);
    if (r == 0)
        r = ipc_spawner_new(m->loop, &spec, on_spawned, m, &m->spawner);
    return r < 0 ? qvd_error_errno(err, r, "cannot begin") : 0;
}

static void finish(struct monitor *m)
{
    ipc_spawner_free(m->spawner);
    ipc_channel_free(m->channel);
    if (m->leaving)
        orders_leave(m->orders);
    else
        orders_free(m->orders);
    hook_free_cancelled();
    ev_timer_free(m->end);
    for (size_t i = 0; i < ARRAY_SIZE(m->signals); i++)
        ev_signal_free(m->signals[i]);
    ev_loop_free(m->loop);
    fd_close(m->socket);
    explicit_bzero(m->secret, sizeof m->secret);
}

int main(int argc, char **argv)
{
    static const struct conf_program program = {.name = "qvd-vma",
                                                .summary = "The agent of QVD in a desktop's VM.",
                                                .files = CONF_IN_VMA,
                                                .file_optional = true};
    struct monitor m = {.socket = -EBADF};
    struct qvd_error err;
    int status;

    if (argc > 3 && strcmp(argv[1], "--run-as") == 0)
        return user_run_as(argv[2], argv + 3);
    if (argc == 5 && strcmp(argv[1], "--fill-home") == 0)
        return user_fill_home(argv[2], argv[3], argv[4]);
    m.conf = conf_main(&program, argc, argv, &status);
    if (!m.conf)
        return status;
    umask(022);
    int r = begin(&m, &err);
    if (r < 0)
        log_error("%s", err.text);
    status = r < 0 ? 1 : ev_loop_run(m.loop);
    finish(&m);
    conf_free(m.conf);
    return status;
}
