// SPDX-License-Identifier: GPL-3.0-or-later
/* The last steps of root before a program of the session, or before a home is filled: qvd-vma
 * --run-as, --fill-home. */
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/str.h"
#include "vma/skel.h"
#include "vma/user.h"

int user_spec(const struct user *u, const char *umask_text, char *dst)
{
    struct buf b;
    int r;

    buf_init(&b, USER_SPEC_MAX - 1);
    r = buf_printf(&b, "%u:%u:", (unsigned)u->uid, (unsigned)u->gid);
    for (size_t i = 0; r == 0 && i < u->n_groups; i++)
        r = buf_printf(&b, "%s%u", i ? "," : "", (unsigned)u->groups[i]);
    if (r == 0)
        r = buf_printf(&b, ":%s", umask_text);
    if (r == 0)
        r = str_copy_n(dst, USER_SPEC_MAX, (const char *)b.data, b.len);
    buf_done(&b);
    return r;
}

static must_check int parse_groups(char *text, gid_t *groups, size_t *ret_n)
{
    size_t n = 0;
    uint64_t value;

    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (n == USER_GROUPS_MAX || str_to_u64(word, UINT32_MAX - 1, &value) < 0 || value == 0)
            return -EINVAL;
        groups[n++] = value;
    }
    *ret_n = n;
    return 0;
}

static must_check int parse(const char *spec, struct user *u, mode_t *ret_umask)
{
    char copy[USER_SPEC_MAX], *part[4], *end = NULL, *at = copy;
    uint64_t uid, gid;

    if (str_copy(copy, sizeof copy, spec) < 0)
        return -EINVAL;
    for (int i = 0; i < 4; i++) {
        part[i] = at;
        at += strcspn(at, ":");
        if (i < 3 && *at != ':')
            return -EINVAL;
        if (*at)
            *at++ = '\0';
    }
    if (str_to_u64(part[0], UINT32_MAX - 1, &uid) < 0 ||
        str_to_u64(part[1], UINT32_MAX - 1, &gid) < 0 || uid < ACCOUNT_UID_MIN || gid == 0 ||
        parse_groups(part[2], u->groups, &u->n_groups) < 0)
        return -EINVAL;
    unsigned long mask = strtoul(part[3], &end, 8);
    if (*part[3] == '\0' || *end || mask > 0777)
        return -EINVAL;
    u->uid = uid;
    u->gid = gid;
    *ret_umask = mask;
    return 0;
}

int user_from_spec(const char *spec, struct user *u)
{
    mode_t mask;

    return parse(spec, u, &mask);
}

/* 0, or the exit status of a process that must not go on. */
static int become(const char *spec)
{
    struct user u = {0};
    mode_t mask = 022;

    if (parse(spec, &u, &mask) < 0) {
        fprintf(stderr,
                "qvd-vma: '%s' is not UID:GID:GROUPS:UMASK of an account that is not the "
                "system's\n",
                spec);
        return 2;
    }
    if (setgroups(u.n_groups, u.groups) < 0 || setresgid(u.gid, u.gid, u.gid) < 0 ||
        setresuid(u.uid, u.uid, u.uid) < 0) {
        fprintf(stderr, "qvd-vma: cannot become uid %u: %s\n", (unsigned)u.uid, strerror(errno));
        return 126;
    }
    umask(mask);
    return 0;
}

int user_run_as(const char *spec, char **command)
{
    int status = become(spec);

    if (status != 0)
        return status;
    execvp(command[0], command);
    fprintf(stderr, "qvd-vma: cannot run %s: %s\n", command[0], strerror(errno));
    return errno == ENOENT ? 127 : 126;
}

int user_fill_home(const char *spec, const char *from, const char *to)
{
    struct qvd_error err;
    pid_t parent = getppid();
    int status = become(spec);

    if (status != 0)
        return status;
    /* After the change of uid, which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 || getppid() != parent)
        return 126;
    if (skel_copy(from, to, &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}
