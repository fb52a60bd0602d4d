// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/port.h"

#include <dirent.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"

enum { TCP_LISTEN_STATE = 0x0a };

/* Inode and user of a listening socket of /proc/net/tcp or tcp6: is there one? */
static bool find_socket(const char *path, uint16_t port, unsigned long *ret_inode,
                        unsigned *ret_uid)
{
    _cleanup_(fclose_p) FILE *f = fopen(path, "re");
    char line[512];

    while (f && fgets(line, sizeof line, f)) {
        unsigned local, state, uid;
        unsigned long inode;

        /* sl local:port remote:port st tx:rx tr:when retrnsmt uid timeout inode */
        if (sscanf(line,
                   "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %u %*d %lu",
                   &local, &state, &uid, &inode) == 4 &&
            local == port && state == TCP_LISTEN_STATE) {
            *ret_inode = inode;
            *ret_uid = uid;
            return true;
        }
    }
    return false;
}

static bool holds(const char *pid, unsigned long inode)
{
    char path[300], wanted[64], target[64];
    struct dirent *e;
    bool found = false;

    (void)snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    (void)snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *d = opendir(path);
    while (d && !found && (e = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);

        target[n > 0 ? n : 0] = 0;
        found = strcmp(target, wanted) == 0;
    }
    if (d)
        closedir(d);
    return found;
}

/* The first process that has it; false: none that we may look into. */
static bool find_process(unsigned long inode, char *pid, size_t pid_size, char *name, size_t size)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    bool found = false;

    while (d && !found && (e = readdir(d))) {
        char path[300];

        if (strspn(e->d_name, "0123456789") != strlen(e->d_name) || !holds(e->d_name, inode))
            continue;
        (void)snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
        _cleanup_(fclose_p) FILE *f = fopen(path, "re");
        if (!f || !fgets(name, (int)size, f))
            continue;
        name[strcspn(name, "\n")] = 0;
        (void)snprintf(pid, pid_size, "%s", e->d_name);
        found = true;
    }
    if (d)
        closedir(d);
    return found;
}

const char *port_holder(uint16_t port, char *dst, size_t size)
{
    char pid[300], name[64];
    unsigned long inode;
    unsigned uid;

    if (!find_socket("/proc/net/tcp6", port, &inode, &uid) &&
        !find_socket("/proc/net/tcp", port, &inode, &uid)) {
        (void)snprintf(dst, size, "see ss -tnp 'sport = :%u'", port);
        return dst;
    }
    if (find_process(inode, pid, sizeof pid, name, sizeof name)) {
        (void)snprintf(dst, size, "%s (pid %s) has it: stop it or choose another port", name, pid);
        return dst;
    }
    const struct passwd *pw = getpwuid(uid);
    (void)snprintf(
        dst, size,
        "a program of user %s has it (ss -ltnp 'sport = :%u' names it): stop it or choose "
        "another port",
        pw ? pw->pw_name : "?", port);
    return dst;
}
