// SPDX-License-Identifier: GPL-3.0-or-later
/* Mounts whose ids are mapped, so that one unpacked image serves containers as theirs. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/str.h"
#include "guard/guard.h"

#define IDS 65536U

static must_check int write_map(pid_t pid, const char *which, uint32_t first)
{
    char path[64], text[64];
    int r = str_format(path, sizeof path, "/proc/%d/%s", (int)pid, which);

    if (r == 0)
        r = str_format(text, sizeof text, "0 %u %u\n", first, IDS);
    return r < 0 ? r : fs_poke(path, text);
}

int guard_idmap_open(uint32_t first)
{
    char path[64], c;
    int up[2], down[2], r = 0, fd = -EBADF;

    if (pipe2(up, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(down, O_CLOEXEC) < 0) {
        r = -errno;
        close(up[0]), close(up[1]);
        return r;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(down[1]);
        if (unshare(CLONE_NEWUSER) < 0 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)!read(down[0], &c, 1); /* lives until the parent has the namespace */
        _exit(0);
    }
    if (pid < 0)
        r = -errno;
    close(up[1]);
    close(down[0]);
    if (r == 0 && read(up[0], &c, 1) != 1)
        r = -EPERM;
    if (r == 0)
        r = write_map(pid, "uid_map", first);
    if (r == 0)
        r = write_map(pid, "gid_map", first);
    if (r == 0)
        r = str_format(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    if (r == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            r = -errno;
    }
    close(up[0]);
    close(down[1]);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return r < 0 ? r : fd;
}

int guard_idmap_mount(const char *dir, const char *target, uint32_t first)
{
    _cleanup_(close_p) int ns = guard_idmap_open(first);
    if (ns < 0)
        return ns;
    _cleanup_(close_p) int tree =
        open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV,
        .userns_fd = (uint64_t)ns,
    };

    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 ||
        move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}
