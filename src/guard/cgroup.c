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

/* All processes of one cgroup; the number that are there. */
static int kill_procs(int dir)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC), n = 0;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    int pid;

    if (!f)
        return 0;
    while (fscanf(f, "%d", &pid) == 1) {
        n++;
        if (pid > 1)
            (void)kill(pid, SIGKILL);
    }
    fclose(f);
    return n;
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
        if (fn != kill_procs)
            (void)unlinkat(dir, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
    return total + fn(dir);
}

static int nothing(int dir)
{
    return 0;
}

/* "/a/b" of the first process, without systemd's own scope: LXC begins there. */
static void strip_scope(char *path)
{
    if (str_ends(path, "/init.scope"))
        path[strlen(path) - strlen("/init.scope")] = '\0';
    if (strcmp(path, "/") == 0)
        *path = '\0';
}

/* Does the mount point's name list hold the controller list of /proc/1/cgroup's line? */
static must_check int hierarchy_dir(const struct guard *g, const char *controllers,
                                    const char *path, char *dst, size_t size)
{
    struct stat st;
    const char *name = str_starts(controllers, "name=") ? controllers + 5 : controllers;

    if (*controllers == '\0') { /* v2: at the root, or beside v1 in "unified" */
        int r = str_format(dst, size, "%s/unified%s/%s", g->cgroup_fs, path, g->cgroup);
        if (r == 0 && stat(dst, &st) == 0)
            return 0;
        return str_format(dst, size, "%s%s/%s", g->cgroup_fs, path, g->cgroup);
    }
    return str_format(dst, size, "%s/%s%s/%s", g->cgroup_fs, name, path, g->cgroup);
}

/* Calls fn for the VM's cgroups in each hierarchy; remove: they are removed too. The number of
 * processes that fn found. */
static int each_hierarchy(const struct guard *g, cgroup_fn *fn, bool remove)
{
    _cleanup_(free_p) char *text = NULL;
    char dir[512], *save = NULL;
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
        if (hierarchy_dir(g, controllers, path, dir, sizeof dir) < 0)
            continue;
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        total += walk(fd, fn, 0);
        close(fd);
        if (remove)
            (void)rmdir(dir);
    }
    return total;
}

void guard_cgroup_kill(const struct guard *g)
{
    (void)each_hierarchy(g, kill_procs, false);
}

int guard_cgroup_clean(const struct guard *g)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (int round = 0; each_hierarchy(g, kill_procs, false) > 0; round++) {
        if (round == ROUNDS)
            return -EBUSY;
        nanosleep(&pause, NULL);
    }
    (void)each_hierarchy(g, nothing, true);
    return 0;
}
