// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/hook.h"

#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "ev/child.h"

#define OUTPUT_MAX 4096

struct hook {
    char key[64];
    struct ev_command *command;
    hook_done_fn *done;
    void *arg;
};

static void log_output(const struct hook *h, const char *text)
{
    size_t n = strlen(text);

    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0)
        log_info("hook %s: %.*s", h->key, (int)n, text);
}

static void on_done(void *arg, const struct ev_command_result *result)
{
    struct hook *h = arg;
    struct qvd_error err = {0};
    char status[32];

    log_output(h, result->out);
    log_output(h, result->errors);
    if (result->status == -1)
        (void)qvd_error_set(&err, -ETIMEDOUT, "hook %s took too long and was killed", h->key);
    else if (result->status != 0)
        (void)qvd_error_set(&err, -EIO, "hook %s failed (%s)", h->key,
                            ev_child_status_text(result->status, status, sizeof status));
    if (err.code)
        log_warning("%s", err.text);
    hook_done_fn *done = h->done;
    void *owner = h->arg;
    free(h);
    done(owner, &err);
}

int hook_run(struct ev_loop *loop, const struct conf *conf, const char *key,
             const struct wire_params *params, const char *name, const char *value,
             hook_done_fn *done, void *arg, struct hook **ret_hook, struct qvd_error *err)
{
    const char *path = conf_custom(conf, -1, key);
    const char *argv[2 * WIRE_PARAMS_MAX + 4];
    size_t n = 0;

    if (!path || !*path)
        return 1;
    if (*path != '/')
        return qvd_error_set(err, -EINVAL, "%s must be an absolute path, not %s", key, path);
    struct hook *h = calloc(1, sizeof *h);
    if (!h || str_copy(h->key, sizeof h->key, key) < 0) {
        free(h);
        return qvd_error_set(err, -ENOMEM, "hook %s: out of memory", key);
    }
    h->done = done;
    h->arg = arg;
    argv[n++] = path;
    for (size_t i = 0; params && i < wire_params_count(params); i++) {
        argv[n++] = wire_params_name(params, i);
        argv[n++] = wire_params_value(params, i);
    }
    argv[n++] = name;
    argv[n++] = value;
    argv[n] = NULL;
    int r = ev_command_run(loop, argv, NULL, 0, OUTPUT_MAX, conf_ms(conf, "vma.hook.timeout"),
                           on_done, h, &h->command, err);
    if (r < 0) {
        free(h);
        return r;
    }
    *ret_hook = h;
    return 0;
}

struct hook *hook_cancel(struct hook *h)
{
    if (h) {
        ev_command_cancel(h->command);
        free(h);
    }
    return NULL;
}
