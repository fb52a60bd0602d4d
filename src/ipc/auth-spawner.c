// SPDX-License-Identifier: GPL-3.0-or-later
/* Keeps one qvd-authd running and hands out the asker's end of its channel. */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "config.h"
#include "ev/child.h"
#include "ipc/auth-client.h"
#include "ipc/channel.h"

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 10000
/* One that lived this long was well: the pause begins anew. */
#define WELL_MS 30000

struct auth_spawner {
    struct ev_loop *loop;
    char *conf_file;
    auth_spawned_fn *fn;
    void *arg;
    struct ev_child *child;
    struct ev_timer *again;
    int64_t started;
    uint64_t pause;
};

static void try_later(struct auth_spawner *s, const char *why)
{
    char text[sizeof((struct qvd_error *)0)->text + 80];

    if (clock_ms() - s->started > WELL_MS)
        s->pause = PAUSE_MIN_MS;
    snprintf(text, sizeof text, "qvd-authd: %s; starting it again in %u ms", why,
             (unsigned)s->pause);
    ev_timer_arm(s->again, s->pause);
    s->pause = s->pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : s->pause * 2;
    s->fn(s->arg, -EBADF, text);
}

static void on_end(void *arg, int status)
{
    struct auth_spawner *s = arg;
    char text[32];

    s->child = ev_child_free(s->child);
    try_later(s, ev_child_status_text(status, text, sizeof text));
}

static void start(void *arg)
{
    struct auth_spawner *s = arg;
    struct qvd_error err;
    int fds[2];
    const char *path = QVD_LIBEXECDIR "/qvd-authd";
    const char *argv[] = {path, s->conf_file ? "--config" : NULL, s->conf_file, NULL};

    s->started = clock_ms();
    int r = ipc_pair(fds);
    if (r < 0) {
        try_later(s, "no channel to it");
        return;
    }
    const struct ev_child_fd pass[] = {
        {fds[1], 3}
    };
    const struct ev_child_spec spec = {
        .path = path, .argv = argv, .fds = pass, .n_fds = 1, .death_signal = SIGTERM};
    r = ev_child_spawn(s->loop, &spec, on_end, s, &s->child, &err);
    fd_close(fds[1]);
    if (r < 0) {
        fd_close(fds[0]);
        try_later(s, err.text);
        return;
    }
    s->fn(s->arg, fds[0], NULL);
}

int auth_spawner_new(struct ev_loop *loop, const char *conf_file, auth_spawned_fn *fn, void *arg,
                     struct auth_spawner **ret_spawner)
{
    struct auth_spawner *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    *s = (struct auth_spawner){.loop = loop, .fn = fn, .arg = arg, .pause = PAUSE_MIN_MS};
    if ((conf_file && !(s->conf_file = strdup(conf_file))) ||
        ev_timer_new(loop, start, s, &s->again) < 0) {
        auth_spawner_free(s);
        return -ENOMEM;
    }
    ev_timer_arm(s->again, 0);
    *ret_spawner = s;
    return 0;
}

struct auth_spawner *auth_spawner_free(struct auth_spawner *s)
{
    if (s) {
        if (s->child)
            (void)ev_child_kill(s->child, SIGTERM);
        ev_child_free(s->child);
        ev_timer_free(s->again);
        free(s->conf_file);
        free(s);
    }
    return NULL;
}

void auth_spawner_restart(struct auth_spawner *s)
{
    if (s->child)
        (void)ev_child_kill(s->child, SIGTERM);
    s->child = ev_child_free(s->child);
    s->pause = PAUSE_MIN_MS;
    ev_timer_arm(s->again, 0);
}
