// SPDX-License-Identifier: GPL-3.0-or-later
/* The hkd.rpc.processes qvd-rpc that ask VMs' agents: in turn, those that are there first. */
#include <string.h>

#include "base/log.h"
#include "hkd/hkd-internal.h"

struct asker {
    struct rpc_client *client;
    struct ipc_spawner *spawner;
};

struct askers {
    size_t n, next;
    struct asker all[];
};

static void on_rpc(void *arg, int fd, const char *text)
{
    struct asker *a = arg;
    int r;

    if (fd < 0) {
        log_warning("qvd-rpc: %s", text);
        return;
    }
    r = rpc_client_attach(a->client, fd);
    if (r < 0)
        log_error("qvd-rpc: %s", strerror(-r));
}

int askers_new(struct ev_loop *loop, size_t n, struct askers **ret)
{
    struct askers *a = calloc(1, sizeof *a + n * sizeof *a->all);
    int r = a ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < n; i++) {
        a->n = i + 1;
        r = rpc_client_new(loop, &a->all[i].client);
        if (r == 0)
            r = rpc_spawner_new(loop, NULL, on_rpc, &a->all[i], &a->all[i].spawner);
    }
    if (r < 0)
        a = askers_free(a);
    *ret = a;
    return r;
}

struct askers *askers_free(struct askers *a)
{
    for (size_t i = 0; a && i < a->n; i++) {
        ipc_spawner_free(a->all[i].spawner);
        rpc_client_free(a->all[i].client);
    }
    free(a);
    return NULL;
}

void askers_log(struct askers *a)
{
    for (size_t i = 0; i < a->n; i++)
        rpc_client_log(a->all[i].client);
}

struct rpc_client *askers_next(struct askers *a)
{
    for (size_t tries = 0; tries < a->n; tries++) {
        struct rpc_client *c = a->all[a->next++ % a->n].client;

        if (rpc_client_attached(c))
            return c;
    }
    return a->all[a->next++ % a->n].client;
}
