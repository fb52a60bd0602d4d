// SPDX-License-Identifier: GPL-3.0-or-later
/* The server: gives up all rights, gets certificate, key and qvd-authd's channel from its master,
 * and takes requests. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/api-internal.h"
#include "api/process.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/str.h"
#include "ipc/api-msg.h"
#include "ipc/log-msg.h"
#include "store/admin-di.h"
#include "store/config.h"

#define LISTENERS_MAX 16
#define PEM_MAX (1 << 20)
#define ACCEPTS_A_TURN 32

struct listener {
    struct api *api;
    int fd;
    struct ev_io *io;
};

/* Besides those of any loop: accepting, what libpq needs to connect and to read its files, and the
 * thread that looks names up. */
static const int more_syscalls[] = {
    SYS_accept4,   SYS_accept,        SYS_socket,    SYS_connect,   SYS_openat,   SYS_access,
    SYS_faccessat, SYS_faccessat2,    SYS_readlink,  SYS_getuid,    SYS_geteuid,  SYS_getgid,
    SYS_getegid,   SYS_uname,         SYS_prlimit64, SYS_sysinfo,   SYS_statx,    SYS_pread64,
    SYS_bind,      SYS_epoll_create1, SYS_pipe2,     SYS_eventfd2,  SYS_dup,      SYS_stat,
    SYS_getppid,   SYS_socketpair,    SYS_ioctl,     SYS_getrusage, SYS_sendmmsg, SYS_clone,
    SYS_clone3,
};

static must_check int enter_sandbox(const struct conf *conf, struct qvd_error *err)
{
    int list[128];
    size_t n = 0;
    bool root = geteuid() == 0;

    for (size_t i = 0; sandbox_loop_syscalls[i] != -1; i++)
        list[n++] = sandbox_loop_syscalls[i];
    for (size_t i = 0; i < ARRAY_SIZE(more_syscalls); i++)
        list[n++] = more_syscalls[i];
    list[n] = -1;
    const struct sandbox_spec spec = {.user = root ? conf_str(conf, "api.user") : NULL,
                                      .group = conf_str(conf, "api.group"),
                                      .keep_capabilities = !root,
                                      .syscalls = list};
    return sandbox_enter(&spec, err);
}

static void on_connection(void *arg, unsigned events)
{
    struct listener *l = arg;

    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_in6 peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        api_accept(l->api, fd, &peer);
    }
}

static int on_authd(void *owner, const void *msg, int *fd)
{
    struct api *api = owner;

    if (auth_client_attach(api->auth, TAKE_FD(*fd)) < 0)
        log_error("qvd-authd's channel cannot be used");
    return 0;
}

/* A whole PEM file from its descriptor; NULL when it cannot be. */
static char *read_pem(int fd, size_t *ret_len)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > PEM_MAX)
        return NULL;
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (text && pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
        free(text);
        return NULL;
    }
    *ret_len = (size_t)st.st_size;
    return text;
}

static int on_tls(void *owner, const void *msg, int *fd)
{
    struct api *api = owner;
    size_t len = 0;
    char *text = read_pem(*fd, &len);
    struct tls_context *tls;
    struct qvd_error err;

    if (!((const struct api_tls *)msg)->key) {
        free(api->cert);
        api->cert = text;
        api->cert_len = len;
        return 0;
    }
    const struct tls_server_spec spec = {
        .cert_pem = api->cert, .cert_len = api->cert_len, .key_pem = text, .key_len = len};
    if (!text || !api->cert) {
        log_error("certificate or key of the API cannot be read (path.api.ssl.cert, .key)");
    } else if (tls_server_new(&spec, &tls, &err) < 0) {
        log_error("certificate or key of the API: %s%s", err.text,
                  api->tls ? "; the former stays in use" : "");
    } else {
        bool first = !api->tls;
        tls_context_unref(api->tls);
        api->tls = tls;
        if (first && ipc_send(api->master, &api_ready_msg, &(struct api_ready){true}, -EBADF) < 0)
            log_debug("the master has gone");
    }
    if (text)
        explicit_bzero(text, len);
    free(text);
    return 0;
}

static int on_copier(void *owner, const void *msg, int *fd)
{
    return api_di_copier(owner, ((const struct api_copier *)msg)->di, fd);
}

static int on_log(void *owner, const void *msg, int *fd)
{
    int r = ipc_on_log(owner, msg, fd);

    auth_client_log(((struct api *)owner)->auth);
    return r;
}

static const struct ipc_handler handlers[] = {
    {&api_authd_msg,  ~0u, on_authd },
    {&api_tls_msg,    ~0u, on_tls   },
    {&api_copier_msg, ~0u, on_copier},
    {&ipc_log_msg,    ~0u, on_log   },
};

