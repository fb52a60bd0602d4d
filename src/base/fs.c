// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/fs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"

int fs_read(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    _cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    _cleanup_(free_p) char *data = NULL;
    size_t len = 0, size = 0;

    if (fd < 0)
        return -errno;
    for (;;) {
        if (len == size) {
            size = size ? size * 2 : 4096;
            char *bigger = realloc(data, size + 1);
            if (!bigger)
                return -ENOMEM;
            data = bigger;
        }
        ssize_t n = read(fd, data + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += n;
        if (len > max)
            return -EFBIG;
    }
    data[len] = '\0';
    *ret_data = TAKE_PTR(data);
    if (ret_len)
        *ret_len = len;
    return 0;
}

int fs_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            p += n;
            len -= n;
        }
    }
    return 0;
}

static must_check int write_over(const char *path, const void *data, size_t len, mode_t mode,
                                 bool sync)
{
    _cleanup_(free_p) char *beside = str_printf("%s.new-%d", path, (int)getpid());

    if (!beside)
        return -ENOMEM;
    (void)unlink(beside);
    _cleanup_(close_p) int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int r = fs_write_all(fd, data, len);
    if (r == 0 && (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0) || rename(beside, path) < 0))
        r = -errno;
    if (r < 0)
        (void)unlink(beside);
    return r;
}

int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode)
{
    return write_over(path, data, len, mode, true);
}

int fs_write_passing(const char *path, const void *data, size_t len, mode_t mode)
{
    return write_over(path, data, len, mode, false);
}

int fs_mkdirs(const char *path, mode_t mode)
{
    /* It is there nearly always. */
    if (mkdir(path, mode) == 0 || errno == EEXIST)
        return 0;
    if (errno != ENOENT)
        return -errno;
    _cleanup_(free_p) char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0711) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

int fs_poke(const char *path, const char *text)
{
    _cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int fs_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}
