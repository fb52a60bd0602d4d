// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/run.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "node/net/address.h"

#define PATH_SIZE 256

int run_path(const char *run_dir, uint64_t id, const char *name, char *dst)
{
    return str_format(dst, PATH_SIZE, "%s/vm/%llu%s%s", run_dir, (unsigned long long)id,
                      name ? "/" : "", name ? name : "") < 0
               ? -ENAMETOOLONG
               : 0;
}

int run_make(const char *run_dir, uint64_t id)
{
    char path[PATH_SIZE];
    int r = run_path(run_dir, id, NULL, path);

    if (r == 0)
        r = fs_mkdirs(path, 0711);
    if (r == 0)
        r = run_path(run_dir, id, "exit", path);
    if (r == 0 && unlink(path) < 0 && errno != ENOENT)
        r = -errno;
    if (r == 0)
        r = run_path(run_dir, id, "unsettled", path);
    _cleanup_(close_p) int fd = r < 0 ? r : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return r < 0 ? r : fd < 0 ? -errno : 0;
}

void run_settle(const char *run_dir, uint64_t id)
{
    char path[PATH_SIZE];

    if (run_path(run_dir, id, "unsettled", path) == 0)
        (void)unlink(path);
}

int run_note_write(const char *run_dir, uint64_t id, const struct run_note *n)
{
    char path[PATH_SIZE];
    int r = run_path(run_dir, id, "note", path);
    _cleanup_(free_p) char *text = str_printf("port %s\nmac %s\nip %s\noverlay %s\ncgroup %s\n",
                                              n->port, n->mac, n->ip, n->overlay, n->cgroup);

    if (r < 0 || !text)
        return r < 0 ? r : -ENOMEM;
    return fs_write_passing(path, text, strlen(text), 0600);
}

int run_note_parse(const char *text, struct run_note *ret)
{
    struct run_note n = {0};
    uint32_t ip;
    const struct {
        const char *key;
        char *dst;
        size_t size;
    } fields[] = {
        {"port ",    n.port,    sizeof n.port   },
        {"mac ",     n.mac,     sizeof n.mac    },
        {"ip ",      n.ip,      sizeof n.ip     },
        {"overlay ", n.overlay, sizeof n.overlay},
        {"cgroup ",  n.cgroup,  sizeof n.cgroup },
    };

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        size_t len = strcspn(text, "\n"), key = strlen(fields[i].key);
        if (!str_starts(text, fields[i].key) || text[len] != '\n' ||
            str_copy_n(fields[i].dst, fields[i].size, text + key, len - key) < 0)
            return -EBADMSG;
        text += len + 1;
    }
    if (*text || (*n.port && (!addr_ifname_ok(n.port) || addr_mac(n.mac, n.mac) < 0 ||
                              net_ip4_parse(n.ip, &ip) < 0)))
        return -EBADMSG;
    *ret = n;
    return 0;
}

int run_note_read(const char *run_dir, uint64_t id, struct run_note *ret)
{
    char path[PATH_SIZE];
    _cleanup_(free_p) char *text = NULL;
    int r = run_path(run_dir, id, "note", path);

    if (r == 0)
        r = fs_read(path, 4096, &text, NULL);
    return r < 0 ? r : run_note_parse(text, ret);
}

/* The kernel names the holder of a record lock. */
static must_check int holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

int run_guard(const char *run_dir, uint64_t id, int *ret_pidfd)
{
    char path[PATH_SIZE];
    int r = run_path(run_dir, id, "lock", path);

    if (r < 0)
        return r;
    _cleanup_(close_p) int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    pid_t pid = holder(fd);
    if (pid <= 0)
        return pid;
    _cleanup_(close_p) int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        return errno == ESRCH ? 0 : -errno;
    /* Still the holder: so the pidfd is the guard's, not that of a later process of its number. */
    if (holder(fd) != pid)
        return 0;
    if (ret_pidfd)
        *ret_pidfd = TAKE_FD(pidfd);
    return pid;
}

int run_exit_parse(const char *line, enum node_vm_end *ret_end, char *ret_text)
{
    size_t word = strcspn(line, " \n"), text;

    for (int end = 0; end < NODE_END_MAX; end++) {
        const char *name = node_vm_end_to_string(end);
        if (strlen(name) != word || strncmp(name, line, word) != 0)
            continue;
        line += word;
        line += *line == ' ';
        text = strcspn(line, "\n");
        text = text < PATH_SIZE - 1 ? text : PATH_SIZE - 1;
        for (size_t i = 0; i < text; i++)
            ret_text[i] = (char)(isprint((unsigned char)line[i]) ? line[i] : '?');
        ret_text[text] = '\0';
        *ret_end = end;
        return 0;
    }
    return -EBADMSG;
}

int run_exit_read(const char *run_dir, uint64_t id, enum node_vm_end *ret_end, char *ret_text)
{
    char path[PATH_SIZE];
    _cleanup_(free_p) char *line = NULL;
    int r = run_path(run_dir, id, "exit", path);

    if (r == 0)
        r = fs_read(path, 4096, &line, NULL);
    return r < 0 ? r : run_exit_parse(line, ret_end, ret_text);
}

/* Files and empty folders (mount points of the guard's own namespace) only. */
void run_remove(const char *run_dir, uint64_t id)
{
    char path[PATH_SIZE];
    struct dirent *e;

    if (run_path(run_dir, id, NULL, path) < 0)
        return;
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) < 0)
            (void)unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
    }
    if (d)
        closedir(d);
    (void)rmdir(path);
}

void run_scan(const char *run_dir, run_fn *fn, void *arg)
{
    char path[PATH_SIZE];
    struct dirent *e;

    if (str_format(path, sizeof path, "%s/vm", run_dir) < 0)
        return;
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) {
        struct run_vm vm = {0};
        if (str_to_u64(e->d_name, INT64_MAX, &vm.id) < 0)
            continue;
        int r = run_guard(run_dir, vm.id, NULL);
        vm.guard = r > 0 ? r : 0;
        if (run_note_read(run_dir, vm.id, &vm.note) < 0)
            vm.note = (struct run_note){0};
        fn(arg, &vm);
    }
    if (d)
        closedir(d);
}
