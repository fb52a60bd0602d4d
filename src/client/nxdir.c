// SPDX-License-Identifier: GPL-3.0-or-later
/* nxproxy's private folder: made for a session, locked while its client lives, removed with it. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/str.h"
#include "client/client-internal.h"

#define DIR_PREFIX "qvdclient-"
#define SWEEP_AGE_S 60

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void client_dir_remove(struct client_session *s)
{
    if (s->dir[0])
        remove_tree(s->dir);
    s->dir[0] = '\0';
    s->dir_fd = fd_close(s->dir_fd);
}

/* Folders of clients that were killed: ours, old, and not locked by a living one. */
static void sweep(const char *base)
{
    DIR *dir = opendir(base);
    char path[128];
    struct stat st;

    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        if (!str_starts(e->d_name, DIR_PREFIX) ||
            str_format(path, sizeof path, "%s/%s", base, e->d_name) < 0)
            continue;
        _cleanup_(close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
            time(NULL) - st.st_mtime < SWEEP_AGE_S || flock(fd, LOCK_EX | LOCK_NB) < 0)
            continue;
        remove_tree(path);
    }
    closedir(dir);
}

/* In the person's runtime folder, else /tmp: short enough for a socket's name, and without what
 * would end a value of an NX option. */
int client_dir_make(struct client_session *s)
{
    const char *base = getenv("XDG_RUNTIME_DIR");

    if (!base || base[0] != '/' || strlen(base) > 60 || strpbrk(base, ",:= ") ||
        access(base, W_OK | X_OK) < 0)
        base = "/tmp";
    sweep(base);
    if (str_format(s->dir, sizeof s->dir, "%s/" DIR_PREFIX "XXXXXX", base) < 0)
        return -ENAMETOOLONG;
    if (!mkdtemp(s->dir)) {
        int r = -errno;
        s->dir[0] = '\0';
        return r;
    }
    s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->dir_fd < 0 || flock(s->dir_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}
