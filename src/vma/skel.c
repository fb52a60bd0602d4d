// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/skel.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/str.h"

#define DEPTH_MAX 32 /* folders in folders, each of which takes two descriptors */
#define PIECE (1 << 20)

static must_check int copy_all(int from, int to, unsigned depth, struct qvd_error *err);

static must_check int copy_file(int from, int to, const char *name, mode_t mode)
{
    _cleanup_(close_p) int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_(close_p) int out =
        in < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    ssize_t n;

    if (out < 0)
        return -errno;
    do
        n = sendfile(out, in, NULL, PIECE);
    while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? -errno : 0;
}

static must_check int copy_link(int from, int to, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);

    if (n < 0)
        return -errno;
    target[n] = '\0';
    return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static must_check int copy_folder(int from, int to, const char *name, mode_t mode, unsigned depth,
                                  struct qvd_error *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

    if (depth == DEPTH_MAX)
        return -ELOOP;
    if (mkdirat(to, name, mode | S_IRWXU) < 0)
        return -errno;
    _cleanup_(close_p) int in = openat(from, name, flags);
    _cleanup_(close_p) int out = in < 0 ? -1 : openat(to, name, flags);
    return out < 0 ? -errno : copy_all(in, out, depth + 1, err);
}

static must_check int copy_one(int from, int to, const char *name, unsigned depth,
                               struct qvd_error *err)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    mode_t mode = st.st_mode & 0777;
    if (S_ISREG(st.st_mode))
        return copy_file(from, to, name, mode);
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, name);
    if (S_ISDIR(st.st_mode))
        return copy_folder(from, to, name, mode, depth, err);
    return mknodat(to, name, (st.st_mode & S_IFMT) | mode, st.st_rdev) < 0 ? -errno : 0;
}

/* err->code tells whether what failed has its name already. */
static must_check int copy_all(int from, int to, unsigned depth, struct qvd_error *err)
{
    int fd = fcntl(from, F_DUPFD_CLOEXEC, 0), r = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        r = -errno;
        fd_close(fd);
        return r;
    }
    while (r == 0 && (errno = 0, e = readdir(d))) {
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        r = copy_one(from, to, e->d_name, depth, err);
        if (r < 0 && !err->code)
            (void)qvd_error_errno(err, r, "cannot copy %s", e->d_name);
    }
    if (r == 0)
        r = -errno;
    closedir(d);
    return r;
}

int skel_copy(const char *from, const char *to, struct qvd_error *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    _cleanup_(close_p) int in = open(from, flags);
    _cleanup_(close_p) int out = in < 0 ? -1 : open(to, flags | O_NOFOLLOW);

    err->code = 0;
    int r = out < 0 ? -errno : copy_all(in, out, 0, err);
    return r < 0 && !err->code ? qvd_error_errno(err, r, "cannot copy %s to %s", from, to) : r;
}
