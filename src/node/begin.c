// SPDX-License-Identifier: GPL-3.0-or-later
/* Putting a node in order when hkd starts, and leaving it when hkd ends. */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "node/net/nft.h"
#include "node/node-internal.h"
#include "node/run.h"

#define TRIAL_TIMEOUT_MS 60000
#define SWEEP_TIMEOUT_MS 20000

struct dead {
    struct list node;
    struct run_vm vm;
};

struct node_begin {
    struct node *n;
    node_done_fn *done;
    void *arg;
    struct ev_command *command;
    struct list dead; /* to be swept, one after the other */
    bool by_bridge;
};

struct node_begin *node_begin_free(struct node_begin *b)
{
    if (!b)
        return NULL;
    batch_forget(b->n->nft, b);
    batch_forget(b->n->ip, b);
    batch_forget(b->n->links, b);
    ev_command_cancel(b->command);
    QVD_LIST_FOREACH (d, &b->dead, struct dead, node)
        free(d);
    free(b);
    return NULL;
}

static void finish(struct node_begin *b, int result, const struct qvd_error *err)
{
    node_done_fn *done = b->done;
    void *arg = b->arg;

    b->n->begin = NULL;
    node_begin_free(b);
    done(arg, result, err);
}

void node_lxc_config_remove(struct node *n, uint64_t id)
{
    char path[256], dir[224];

    if (str_format(dir, sizeof dir, "%s/qvd-%llu", n->s.lxc_dir, (unsigned long long)id) < 0 ||
        str_format(path, sizeof path, "%s/config", dir) < 0)
        return;
    (void)unlink(path);
    (void)rmdir(dir);
}

bool node_record_take(struct node *n, uint64_t id, enum node_vm_end *ret_end, char *ret_text)
{
    struct record *r = map_take_u64(n->records, id);

    if (!r)
        return false;
    *ret_end = r->end;
    memcpy(ret_text, r->text, sizeof r->text);
    free(r);
    return true;
}

int node_sweep_run(struct node *n, uint64_t id, const struct run_note *note, ev_command_fn *done,
                   void *arg, struct ev_command **ret, struct qvd_error *err)
{
    char guard[256], vm[24], dir[256];
    const char *argv[16] = {guard,   "--sweep", "--vm",        vm,
                            "--run", dir,       "--cgroup-fs", n->s.cgroup_dir};
    size_t a = 8;

    if (str_format(guard, sizeof guard, "%s/qvd-guard", n->s.libexec_dir) < 0 ||
        str_format(vm, sizeof vm, "%llu", (unsigned long long)id) < 0 ||
        run_path(n->s.run_dir, id, NULL, dir) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "vm %s: its path is too long", vm);
    if (*note->cgroup) {
        argv[a++] = "--cgroup";
        argv[a++] = note->cgroup;
    }
    if (*note->overlay) {
        argv[a++] = "--overlay";
        argv[a++] = note->overlay;
        argv[a++] = "--fresh";
    }
    return ev_command_run(n->loop, argv, NULL, 0, 1024, SWEEP_TIMEOUT_MS, done, arg, ret, err);
}

static void on_dhcp(struct node_begin *b)
{
    struct qvd_error err = {0};
    int r = b->n->dhcp ? dhcp_start(b->n->dhcp, &err) : 0;

    purge_scan(b->n->purge, b->n->s.overlayfs, b->n->s.failed_keep_s);
    purge_scan(b->n->purge, b->n->s.basefs, 0);
    image_sweep(b->n->images);
    finish(b, r, &err);
}

static void on_ip(void *arg, int result, const struct qvd_error *err)
{
    if (result < 0)
        finish(arg, result, err);
    else
        on_dhcp(arg);
}

/* Is it the port of a VM that runs? */
static bool port_in_use(const struct node *n, const char *name)
{
    const struct run_vm *vm;

    for (size_t at = 0; (vm = map_next(n->left, &at, NULL));)
        if (strcmp(vm->note.port, name) == 0)
            return true;
    return false;
}

