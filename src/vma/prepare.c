// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/prepare.h"

#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "vma/hook.h"
#include "vma/options.h"
#include "vma/region.h"

struct prepare {
    struct ev_loop *loop;
    const struct conf *conf;
    struct wire_params *params;
    bool fresh;
    struct user user;
    struct hook *hook;
    struct user_job *user_job;
    struct ev_timer *begin;
    prepare_done_fn *done;
    void *arg;
};

struct prepare *prepare_cancel(struct prepare *p)
{
    if (p) {
        hook_cancel(p->hook);
        user_cancel(p->user_job);
        ev_timer_free(p->begin);
        free(p);
    }
    return NULL;
}

static void finish(struct prepare *p, const struct qvd_error *err)
{
    prepare_done_fn *done = p->done;
    struct qvd_error copy = *err;
    struct user user = p->user;
    void *arg = p->arg;

    prepare_cancel(p);
    done(arg, &user, &copy);
}

/* Runs an action hook; true when it runs or has failed. */
static bool run_hook(struct prepare *p, const char *key, const char *name, enum wire_x_state state,
                     hook_done_fn *done)
{
    const struct hook_spec spec = {.key = key,
                                   .params = p->params,
                                   .state = state,
                                   .name = "qvd.hook.on_action",
                                   .value = name};
    struct qvd_error err;
    int r = hook_run(p->loop, p->conf, &spec, done, p, &p->hook, &err);

    if (r < 0)
        finish(p, &err);
    return r <= 0;
}

static void on_connect_hook(void *arg, const struct qvd_error *err)
{
    struct prepare *p = arg;

    p->hook = NULL;
    finish(p, err);
}

static void run_connect_hook(struct prepare *p)
{
    const struct qvd_error none = {0};

    if (!run_hook(p, "vma.on_action.connect", "connect",
                  p->fresh ? WIRE_X_PROVISIONING : WIRE_X_STARTING, on_connect_hook))
        finish(p, &none);
}

static void on_user(void *arg, const struct user *user, const struct qvd_error *err)
{
    struct prepare *p = arg;

    p->user_job = NULL;
    if (err->code) {
        finish(p, err);
        return;
    }
    p->user = *user;
    log_info("session: user %s, uid %u, home %s", user->name, (unsigned)user->uid, user->home);
    run_connect_hook(p);
}

static void after_pre_connect(struct prepare *p)
{
    struct qvd_error err;

    region_set_timezone(wire_params_get(p->params, "qvd.client.timezone"));
    if (!p->fresh) {
        run_connect_hook(p);
        return;
    }
    if (user_prepare(p->loop, p->conf, p->params, &p->user, on_user, p, &p->user_job) < 0) {
        (void)qvd_error_set(&err, -ENOMEM, "cannot prepare the account: out of memory");
        finish(p, &err);
    }
}

static void on_pre_connect(void *arg, const struct qvd_error *err)
{
    struct prepare *p = arg;

    p->hook = NULL;
    if (err->code)
        finish(p, err);
    else
        after_pre_connect(p);
}

/* A desktop that lives on belongs to who began it, whatever the farm says by now. */
static must_check int check_owner(const struct prepare *p, const struct user *wanted,
                                  struct qvd_error *err)
{
    if (p->fresh || strcmp(p->user.name, wanted->name) == 0)
        return 0;
    return qvd_error_set(err, -EPERM, "the desktop that runs here belongs to %s, not to %s",
                         p->user.name, wanted->name);
}

static void begin(void *arg)
{
    struct prepare *p = arg;
    struct user wanted;
    struct qvd_error err;
    int r = user_resolve(p->conf, p->params, &wanted, &err);

    if (r == 0)
        r = check_owner(p, &wanted, &err);
    if (r == 0 && options_tell_hooks(p->conf, p->params) < 0)
        r = qvd_error_set(&err, -ENOBUFS, "the session has too many parameters");
    if (r < 0) {
        finish(p, &err);
        return;
    }
    if (p->fresh)
        p->user = wanted;
    if (!run_hook(p, "vma.on_action.pre-connect", "pre_connect",
                  p->fresh ? WIRE_X_STOPPED : WIRE_X_SUSPENDED, on_pre_connect))
        after_pre_connect(p);
}

int prepare_begin(struct ev_loop *loop, const struct conf *conf, struct wire_params *params,
                  const struct user *present, prepare_done_fn *done, void *arg,
                  struct prepare **ret_prepare)
{
    struct prepare *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    *p = (struct prepare){.loop = loop,
                          .conf = conf,
                          .params = params,
                          .fresh = present == NULL,
                          .done = done,
                          .arg = arg};
    if (present)
        p->user = *present;
    if (ev_timer_new(loop, begin, p, &p->begin) < 0) {
        prepare_cancel(p);
        return -ENOMEM;
    }
    ev_timer_arm(p->begin, 0);
    *ret_prepare = p;
    return 0;
}
