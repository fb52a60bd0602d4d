// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/net/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "ev/child.h"

#define TIMEOUT_MS 10000
#define OUTPUT_MAX 4096

struct waiter {
    struct list node;
    batch_fn *done;
    void *arg;
};

struct batch {
    struct ev_loop *loop;
    const char *argv[5];
    struct buf pending;
    struct list waiting, running;
    struct ev_command *command;
    struct ev_deferred go;
};

static void finish(struct batch *b, int result, const struct qvd_error *err)
{
    /* A waiter may ask for more inside; that goes with the next run. */
    while (!list_empty(&b->running)) {
        struct waiter *w = QVD_CONTAINER(b->running.next, struct waiter, node);
        list_remove(&w->node);
        if (w->done)
            w->done(w->arg, result, err);
        free(w);
    }
}

static void on_done(void *arg, const struct ev_command_result *result)
{
    struct batch *b = arg;
    struct qvd_error err = {0};
    char text[32];

    b->command = NULL;
    if (result->status != 0) {
        const char *why = *result->errors ? result->errors : result->out;
        qvd_error_set(&err, -EIO, "%s: %s: %.*s", b->argv[0],
                      ev_child_status_text(result->status, text, sizeof text),
                      (int)strcspn(why, "\n"), why);
    }
    finish(b, err.code, &err);
    if (b->pending.len > 0)
        ev_defer(b->loop, &b->go);
}

static void go(void *arg)
{
    struct batch *b = arg;
    struct qvd_error err = {0};

    if (b->command || b->pending.len == 0)
        return;
    while (!list_empty(&b->waiting)) {
        struct list *node = b->waiting.next;
        list_remove(node);
        list_append(&b->running, node);
    }
    int r = ev_command_run(b->loop, b->argv, (const char *)b->pending.data, b->pending.len,
                           OUTPUT_MAX, TIMEOUT_MS, on_done, b, &b->command, &err);
    buf_consume(&b->pending, b->pending.len);
    if (r < 0)
        finish(b, r, &err);
}

int batch_new(struct ev_loop *loop, const char *program, const char *option, const char *more,
              struct batch **ret)
{
    struct batch *b = calloc(1, sizeof *b);

    if (!b)
        return -ENOMEM;
    *b = (struct batch){
        .loop = loop, .argv = {program, option, more ? more : "-", more ? "-" : NULL, NULL}
    };
    buf_init(&b->pending, 0);
    list_init(&b->waiting);
    list_init(&b->running);
    ev_deferred_init(&b->go, go, b);
    *ret = b;
    return 0;
}

int batch_add(struct batch *b, const char *text, size_t len, batch_fn *done, void *arg)
{
    struct waiter *w = calloc(1, sizeof *w);
    int r = w ? buf_append(&b->pending, text, len) : -ENOMEM;

    if (r < 0) {
        free(w);
        return r;
    }
    w->done = done;
    w->arg = arg;
    list_init(&w->node);
    list_append(&b->waiting, &w->node);
    if (!b->command)
        ev_defer(b->loop, &b->go);
    return 0;
}

void batch_forget(struct batch *b, const void *arg)
{
    QVD_LIST_FOREACH (w, &b->waiting, struct waiter, node)
        if (w->arg == arg)
            w->done = NULL;
    QVD_LIST_FOREACH (w, &b->running, struct waiter, node)
        if (w->arg == arg)
            w->done = NULL;
}

struct batch *batch_free(struct batch *b)
{
    if (!b)
        return NULL;
    ev_deferred_cancel(&b->go);
    ev_command_cancel(b->command);
    QVD_LIST_FOREACH (w, &b->waiting, struct waiter, node)
        free(w);
    QVD_LIST_FOREACH (w, &b->running, struct waiter, node)
        free(w);
    buf_done(&b->pending);
    free(b);
    return NULL;
}
