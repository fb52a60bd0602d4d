// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/storage/purge.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "ev/child.h"

struct item {
    struct list node;
    char *path;
    purge_fn *done;
    void *arg;
};

struct purge {
    struct ev_loop *loop;
    struct list items;
    struct item *now;
    struct ev_child *child;
    struct ev_deferred go;
    node_log_fn *log;
    void *log_arg;
};

static void item_free(struct item *i)
{
    if (i)
        free(i->path);
    free(i);
}

static void end(struct purge *p, const char *why)
{
    struct item *i = p->now;
    char text[256];

    p->now = NULL;
    p->child = ev_child_free(p->child);
    if (why && p->log) {
        snprintf(text, sizeof text, "%s could not be removed: %s; remove it by hand", i->path, why);
        p->log(p->log_arg, text);
    }
    if (!list_empty(&p->items))
        ev_defer(p->loop, &p->go);
    if (i->done)
        i->done(i->arg);
    item_free(i);
}

static void on_gone(void *arg, int status)
{
    char text[32];

    end(arg, status == 0 ? NULL : ev_child_status_text(status, text, sizeof text));
}

static void go(void *arg)
{
    struct purge *p = arg;
    struct qvd_error err;

    if (p->now || list_empty(&p->items))
        return;
    p->now = QVD_CONTAINER(p->items.next, struct item, node);
    list_remove(&p->now->node);
    const char *argv[] = {"nice", "-n", "19", "ionice", "-c", "3", "rm", "-rf", "--one-file-system",
                          "--",   NULL, NULL};
    argv[ARRAY_SIZE(argv) - 2] = p->now->path;
    struct ev_child_spec spec = {.path = "nice", .argv = argv, .death_signal = SIGKILL};
    if (ev_child_spawn(p->loop, &spec, on_gone, p, &p->child, &err) < 0)
        end(p, err.text);
}

int purge_new(struct ev_loop *loop, node_log_fn *log, void *log_arg, struct purge **ret)
{
    struct purge *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    *p = (struct purge){.loop = loop, .log = log, .log_arg = log_arg};
    list_init(&p->items);
    ev_deferred_init(&p->go, go, p);
    *ret = p;
    return 0;
}

static bool queued(const struct purge *p, const char *path)
{
    if (p->now && strcmp(p->now->path, path) == 0)
        return true;
    QVD_LIST_FOREACH (i, &p->items, struct item, node)
        if (strcmp(i->path, path) == 0)
            return true;
    return false;
}

int purge_add(struct purge *p, const char *path, bool urgent, purge_fn *done, void *arg)
{
    if (!done && queued(p, path))
        return 0;
    struct item *i = calloc(1, sizeof *i);
    char *copy = strdup(path);
    if (!i || !copy) {
        free(i);
        free(copy);
        return -ENOMEM;
    }
    *i = (struct item){.path = copy, .done = done, .arg = arg};
    list_init(&i->node);
    list_append(urgent ? p->items.next : &p->items, &i->node);
    ev_defer(p->loop, &p->go);
    return 0;
}

void purge_scan(struct purge *p, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        if (!str_starts(e->d_name, "deleteme-"))
            continue;
        _cleanup_(free_p) char *path = str_printf("%s/%s", dir, e->d_name);
        if (path && purge_add(p, path, false, NULL, NULL) < 0)
            break; /* the next scan finds it */
    }
    if (d)
        closedir(d);
}

struct purge *purge_free(struct purge *p)
{
    if (!p)
        return NULL;
    ev_deferred_cancel(&p->go);
    if (p->child)
        (void)ev_child_kill(p->child, SIGKILL);
    ev_child_free(p->child);
    item_free(p->now);
    QVD_LIST_FOREACH (i, &p->items, struct item, node)
        item_free(i);
    free(p);
    return NULL;
}