static bool port_name(const char *name)
{
    uint64_t id;

    return str_starts(name, "qvd") && str_to_u64(name + 3, INT64_MAX, &id) == 0;
}

/* A bridge takes the address of one of its ports, unless it was given one; whenever it changes, the
 * kernel forgets all neighbours, permanent ones too. So it is given the one that it has. */
static must_check int pin_bridge(const struct node *n, struct buf *out)
{
    char path[128], mac[18];
    _cleanup_(free_p) char *text = NULL;

    if (str_format(path, sizeof path, "/sys/class/net/%s/address", n->net.bridge) < 0)
        return -ENAMETOOLONG;
    int r = fs_read(path, 64, &text, NULL);
    if (r == 0)
        r = addr_mac(str_trim(text), mac);
    return r < 0 ? r : buf_printf(out, "link set dev %s address %s\n", n->net.bridge, mac);
}

/* Neighbours become those of the VMs that run. */
static must_check int neighbours_text(const struct node *n, struct buf *out)
{
    const struct run_vm *vm;
    int r = pin_bridge(n, out);

    if (r == 0)
        r = buf_printf(out, "neigh flush dev %s nud permanent\n", n->net.bridge);
    for (size_t at = 0; r == 0 && (vm = map_next(n->left, &at, NULL));)
        if (*vm->note.port)
            r = buf_printf(out, "neigh replace %s lladdr %s dev %s nud permanent\n", vm->note.ip,
                           vm->note.mac, n->net.bridge);
    return r;
}

/* Links of VMs that do not run. */
static must_check int links_text(const struct node *n, struct buf *out)
{
    struct if_nameindex *all = if_nameindex();
    int r = 0;

    for (struct if_nameindex *i = all; r == 0 && i && i->if_name; i++)
        if (port_name(i->if_name) && !port_in_use(n, i->if_name))
            r = buf_printf(out, "link del dev %s\n", i->if_name);
    if (all)
        if_freenameindex(all);
    return r;
}

static void do_neighbours(struct node_begin *b)
{
    struct qvd_error err = {0};
    struct buf text;

    buf_init(&text, 0);
    int r = neighbours_text(b->n, &text);
    if (r == 0)
        r = batch_add(b->n->ip, (const char *)text.data, text.len, on_ip, b);
    buf_done(&text);
    if (r < 0) {
        qvd_error_errno(&err, r, "cannot set neighbours");
        finish(b, r, &err);
    }
}

/* One that has gone by itself is as good. */
static void on_links(void *arg, int result, const struct qvd_error *err)
{
    struct node_begin *b = arg;

    if (result < 0)
        node_log(b->n, "removing dead VMs' links, ignoring: %s", err->text);
    do_neighbours(b);
}

static void do_links(struct node_begin *b)
{
    struct qvd_error err = {0};
    struct buf text;

    buf_init(&text, 0);
    int r = links_text(b->n, &text);
    if (r == 0 && text.len > 0)
        r = batch_add(b->n->links, (const char *)text.data, text.len, on_links, b);
    else if (r == 0)
        do_neighbours(b);
    buf_done(&text);
    if (r < 0) {
        qvd_error_errno(&err, r, "cannot remove links");
        finish(b, r, &err);
    }
}

static void do_firewall(struct node_begin *b);

static void on_firewall(void *arg, int result, const struct qvd_error *err)
{
    struct node_begin *b = arg;

    if (result < 0 && b->by_bridge) {
        b->by_bridge = false; /* a kernel without NFT_BRIDGE_META */
        do_firewall(b);
        return;
    }
    if (result < 0) {
        struct qvd_error e = *err;
        (void)qvd_error_wrap(&e, "the firewall cannot be loaded (needs nftables with the bridge "
                                 "family)");
        finish(b, result, &e);
        return;
    }
    if (!b->by_bridge)
        node_log(b->n,
                 "this kernel does not tell bridges apart in nftables (NFT_BRIDGE_META): "
                 "ports of bridges other than %s are closed too",
                 b->n->net.bridge);
    do_links(b);
}

