// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/storage/purge.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/list.h"
#include "base/str.h"
#include "ev/child.h"

/* As the guard names them. */
#define FAILED "deleteme-failed-"
/* A trial folder that is older is nobody's. */
#define TRIAL_S 600

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

/* The VM of deleteme-failed-<vm>-<mark>; 0: it is none of these. */
static uint64_t failed_vm(const char *name)
{
    char number[24];
    uint64_t vm;
    size_t len;

    if (!str_starts(name, FAILED))
        return 0;
    len = strspn(name + sizeof FAILED - 1, "0123456789");
    if (name[sizeof FAILED - 1 + len] != '-' ||
        str_copy_n(number, sizeof number, name + sizeof FAILED - 1, len) < 0 ||
        str_to_u64(number, INT64_MAX, &vm) < 0)
        return 0;
    return vm;
}

static time_t age_of(DIR *d, const char *name, time_t now)
{
    struct stat st;

    return fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : now - st.st_mtime;
}

/* Is there a younger one of the same VM? */
static bool superseded(const char *dir, const char *name, uint64_t vm, time_t age, time_t now)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    bool found = false;

    while (d && !found && (e = readdir(d))) {
        time_t other;

        if (failed_vm(e->d_name) != vm || strcmp(e->d_name, name) == 0)
            continue;
        other = age_of(d, e->d_name, now);
        found = other < age || (other == age && strcmp(e->d_name, name) > 0);
    }
    if (d)
        closedir(d);
    return found;
}

/* Is it a trial's of a guard that was killed? One that lives takes a moment. */
static bool old_trial(DIR *d, const char *name, time_t now)
{
    return str_starts(name, ".trial-") && age_of(d, name, now) > TRIAL_S;
}

void purge_scan(struct purge *p, const char *dir, int64_t keep_s)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    time_t now = time(NULL);

    while (d && (e = readdir(d))) {
        uint64_t vm = failed_vm(e->d_name);
        time_t age = vm ? age_of(d, e->d_name, now) : 0;
        bool stays = vm && age < keep_s && !superseded(dir, e->d_name, vm, age, now);

        if (stays || (!str_starts(e->d_name, "deleteme-") && !old_trial(d, e->d_name, now)))
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
