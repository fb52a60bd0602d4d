// SPDX-License-Identifier: GPL-3.0-or-later
/* hkd.process.limit.*: limits of this process and of all that it starts. */
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/str.h"
#include "hkd/hkd-internal.h"

static const struct {
    const char *name;
    int resource;
} kinds[] = {
    {"as",      RLIMIT_AS     },
    {"core",    RLIMIT_CORE   },
    {"data",    RLIMIT_DATA   },
    {"fsize",   RLIMIT_FSIZE  },
    {"memlock", RLIMIT_MEMLOCK},
    {"nice",    RLIMIT_NICE   },
    {"nofile",  RLIMIT_NOFILE },
    {"stack",   RLIMIT_STACK  },
};

/* 1: there is one; 0: none is set. */
static int read_one(const struct conf *c, const char *prefix, const char *name, rlim_t *ret,
                    struct qvd_error *err)
{
    char key[64];
    const char *text;
    uint64_t n;

    if (str_format(key, sizeof key, "%s%s", prefix, name) < 0)
        return -EINVAL;
    text = conf_str(c, key);
    if (!*text)
        return 0;
    if (strcmp(text, "unlimited") == 0)
        *ret = RLIM_INFINITY;
    else if (str_to_u64(text, INT64_MAX, &n) == 0)
        *ret = (rlim_t)n;
    else
        return qvd_error_set(err, -EINVAL, "%s = %.40s: a number or \"unlimited\" expected", key,
                             text);
    return 1;
}

int limits_check(const struct conf *c, struct qvd_error *err)
{
    rlim_t value;
    int r = 0;

    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(kinds); i++) {
        r = read_one(c, "hkd.process.limit.", kinds[i].name, &value, err);
        if (r >= 0)
            r = read_one(c, "hkd.process.limit.hard.", kinds[i].name, &value, err);
    }
    return r < 0 ? r : 0;
}

int limits_set(const struct conf *c, struct qvd_error *err)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(kinds); i++) {
        struct rlimit limit;
        int soft, hard;

        if (getrlimit(kinds[i].resource, &limit) < 0)
            return qvd_error_errno(err, errno, "limit %s", kinds[i].name);
        soft = r = read_one(c, "hkd.process.limit.", kinds[i].name, &limit.rlim_cur, err);
        if (r < 0)
            break;
        hard = r = read_one(c, "hkd.process.limit.hard.", kinds[i].name, &limit.rlim_max, err);
        if (r < 0 || (!soft && !hard))
            continue;
        /* One alone moves the other where it must. */
        if (limit.rlim_cur > limit.rlim_max && !hard)
            limit.rlim_max = limit.rlim_cur;
        else if (limit.rlim_cur > limit.rlim_max)
            limit.rlim_cur = limit.rlim_max;
        if (setrlimit(kinds[i].resource, &limit) < 0)
            return qvd_error_errno(err, errno, "hkd.process.limit.%s", kinds[i].name);
    }
    return r < 0 ? r : 0;
}