static must_check int firewall_text(const struct node_begin *b, struct buf *out)
{
    const struct node *n = b->n;
    size_t count = 0, max = map_count(n->left);
    struct nft_port *ports = calloc(max + 1, sizeof *ports);
    const struct run_vm *vm;

    if (!ports)
        return -ENOMEM;
    for (size_t at = 0; count < max && (vm = map_next(n->left, &at, NULL));)
        if (*vm->note.port)
            ports[count++] = (struct nft_port){vm->note.port, vm->note.mac, vm->note.ip};
    struct nft_rules rules = {.plan = &n->net,
                              .by_bridge = b->by_bridge,
                              .vma_port = n->s.vma_port,
                              .x_port = n->s.x_port,
                              .broker_uid = n->broker_uid,
                              .ports = ports,
                              .n_ports = count};
    int r = nft_rules(&rules, out);
    free(ports);
    return r;
}

static void do_firewall(struct node_begin *b)
{
    struct qvd_error err = {0};
    struct buf text;

    buf_init(&text, 0);
    int r = firewall_text(b, &text);
    if (r == 0)
        r = batch_add(b->n->nft, (const char *)text.data, text.len, on_firewall, b);
    buf_done(&text);
    if (r < 0) {
        qvd_error_errno(&err, r, "cannot load the firewall");
        finish(b, r, &err);
    }
}

/* Keeps what the dead VM's guard wrote, for hkd to ask. */
static void keep_record(struct node *n, uint64_t id)
{
    struct record *r = calloc(1, sizeof *r);

    if (!r)
        return;
    if (run_exit_read(n->s.run_dir, id, &r->end, r->text) < 0) {
        r->end = NODE_END_CRASHED;
        (void)!snprintf(r->text, sizeof r->text, "its guard was killed while hkd was away");
    }
    if (map_put_u64(n->records, id, r) < 0)
        free(r);
}

static void sweep_next(struct node_begin *b);

static void on_swept(void *arg, const struct ev_command_result *result)
{
    struct node_begin *b = arg;
    struct dead *d = QVD_CONTAINER(b->dead.next, struct dead, node);

    b->command = NULL;
    if (result->status != 0)
        node_log(b->n, "vm %llu: what it left could not be swept: %.*s",
                 (unsigned long long)d->vm.id, (int)strcspn(result->errors, "\n"), result->errors);
    keep_record(b->n, d->vm.id);
    run_remove(b->n->s.run_dir, d->vm.id);
    node_lxc_config_remove(b->n, d->vm.id);
    list_remove(&d->node);
    free(d);
    sweep_next(b);
}

static void sweep_next(struct node_begin *b)
{
    struct qvd_error err = {0};

    if (list_empty(&b->dead)) {
        do_firewall(b);
        return;
    }
    struct dead *d = QVD_CONTAINER(b->dead.next, struct dead, node);
    int r = node_sweep_run(b->n, d->vm.id, &d->vm.note, on_swept, b, &b->command, &err);
    if (r < 0)
        finish(b, r, &err);
}

static void on_found(void *arg, const struct run_vm *vm)
{
    struct node_begin *b = arg;
    struct dead *d = calloc(1, sizeof *d);
    struct run_vm *copy = calloc(1, sizeof *copy);

    if (!d || !copy) {
        free(d);
        free(copy);
        return;
    }
    if (vm->guard > 0) {
        *copy = *vm;
        free(d);
        if (map_put_u64(b->n->left, vm->id, copy) < 0)
            free(copy);
        return;
    }
    d->vm = *vm;
    list_init(&d->node);
    list_append(&b->dead, &d->node);
    free(copy);
}

/* What could not be cleaned is tried again at the next start. */
static void on_strays(void *arg, const struct ev_command_result *result)
{
    struct node_begin *b = arg;

    b->command = NULL;
    for (const char *line = result->out; *line; line += *line == '\n') {
        size_t len = strcspn(line, "\n");
        node_log(b->n, "a cgroup of no VM: %.*s", (int)len, line);
        line += len;
    }
    if (result->status != 0)
        node_log(b->n, "cgroups of no VM could not all be swept: %.*s",
                 (int)strcspn(result->errors, "\n"), result->errors);
    run_scan(b->n->s.run_dir, on_found, b);
    sweep_next(b);
}

