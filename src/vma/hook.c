// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/hook.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "ev/child.h"

#define LOG_NAME "qvd-hooks.log"
#define LOG_MAX (4 << 20)

struct hook {
    char key[64];
    struct ev_child *child;
    struct ev_timer *limit;
    int log_fd;
    int64_t began;
    bool timed_out;
    hook_done_fn *done; /* NULL: cancelled, only to be reaped */
    void *arg;
    struct list node; /* among the cancelled */
};

static struct list cancelled = QVD_LIST_INIT(cancelled);

/* Opened for each hook: whoever rotates or removes the file needs to tell nobody. */
static int open_log(const struct conf *conf)
{
    const char *dir = conf_str(conf, "path.log");
    _cleanup_(free_p) char *path = str_printf("%s/" LOG_NAME, dir);
    _cleanup_(free_p) char *old = str_printf("%s/" LOG_NAME ".1", dir);
    struct stat st;

    if (!path || !old || fs_mkdirs(dir, 0755) < 0)
        return -EBADF;
    if (lstat(path, &st) == 0 && st.st_size > LOG_MAX && rename(path, old) < 0)
        log_debug("cannot rename %s", path);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        log_warning("%s: %s, the output of hooks is lost", path, strerror(errno));
    return fd;
}

static void note(const struct hook *h, const char *text)
{
    struct timespec ts;
    char line[512], when[32];
    struct tm tm;

    if (h->log_fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)!snprintf(line, sizeof line, "%s.%03ldZ %s: %s\n", when, ts.tv_nsec / 1000000, h->key,
                    text);
    if (fs_write_all(h->log_fd, line, strlen(line)) < 0)
        log_debug(LOG_NAME " takes no more");
}

static struct hook *hook_free(struct hook *h)
{
    list_remove(&h->node);
    ev_timer_free(h->limit);
    ev_child_free(h->child);
    fd_close(h->log_fd);
    free(h);
    return NULL;
}

static void on_gone(void *arg, int status)
{
    struct hook *h = arg;
    struct qvd_error err = {0};
    char how[32], text[128];

    (void)ev_child_status_text(status, how, sizeof how);
    if (h->timed_out)
        (void)qvd_error_set(&err, -EPERM, "hook %s took too long and was killed", h->key);
    else if (status != 0)
        (void)qvd_error_set(&err, -EPERM, "hook %s failed (%s)", h->key, how);
    if (err.code && h->done)
        log_warning("%s", err.text);
    (void)!snprintf(text, sizeof text, "%s after %lld ms", h->timed_out ? "killed: too long" : how,
                    (long long)(clock_ms() - h->began));
    note(h, text);
    hook_done_fn *done = h->done;
    void *owner = h->arg;
    hook_free(h);
    if (done)
        done(owner, &err);
}

static void on_limit(void *arg)
{
    struct hook *h = arg;

    h->timed_out = true;
    (void)kill(-ev_child_pid(h->child), SIGKILL);
}

struct arguments {
    const char *argv[2 * WIRE_PARAMS_MAX + 8];
    size_t n;
};

static void add(struct arguments *a, const char *name, const char *value)
{
    a->argv[a->n++] = name;
    a->argv[a->n++] = value;
}

static void fill(struct arguments *a, const struct hook_spec *spec, const char *path)
{
    a->argv[a->n++] = path;
    for (size_t i = 0; spec->params && i < wire_params_count(spec->params); i++)
        add(a, wire_params_name(spec->params, i), wire_params_value(spec->params, i));
    if (spec->state != WIRE_X_STATE_INVALID)
        add(a, "qvd.vm.session.state", wire_x_state_to_string(spec->state));
    add(a, spec->name, spec->value);
    a->argv[a->n] = NULL;
}

static must_check int start(struct hook *h, struct ev_loop *loop, const struct conf *conf,
                            const struct hook_spec *spec, const char *path, struct qvd_error *err)
{
    struct arguments a = {.n = 0};
    char display[32], lang[128];
    const char *const envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "HOME=/root",
                                "SHELL=/bin/sh",
                                display,
                                lang,
                                NULL};
    const struct ev_child_fd out[] = {
        {h->log_fd, 1},
        {h->log_fd, 2}
    };

    fill(&a, spec, path);
    snprintf(display, sizeof display, "DISPLAY=:%d", (int)conf_int(conf, "vma.display"));
    (void)!snprintf(lang, sizeof lang, "LANG=%s", conf_str(conf, "vma.default.lang"));
    const struct ev_child_spec child = {.path = path,
                                        .argv = a.argv,
                                        .envp = envp,
                                        .fds = out,
                                        .n_fds = ARRAY_SIZE(out),
                                        .death_signal = spec->stays ? 0 : SIGKILL,
                                        .new_session = true};
    int r = ev_timer_new(loop, on_limit, h, &h->limit);
    if (r < 0)
        return qvd_error_errno(err, r, "hook %s", h->key);
    h->began = clock_ms();
    note(h, path);
    r = ev_child_spawn(loop, &child, on_gone, h, &h->child, err);
    if (r == 0)
        ev_timer_arm(h->limit, conf_ms(conf, spec->limit ? spec->limit : "vma.hook.timeout"));
    return r;
}

int hook_run(struct ev_loop *loop, const struct conf *conf, const struct hook_spec *spec,
             hook_done_fn *done, void *arg, struct hook **ret_hook, struct qvd_error *err)
{
    const char *path = conf_custom(conf, -1, spec->key);
    struct qvd_error why = {0};

    if (!path || !*path)
        return 1;
    if (*path != '/')
        return qvd_error_set(err, -EPERM, "hook %s must be an absolute path, not %s", spec->key,
                             path);
    struct hook *h = calloc(1, sizeof *h);
    if (!h)
        return qvd_error_set(err, -ENOMEM, "hook %s: out of memory", spec->key);
    *h = (struct hook){.done = done, .arg = arg, .log_fd = -EBADF};
    list_init(&h->node);
    (void)!snprintf(h->key, sizeof h->key, "%s", spec->key);
    h->log_fd = open_log(conf);
    if (start(h, loop, conf, spec, path, &why) < 0) {
        note(h, why.text);
        hook_free(h);
        return qvd_error_set(err, -EPERM, "hook %s cannot be run: %s", spec->key, why.text);
    }
    log_info("hook %s runs: %s", spec->key, path);
    *ret_hook = h;
    return 0;
}

struct hook *hook_cancel(struct hook *h)
{
    if (h) {
        (void)kill(-ev_child_pid(h->child), SIGKILL);
        note(h, "killed: no longer wanted");
        h->limit = ev_timer_free(h->limit);
        h->done = NULL; /* on_gone() frees it */
        list_append(&cancelled, &h->node);
    }
    return NULL;
}

void hook_free_cancelled(void)
{
    QVD_LIST_FOREACH (h, &cancelled, struct hook, node)
        hook_free(h);
}

struct hook *hook_forget(struct hook *h)
{
    return h ? hook_free(h) : NULL;
}
