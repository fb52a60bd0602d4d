// SPDX-License-Identifier: GPL-3.0-or-later
/* The VM's cgroups in all hierarchies: killed and removed. LXC leaves them when it is killed. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/str.h"
#include "guard/guard.h"

/* Depth of cgroups that a guest may have made: more are left to the next sweep. */
#define DEPTH 32
/* Rounds of KILL, 10 ms apart: v1 tells nobody when a cgroup becomes empty. */
#define ROUNDS 300

typedef int cgroup_fn(int dir);

/* Sends the signal (0: none) to all processes of one cgroup; the number that are there. */
static int signal_procs(int dir, int signo)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC), n = 0;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    int pid;

    if (!f)
        return 0;
    while (fscanf(f, "%d", &pid) == 1) {
        n++;
        if (pid > 1 && signo)
            (void)kill(pid, signo);
    }
    fclose(f);
    return n;
}

static int kill_procs(int dir)
{
    return signal_procs(dir, SIGKILL);
}

static int count_procs(int dir)
{
    return signal_procs(dir, 0);
}

/* For a walk that removes the cgroups below. */
static int nothing(int dir)
{
    return 0;
}

/* Children first; fn's results are added up. */
static int walk(int dir, cgroup_fn *fn, int depth)
{
    int total = 0;
    DIR *d = depth < DEPTH ? fdopendir(dup(dir)) : NULL;
    struct dirent *e;

    if (!d)
        return fn(dir);
    rewinddir(d);
    while ((e = readdir(d))) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0)
            continue;
        total += walk(sub, fn, depth + 1);
        close(sub);
        if (fn == nothing)
            (void)unlinkat(dir, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
    return total + fn(dir);
}

/* "/a/b" of the first process, without systemd's own scope: LXC begins there. */
static void strip_scope(char *path)
{
    if (str_ends(path, "/init.scope"))
        path[strlen(path) - strlen("/init.scope")] = '\0';
    if (strcmp(path, "/") == 0)
        *path = '\0';
}

/* Where the cgroup of that name lies in the hierarchy of a line of /proc/1/cgroup. */
static must_check int hierarchy_dir(const struct guard *g, const char *controllers,
                                    const char *path, const char *cgroup, char *dst, size_t size)
{
    struct stat st;
    const char *name = str_starts(controllers, "name=") ? controllers + 5 : controllers;

    if (*controllers == '\0') { /* v2: at the root, or beside v1 in "unified" */
        int r = str_format(dst, size, "%s/unified%s/%s", g->cgroup_fs, path, cgroup);
        if (r == 0 && stat(dst, &st) == 0)
            return 0;
        return str_format(dst, size, "%s%s/%s", g->cgroup_fs, path, cgroup);
    }
    return str_format(dst, size, "%s/%s%s/%s", g->cgroup_fs, name, path, cgroup);
}

/* Calls fn with the cgroup of that name in each hierarchy that has it. The sum of what fn returns.
 */
static int each_hierarchy(const struct guard *g, const char *cgroup,
                          int (*fn)(const struct guard *g, const char *dir))
{
    _cleanup_(free_p) char *text = NULL;
    char dir[512], *save = NULL;
    struct stat st;
    int total = 0;

    if (fs_read("/proc/1/cgroup", 65536, &text, NULL) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        controllers++;
        *path++ = '\0';
        strip_scope(path);
        if (hierarchy_dir(g, controllers, path, cgroup, dir, sizeof dir) == 0 &&
            stat(dir, &st) == 0)
            total += fn(g, dir);
    }
    return total;
}

static int walk_dir(const char *dir, cgroup_fn *fn)
{
    _cleanup_(close_p) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? 0 : walk(fd, fn, 0);
}

/* The number of processes that were there. */
static int kill_all(const struct guard *g, const char *dir)
{
    return walk_dir(dir, kill_procs);
}

static int count_all(const struct guard *g, const char *dir)
{
    return walk_dir(dir, count_procs);
}

static int remove_all(const struct guard *g, const char *dir)
{
    (void)walk_dir(dir, nothing);
    (void)rmdir(dir);
    return 0;
}

void guard_cgroup_kill(const struct guard *g)
{
    (void)each_hierarchy(g, g->cgroup, kill_all);
}

int guard_cgroup_clean(const struct guard *g)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (int round = 0; each_hierarchy(g, g->cgroup, kill_all) > 0; round++) {
        if (round == ROUNDS)
            return -EBUSY;
        nanosleep(&pause, NULL);
    }
    (void)each_hierarchy(g, g->cgroup, remove_all);
    return 0;
}

/* Ours by its name, but of no VM of this node: it has no folder, and no LXC watches over it. */
static bool is_stray(const struct guard *g, const char *name)
{
    char path[256];
    uint64_t vm;

    if (!str_starts(name, g->cgroup) || str_to_u64(name + strlen(g->cgroup), INT64_MAX, &vm) < 0 ||
        str_format(path, sizeof path, "%s/vm/%llu", g->run_dir, (unsigned long long)vm) < 0 ||
        access(path, F_OK) == 0)
        return false;
    return str_format(path, sizeof path, "%s/monitor", name) == 0 &&
           each_hierarchy(g, path, count_all) == 0;
}

static int clean_strays(const struct guard *g, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int left = 0;

    while (d && (e = readdir(d))) {
        struct guard stray = {.cgroup = e->d_name, .cgroup_fs = g->cgroup_fs};
        if (e->d_type != DT_DIR || !is_stray(g, e->d_name))
            continue;
        bool clean = guard_cgroup_clean(&stray) == 0;
        printf("%s %s\n", e->d_name, clean ? "is swept" : "has processes that do not end");
        left += !clean;
    }
    if (d)
        closedir(d);
    return left;
}

int guard_cgroup_strays(const struct guard *g)
{
    return each_hierarchy(g, ".", clean_strays) == 0 ? 0 : -EBUSY;
}