/* Cgroups of VMs that not even a folder tells of any more. */
static void sweep_strays(struct node_begin *b)
{
    struct qvd_error err = {0};
    char guard[256], names[40];
    const char *argv[] = {guard,           "--strays",         "--run",
                          b->n->s.run_dir, "--cgroup",         names,
                          "--cgroup-fs",   b->n->s.cgroup_dir, NULL};
    int r = str_format(guard, sizeof guard, "%s/qvd-guard", b->n->s.libexec_dir);

    if (r == 0)
        r = str_format(names, sizeof names, "qvd%s-", b->n->cgroup_mark);
    r = r < 0 ? qvd_error_errno(&err, r, "cannot sweep cgroups")
              : ev_command_run(b->n->loop, argv, NULL, 0, 4096, SWEEP_TIMEOUT_MS, on_strays, b,
                               &b->command, &err);
    if (r < 0)
        finish(b, r, &err);
}

static void on_trial(void *arg, const struct ev_command_result *result)
{
    struct node_begin *b = arg;
    struct qvd_error err = {0};
    char text[32];

    b->command = NULL;
    if (result->status != 0) {
        qvd_error_set(&err, -EOPNOTSUPP, "trial mount: %.*s", (int)strcspn(result->errors, "\n"),
                      result->errors_len ? result->errors
                                         : ev_child_status_text(result->status, text, sizeof text));
        finish(b, err.code, &err);
        return;
    }
    sweep_strays(b);
}

static must_check int begin_new(struct node *n, node_done_fn *done, void *arg,
                                struct node_begin **ret, struct qvd_error *err)
{
    struct node_begin *b = calloc(1, sizeof *b);

    if (n->begin || !b) {
        free(b);
        return qvd_error_errno(err, n->begin ? EBUSY : ENOMEM, "cannot begin");
    }
    *b = (struct node_begin){.n = n, .done = done, .arg = arg, .by_bridge = true};
    list_init(&b->dead);
    n->begin = b;
    *ret = b;
    return 0;
}

int node_start(struct node *n, node_done_fn *done, void *arg, struct qvd_error *err)
{
    char guard[256], dir[256], idmap[16];
    const char *argv[] = {guard,         "--trial",      "--run",   dir,   "--basefs", n->s.basefs,
                          "--overlayfs", n->s.overlayfs, "--idmap", idmap, NULL};
    struct node_begin *b;

    if (str_format(guard, sizeof guard, "%s/qvd-guard", n->s.libexec_dir) < 0 ||
        str_format(dir, sizeof dir, "%s/trial", n->s.run_dir) < 0 ||
        str_format(idmap, sizeof idmap, "%u", n->s.idmap_base) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "path.run is too long");
    int r = fs_mkdirs(dir, 0711);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot make %s", dir);
    r = begin_new(n, done, arg, &b, err);
    if (r < 0)
        return r;
    r = ev_command_run(n->loop, argv, NULL, 0, 1024, TRIAL_TIMEOUT_MS, on_trial, b, &b->command,
                       err);
    if (r < 0)
        n->begin = node_begin_free(b);
    return r;
}

static void on_removed(void *arg, int result, const struct qvd_error *err)
{
    finish(arg, result, err);
}

int node_stop(struct node *n, node_done_fn *done, void *arg, struct qvd_error *err)
{
    struct node_begin *b;
    struct buf text;
    int r = begin_new(n, done, arg, &b, err);

    if (r < 0)
        return r;
    buf_init(&text, 0);
    r = nft_remove(&text);
    if (r == 0)
        r = batch_add(n->nft, (const char *)text.data, text.len, on_removed, b);
    buf_done(&text);
    if (r < 0) {
        n->begin = node_begin_free(b);
        return qvd_error_errno(err, r, "cannot remove the firewall");
    }
    return 0;
}
