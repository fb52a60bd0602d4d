// SPDX-License-Identifier: GPL-3.0-or-later
/* The room node behind a line protocol, for end-to-end tests without hkd and database: orders on
 * stdin, one line an event on stdout. Settings come from a file (-f FILE, as node.conf).
 *
 *   start ID HYPERVISOR DI IMAGE IP MAC MEMORY [persistent] [home] [readonly]
 *   term ID | kill ID | adopt ID | forget ID | running | load | lease ID IP MAC | quit [all] */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "conf/conf.h"
#include "node/vm.h"

static struct ev_loop *loop;
static struct node *node;
static struct map *vms;

struct run {
    uint64_t id;
    struct node_vm *vm;
};

static void say(const char *fmt, ...) printf_like(1, 2);
static void say(const char *fmt, ...)
{
    va_list ap;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%lld.%06ld ", (long long)now.tv_sec, now.tv_nsec / 1000);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

static void progress(void *arg, unsigned percent)
{
    say("progress %" PRIu64 " %u", ((struct run *)arg)->id, percent);
}

static void started(void *arg)
{
    struct run *r = arg;

    say("started %" PRIu64 " %d", r->id, node_vm_pid(r->vm));
}

static void ready(void *arg)
{
    struct run *r = arg;

    node_vm_settle(r->vm); /* as hkd: it has come up */
    say("ready %" PRIu64, r->id);
}

static void gone(void *arg, const struct node_vm_exit *e)
{
    struct run *r = arg;

    say("gone %" PRIu64 " %s %d %s", r->id, node_vm_end_to_string(e->end), e->code, e->text);
    (void)map_take_u64(vms, r->id);
    node_vm_free(r->vm);
    free(r);
}

static const struct node_vm_fns fns = {progress, started, ready, gone};

static struct run *run_new(uint64_t id)
{
    struct run *r = calloc(1, sizeof *r);

    if (!r)
        abort();
    r->id = id;
    return r;
}

static void keep(struct run *r)
{
    if (map_put_u64(vms, r->id, r) < 0)
        abort();
}

static bool has(char *words[], int n, const char *word)
{
    for (int i = 8; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return false;
}

static void order_start(char *words[], int n)
{
    struct qvd_error err = {0};
    uint64_t id = strtoull(words[1], NULL, 10);
    struct node_vm_spec spec = {
        .id = id,
        .user_id = 7,
        .di_id = strtoull(words[3], NULL, 10),
        .hypervisor = words[2],
        .image = words[4],
        .ip = words[5],
        .mac = words[6],
        .memory_mb = (uint32_t)strtoul(words[7], NULL, 10),
        .persistent = has(words, n, "persistent"),
        .own_home = has(words, n, "home"),
        .use_overlay = !has(words, n, "readonly"),
    };

    memset(spec.secret, 'S', sizeof spec.secret);
    struct run *r = run_new(id);
    if (node_vm_start(node, &spec, &fns, r, &r->vm, &err) < 0) {
        say("refused %" PRIu64 " %s", id, err.text);
        free(r);
        return;
    }
    keep(r);
}

static void order_adopt(uint64_t id)
{
    struct qvd_error err = {0};
    struct node_vm_exit e;
    struct run *r = run_new(id);

    if (node_vm_adopt(node, id, &fns, r, &r->vm, &e, &err) == 0) {
        say("adopted %" PRIu64 " %d", id, node_vm_pid(r->vm));
        keep(r);
        return;
    }
    say("ended %" PRIu64 " %s %s", id, node_vm_end_to_string(e.end), e.text);
    free(r);
}

static void order_running(void)
{
    uint64_t ids[64];
    char line[1024] = "";
    size_t n = node_running(node, ids, 64), at = 0;

    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(line + at, sizeof line - at, " %" PRIu64, ids[i]);
    say("running%s", line);
}

static void on_stopped(void *arg, int result, const struct qvd_error *err)
{
    say("stopped %d %s", result, err->text);
    ev_loop_stop(loop, 0);
}

static void order(char *words[], int n)
{
    struct qvd_error err = {0};
    uint64_t id = n > 1 ? strtoull(words[1], NULL, 10) : 0;
    struct run *r = map_get_u64(vms, id);
    struct node_load load;

    if (strcmp(words[0], "start") == 0 && n >= 8)
        order_start(words, n);
    else if (strcmp(words[0], "adopt") == 0)
        order_adopt(id);
    else if ((strcmp(words[0], "term") == 0 || strcmp(words[0], "kill") == 0) && r) {
        node_vm_settle(r->vm); /* somebody ends it: no failed start */
        say("%s %d", words[0], *words[0] == 't' ? node_vm_term(r->vm) : node_vm_kill(r->vm));
    } else if (strcmp(words[0], "running") == 0)
        order_running();
    else if (strcmp(words[0], "load") == 0 && node_load_read(node, &load) == 0)
        say("load %.0f %.0f %.3f %.3f", load.usable_ram_mb, load.usable_cpu, load.free_ram,
            load.free_cpu);
    else if (strcmp(words[0], "lease") == 0 && n == 4)
        say("lease %d", node_lease_set(node, &(struct node_lease){
                                                 .vm_id = id, .ip = words[2], .mac = words[3]}));
    else if (strcmp(words[0], "unlease") == 0)
        say("unlease %d", node_lease_remove(node, id));
    else if (strcmp(words[0], "quit") == 0 && n > 1) {
        if (node_stop(node, on_stopped, NULL, &err) < 0)
            say("error %s", err.text);
    } else if (strcmp(words[0], "quit") == 0)
        ev_loop_stop(loop, 0);
    else
        say("what? %s", words[0]);
}

static void on_input(void *arg, unsigned events)
{
    static struct buf in;
    char chunk[1024], *text, *end;
    ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);

    if (n <= 0 || buf_append(&in, chunk, (size_t)n) < 0) {
        ev_loop_stop(loop, 0);
        return;
    }
    while ((text = buf_cstr(&in)) && (end = strchr(text, '\n'))) {
        char *words[16], *save = NULL;
        int count = 0;
        *end = '\0';
        for (char *w = strtok_r(text, " ", &save); w && count < 16; w = strtok_r(NULL, " ", &save))
            words[count++] = w;
        if (count > 0)
            order(words, count);
        buf_consume(&in, (size_t)(end - text) + 1);
    }
}

static void on_log(void *arg, const char *text)
{
    say("log %s", text);
}

static void on_started(void *arg, int result, const struct qvd_error *err)
{
    if (result < 0) {
        say("error %s", err->text);
        ev_loop_stop(loop, 1);
    } else
        say("begun %s", node_cgroup_text(node));
}

/* libexec: where qvd-guard and qvd-unpack are; data: where lxc.seccomp is. */
int main(int argc, char **argv)
{
    struct qvd_error err = {0};
    struct conf *c = conf_new(NULL, NULL);
    struct node_settings s;
    struct ev_io *io;
    uint64_t key;
    struct run *r;

    log_open("node-driver");
    log_set_level(LOG_LEVEL_DEBUG);
    if (argc != 4 || !c || ev_loop_new(&loop) < 0 || !(vms = map_new_u64())) {
        fputs("usage: node-driver SETTINGS LIBEXEC DATA\n", stderr);
        return 2;
    }
    if (conf_load(c, argv[1], &err) < 0) {
        say("error %s", err.text);
        return 1;
    }
    node_settings_from_conf(c, &s);
    s.libexec_dir = argv[2];
    s.data_dir = argv[3];
    if (node_new(loop, &s, on_log, NULL, &node, &err) < 0 ||
        node_start(node, on_started, NULL, &err) < 0) {
        say("error %s", err.text);
        node_free(node);
        return 1;
    }
    if (ev_io_new(loop, STDIN_FILENO, EV_IO_IN, on_input, NULL, &io) < 0)
        return 1;
    int code = ev_loop_run(loop);
    for (size_t at = 0; (r = map_next(vms, &at, &key));) {
        node_vm_free(r->vm);
        free(r);
    }
    map_free(vms);
    ev_io_free(io);
    node_free(node);
    conf_free(c);
    ev_loop_free(loop);
    return code;
}
