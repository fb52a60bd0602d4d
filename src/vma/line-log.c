// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/line-log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"

void line_log_close(struct line_log *l)
{
    l->fd = fd_close(l->fd);
}

static void open_again(struct line_log *l, const char *path)
{
    struct stat st;

    line_log_close(l);
    l->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (l->fd >= 0 && fstat(l->fd, &st) == 0) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
}

/* true: it was in the way and is out of it. */
static bool put_aside(const char *path)
{
    _cleanup_(free_p) char *old = str_printf("%s.1", path);

    if (old && rename(path, old) == 0)
        return true;
    log_debug("cannot rename %s", path);
    return false;
}

void line_log_put(struct line_log *l, const char *path, off_t max, const char *line)
{
    const struct iovec parts[] = {
        {(void *)(uintptr_t)line, strlen(line)},
        {(char[]){'\n'},          1           }
    };
    struct stat st;
    bool there = stat(path, &st) == 0;

    if (there && st.st_size > max && put_aside(path))
        there = false;
    if (!there || l->fd < 0 || st.st_dev != l->dev || st.st_ino != l->ino)
        open_again(l, path);
    if (l->fd >= 0 && writev(l->fd, parts, 2) < 0)
        log_debug("%s takes no more: %s", path, strerror(errno));
}
