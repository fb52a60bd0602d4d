// SPDX-License-Identifier: GPL-3.0-or-later
/* Where a writable layer goes that is not used any more: away at once, or kept with the console of
 * a start that failed, for those who look for the reason. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "guard/guard.h"

/* Of a console's text, its end. */
#define CONSOLE_MAX 1048576

/* Renames the layer to NAME-RANDOM beside it. *ret (may be NULL) is its new path, for the caller to
 * free. */
static must_check int rename_beside(const char *overlay, const char *name, char **ret)
{
    char mark[9];
    const char *slash = strrchr(overlay, '/');
    int r = random_alnum(mark, 8);

    if (r < 0 || !slash)
        return r < 0 ? r : -EINVAL;
    _cleanup_(free_p) char *aside =
        str_printf("%.*s/%s-%s", (int)(slash - overlay), overlay, name, mark);
    if (!aside)
        return -ENOMEM;
    if (rename(overlay, aside) < 0)
        return -errno;
    if (ret)
        *ret = TAKE_PTR(aside);
    return 0;
}

int guard_put_aside(const char *overlay)
{
    const char *slash = strrchr(overlay, '/');
    _cleanup_(free_p) char *name = str_printf("deleteme-%s", slash ? slash + 1 : "");

    return name ? rename_beside(overlay, name, NULL) : -ENOMEM;
}

static must_check int copy_console(const struct guard *g, const char *aside)
{
    char from[256], buf[8192];
    _cleanup_(free_p) char *to = str_printf("%s/console.log", aside);
    ssize_t n;

    if (!to || str_format(from, sizeof from, "%s/console", g->run_dir) < 0)
        return -ENOMEM;
    _cleanup_(close_p) int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in < 0)
        return errno == ENOENT ? 0 : -errno;
    _cleanup_(close_p) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0)
        return -errno;
    if (lseek(in, -CONSOLE_MAX, SEEK_END) < 0) /* it is shorter */
        (void)lseek(in, 0, SEEK_SET);
    while ((n = read(in, buf, sizeof buf)) > 0) {
        int r = fs_write_all(out, buf, (size_t)n);
        if (r < 0)
            return r;
    }
    return n < 0 ? -errno : 0;
}

int guard_keep_failed(const struct guard *g)
{
    _cleanup_(free_p) char *name = str_printf(GUARD_FAILED "%llu", (unsigned long long)g->vm);
    _cleanup_(free_p) char *aside = NULL;
    int r = name ? rename_beside(g->overlay, name, &aside) : -ENOMEM;

    if (r < 0)
        return r;
    r = copy_console(g, aside);
    log_info("[vm:%llu] did not come up: its writable layer and console are kept in %s",
             (unsigned long long)g->vm, aside);
    if (r < 0)
        log_warning("[vm:%llu] its console is not among them: %s", (unsigned long long)g->vm,
                    strerror(-r));
    return 0;
}

bool guard_failed(const struct guard *g)
{
    char path[256];

    return str_format(path, sizeof path, "%s/unsettled", g->run_dir) == 0 &&
           access(path, F_OK) == 0;
}
