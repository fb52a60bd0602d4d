// SPDX-License-Identifier: GPL-3.0-or-later
/* Keeps one qvd-authd running: the spawner of all helpers with authd's arguments. */
#include "config.h"
#include "ipc/auth-client.h"
#include "ipc/spawner.h"

/* A name of its own for the common thing, so that callers do not depend on what is behind it. */
struct auth_spawner {
    struct ipc_spawner *spawner;
};

int auth_spawner_new(struct ev_loop *loop, const char *conf_file, auth_spawned_fn *fn, void *arg,
                     struct auth_spawner **ret_spawner)
{
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-authd", conf_file ? "--config" : NULL, conf_file,
                          NULL};
    const struct ipc_spawner_spec spec = {.argv = argv};
    struct auth_spawner *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    int r = ipc_spawner_new(loop, &spec, fn, arg, &s->spawner);
    if (r < 0) {
        free(s);
        return r;
    }
    *ret_spawner = s;
    return 0;
}

struct auth_spawner *auth_spawner_free(struct auth_spawner *s)
{
    if (s)
        ipc_spawner_free(s->spawner);
    free(s);
    return NULL;
}

void auth_spawner_restart(struct auth_spawner *s)
{
    ipc_spawner_restart(s->spawner);
}

void auth_spawner_start_no_more(struct auth_spawner *s)
{
    ipc_spawner_start_no_more(s->spawner);
}
