// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-authd: started by qvd-l7r and qvd-api with a channel as descriptor 3. Reads the settings as
 * root, gives up all rights, and answers until its asker goes. */
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "auth/plugin.h"
#include "authd/authd.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "conf/main.h"
#include "store/config.h"

#define CHANNEL_FD 3

struct program {
    struct ev_loop *loop;
    struct conf *conf;
    struct db *db;
    struct authd *authd;
};

/* Besides those of any loop: what libpq and libcrypt need to connect and to read their files, the
 * thread that looks names up, and processes for plugins (apart.c). */
static const int more_syscalls[] = {
    SYS_socket,    SYS_connect,     SYS_openat,  SYS_access,  SYS_faccessat, SYS_faccessat2,
    SYS_readlink,  SYS_getuid,      SYS_geteuid, SYS_getgid,  SYS_getegid,   SYS_uname,
    SYS_prlimit64, SYS_sysinfo,     SYS_statx,   SYS_pread64, SYS_bind,      SYS_epoll_create1,
    SYS_pipe2,     SYS_eventfd2,    SYS_dup,     SYS_stat,    SYS_getppid,   SYS_socketpair,
    SYS_ioctl,     SYS_sendmmsg,    SYS_clone,   SYS_clone3,  SYS_alarm,     SYS_kill,
    SYS_wait4,     SYS_close_range,
};

static must_check int enter_sandbox(const struct conf *conf, struct qvd_error *err)
{
    int list[128];
    size_t n = 0;

    for (size_t i = 0; sandbox_loop_syscalls[i] != -1; i++)
        list[n++] = sandbox_loop_syscalls[i];
    for (size_t i = 0; i < ARRAY_SIZE(more_syscalls); i++)
        list[n++] = more_syscalls[i];
    list[n] = -1;
    bool root = geteuid() == 0;
    const struct sandbox_spec spec = {.user = root ? conf_str(conf, "l7r.auth.user") : NULL,
                                      .keep_capabilities = !root,
                                      .syscalls = list};
    return sandbox_enter(&spec, err);
}

static void on_asker_gone(void *arg, int reason)
{
    struct program *p = arg;

    if (reason < 0)
        log_error("the asker's channel broke: %s", strerror(-reason));
    ev_loop_stop(p->loop, reason < 0 ? 1 : 0);
}

static void on_term(void *arg, int signo)
{
    struct program *p = arg;

    ev_loop_stop(p->loop, 0);
}

static void on_config(void *arg, int r, const struct qvd_error *err)
{
    if (r < 0)
        log_warning("settings not read from the database, ignoring: %s", err->text);
}

static void read_config(void *arg)
{
    struct program *p = arg;

    if (!store_config_load(p->db, p->conf, on_config, p))
        log_warning("settings not read from the database, ignoring: out of memory");
}

static void on_config_changed(void *arg, const char *channel, const char *payload)
{
    read_config(arg);
}

static int check(void *arg, const struct conf *c, struct qvd_error *err)
{
    return auth_plugins_check(c, err);
}

static must_check int start(struct program *p, struct qvd_error *err)
{
    struct db_target target;
    const struct db_options options = {.name = "qvd-authd", .one_plan = true};
    int r = db_target_from_conf(p->conf, "auth", &target, err);

    if (r == 0)
        r = enter_sandbox(p->conf, err);
    if (r < 0)
        return r;
    if (ev_loop_new(&p->loop) < 0 || db_new(p->loop, &target, &options, &p->db) < 0)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    explicit_bzero(&target, sizeof target);
    r = authd_new(p->loop, p->conf, p->db, CHANNEL_FD, on_asker_gone, p, &p->authd);
    if (r == 0)
        r = db_listen(p->db, STORE_CHANNEL_CONFIG, on_config_changed, p);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot start");
    db_on_listening(p->db, read_config, p);
    return 0;
}

int main(int argc, char **argv)
{
    struct program p = {0};
    struct qvd_error err;
    struct stat st;
    int status;
    const struct conf_program program = {
        .name = "qvd-authd",
        .summary = "checks passwords and tokens for qvd-l7r and qvd-api, which start it",
        .files = CONF_IN_NODE,
        .check = check,
    };

    p.conf = conf_main(&program, argc, argv, &status);
    if (!p.conf)
        return status;
    if (fstat(CHANNEL_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        fputs("qvd-authd: no channel as descriptor 3; qvd-l7r and qvd-api start this program\n",
              stderr);
        return 2;
    }
    if (start(&p, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    struct ev_signal *term = NULL;
    if (ev_signal_new(p.loop, SIGTERM, on_term, &p, &term) < 0) {
        log_error("out of memory");
        return 1;
    }
    status = ev_loop_run(p.loop);
    authd_free(p.authd);
    db_free(p.db);
    ev_signal_free(term);
    ev_loop_free(p.loop);
    conf_free(p.conf);
    return status;
}