static void on_master_gone(void *owner, int reason)
{
    struct api *api = owner;

    ev_loop_stop(api->loop, reason < 0 ? 1 : 0);
}

static void on_term(void *arg, int signo)
{
    ev_loop_stop(((struct api *)arg)->loop, 0);
}

static void on_config(void *arg, int r, const struct qvd_error *err)
{
    struct api *api = arg;

    auth_client_set_limit(api->auth, conf_ms(api->conf, "l7r.authd.timeout"));
    if (r < 0)
        log_warning("settings not read from the database, ignoring: %s", err->text);
}

static void read_config(void *arg)
{
    struct api *api = arg;

    store_schema_look(api->schema);
    if (!store_config_load(api->db, api->conf, on_config, api))
        log_warning("settings not read from the database, ignoring: out of memory");
}

static void on_config_changed(void *arg, const char *channel, const char *payload)
{
    read_config(arg);
}

static void on_schema(void *arg, const char *why)
{
    struct api *api = arg;

    if (why) {
        log_error("%s; until then every request gets 503", why);
        return;
    }
    log_info("the database's schema fits again");
    read_config(api);
}

static void on_interrupted(void *arg, const struct admin_done *done)
{
    if (done->status != ADMIN_OK)
        log_warning("images left by an earlier copy are not marked: %s", done->err.text);
}

static double draw(void *arg)
{
    uint32_t n = 0;

    return random_bytes(&n, sizeof n) == 0 ? n / 4294967296.0 : 0.5;
}

static must_check int start(struct api *api, struct qvd_error *err)
{
    struct db_target target;
    const struct db_options options = {.name = "qvd-api", .connections = 4};
    int r = db_target_from_conf(api->conf, "api", &target, err);

    if (r == 0)
        r = enter_sandbox(api->conf, err);
    if (r < 0)
        return r;
    api->copies = map_new_u64();
    if (!api->copies || ev_loop_new(&api->loop) < 0 ||
        db_new(api->loop, &target, &options, &api->db) < 0 ||
        auth_client_new(api->loop, &api->auth) < 0 ||
        store_schema_new(api->loop, api->db, on_schema, api, &api->schema) < 0)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    explicit_bzero(&target, sizeof target);
    r = ipc_channel_new(api->loop, API_CHANNEL_FD, handlers, ARRAY_SIZE(handlers), on_master_gone,
                        api, &api->master);
    if (r == 0)
        r = db_listen(api->db, STORE_CHANNEL_CONFIG, on_config_changed, api);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot start");
    db_on_listening(api->db, read_config, api);
    if (store_admin_di_interrupted(api->db, on_interrupted, api, err) != ADMIN_OK)
        log_warning("images left by an earlier copy are not marked: %s", err->text);
    return 0;
}

static void finish(struct api *api)
{
    QVD_LIST_FOREACH (c, &api->conns, struct api_conn, node)
        api_conn_free(c);
    auth_client_free(api->auth);
    store_schema_free(api->schema);
    db_free(api->db);
    api_di_forget(api); /* the database had answers for them */
    ipc_channel_free(api->master);
    tls_context_unref(api->tls);
    free(api->cert);
    ev_loop_free(api->loop);
}

static must_check int listen_on(struct api *api, struct listener *l, int fd)
{
    *l = (struct listener){.api = api, .fd = fd};
    return ev_io_new(api->loop, fd, EV_IO_IN, on_connection, l, &l->io);
}

int api_serve(struct conf *conf, size_t n_listeners)
{
    struct api api = {.conf = conf, .balance.random = draw};
    struct listener listeners[LISTENERS_MAX] = {0};
    struct ev_signal *term = NULL;
    struct qvd_error err;
    int r;

    list_init(&api.conns);
    if (n_listeners > LISTENERS_MAX || start(&api, &err) < 0) {
        log_error("%s", n_listeners > LISTENERS_MAX ? "too many sockets" : err.text);
        return 1;
    }
    r = ev_signal_new(api.loop, SIGTERM, on_term, &api, &term);
    for (size_t i = 0; r == 0 && i < n_listeners; i++)
        r = listen_on(&api, &listeners[i], API_CHANNEL_FD + 1 + (int)i);
    if (r < 0) {
        log_error("cannot listen: %s", strerror(-r));
        return 1;
    }
    r = ev_loop_run(api.loop);
    for (size_t i = 0; i < n_listeners; i++)
        ev_io_free(listeners[i].io);
    ev_signal_free(term);
    finish(&api);
    return r;
}
