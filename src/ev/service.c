// SPDX-License-Identifier: GPL-3.0-or-later
#include "ev/service.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/str.h"

#define FIRST_FD 3

void service_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (!path || str_copy(addr.sun_path, sizeof addr.sun_path, path) < 0)
        return;
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (addr.sun_path[0] == '@')
        addr.sun_path[0] = '\0';
    _cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr, len);
}

/* Whether the i-th word of LISTEN_FDNAMES (a:b:c) is name. */
static bool named(const char *names, uint64_t i, const char *name)
{
    while (i-- > 0) {
        names = strchr(names, ':');
        if (!names)
            return false;
        names++;
    }
    size_t n = strcspn(names, ":");
    return n == strlen(name) && memcmp(names, name, n) == 0;
}

int service_listen_fds(const char *name, int *ret_fds, size_t max)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    uint64_t n, value;
    size_t found = 0;

    if (!count || str_to_u64(count, 1000, &n) < 0)
        return 0;
    if (pid && (str_to_u64(pid, INT32_MAX, &value) < 0 || (pid_t)value != getpid()))
        return 0;
    for (uint64_t i = 0; i < n && found < max; i++) {
        if (!named(names ? names : "", i, name))
            continue;
        ret_fds[found] = FIRST_FD + i;
        (void)fcntl(ret_fds[found++], F_SETFD, FD_CLOEXEC);
    }
    return found;
}
