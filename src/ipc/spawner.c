// SPDX-License-Identifier: GPL-3.0-or-later
/* Starts a helper, watches it, starts it again with a growing pause. */
#include "ipc/spawner.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "ipc/channel.h"

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 10000
/* One that lived this long was well: the pause begins anew. */
#define WELL_MS 30000
#define FDS_MAX 5

struct ipc_spawner {
    struct ev_loop *loop;
    char **argv;
    const char *name; /* of the program, in argv[0] */
    struct ev_child_fd fds[FDS_MAX];
    size_t n_fds;
    ipc_spawned_fn *fn;
    void *arg;
    struct ev_child *child;
    struct ev_timer *again;
    int64_t started;
    uint64_t pause;
    bool no_more;
};

static void try_later(struct ipc_spawner *s, const char *why)
{
    char text[sizeof((struct qvd_error *)0)->text + 80];

    if (clock_ms() - s->started > WELL_MS)
        s->pause = PAUSE_MIN_MS;
    snprintf(text, sizeof text, "%s: %s; starting it again in %u ms", s->name, why,
             (unsigned)s->pause);
    ev_timer_arm(s->again, s->pause);
    s->pause = s->pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : s->pause * 2;
    s->fn(s->arg, -EBADF, text);
}

static void on_end(void *arg, int status)
{
    struct ipc_spawner *s = arg;
    char text[32];

    s->child = ev_child_free(s->child);
    if (!s->no_more)
        try_later(s, ev_child_status_text(status, text, sizeof text));
}

static void start(void *arg)
{
    struct ipc_spawner *s = arg;
    struct qvd_error err;
    int fds[2];

    s->started = clock_ms();
    int r = ipc_pair(fds);
    if (r < 0) {
        try_later(s, "no channel to it");
        return;
    }
    s->fds[s->n_fds] = (struct ev_child_fd){fds[1], 3};
    const struct ev_child_spec spec = {.path = s->argv[0],
                                       .argv = (const char *const *)s->argv,
                                       .fds = s->fds,
                                       .n_fds = s->n_fds + 1,
                                       .death_signal = SIGTERM};
    r = ev_child_spawn(s->loop, &spec, on_end, s, &s->child, &err);
    fd_close(fds[1]);
    if (r < 0) {
        fd_close(fds[0]);
        try_later(s, err.text);
        return;
    }
    s->fn(s->arg, fds[0], NULL);
}

static must_check char **copy_argv(const char *const *argv)
{
    size_t n = 0;

    while (argv[n])
        n++;
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = strdup(argv[i]);
        if (!copy[i]) {
            while (i-- > 0)
                free(copy[i]);
            free(copy);
            return NULL;
        }
    }
    return copy;
}

int ipc_spawner_new(struct ev_loop *loop, const struct ipc_spawner_spec *spec, ipc_spawned_fn *fn,
                    void *arg, struct ipc_spawner **ret_spawner)
{
    if (spec->n_fds >= FDS_MAX)
        return -EINVAL;
    struct ipc_spawner *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    *s = (struct ipc_spawner){
        .loop = loop, .n_fds = spec->n_fds, .fn = fn, .arg = arg, .pause = PAUSE_MIN_MS};
    for (size_t i = 0; i < spec->n_fds; i++)
        s->fds[i] = spec->fds[i];
    s->argv = copy_argv(spec->argv);
    if (!s->argv || ev_timer_new(loop, start, s, &s->again) < 0) {
        ipc_spawner_free(s);
        return -ENOMEM;
    }
    const char *slash = strrchr(s->argv[0], '/');
    s->name = slash ? slash + 1 : s->argv[0];
    ev_timer_arm(s->again, 0);
    *ret_spawner = s;
    return 0;
}

struct ipc_spawner *ipc_spawner_free(struct ipc_spawner *s)
{
    if (s) {
        if (s->child)
            (void)ev_child_kill(s->child, SIGTERM);
        ev_child_free(s->child);
        ev_timer_free(s->again);
        for (size_t i = 0; s->argv && s->argv[i]; i++)
            free(s->argv[i]);
        free(s->argv);
        free(s);
    }
    return NULL;
}

void ipc_spawner_start_no_more(struct ipc_spawner *s)
{
    s->no_more = true;
    ev_timer_disarm(s->again);
}

void ipc_spawner_restart(struct ipc_spawner *s)
{
    if (s->no_more)
        return;
    if (s->child)
        (void)ev_child_kill(s->child, SIGTERM);
    s->child = ev_child_free(s->child);
    s->pause = PAUSE_MIN_MS;
    ev_timer_arm(s->again, 0);
}
