// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-guard: the parent of one VM. Keeps its locks, its mounts and its hypervisor, outlives hkd,
 * and leaves a record of its end. Knows no database, no network, and parses nothing of the VM. */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "guard/guard.h"

enum mode { RUN, SWEEP, STRAYS, TRIAL, HOOK };

struct options {
    struct guard g;
    enum mode mode;
    const char *hook, *basefs, *overlayfs;
};

static const char usage[] =
    "usage: qvd-guard --vm ID --run DIR --lxc DIR --base DIR [--overlay DIR [--fresh]]\n"
    "                 [--home DIR] [--idmap FIRST] [--cgroup NAME] [--cgroup-fs DIR]\n"
    "                 [--lxc-start PROGRAM] [--announce GATEWAY]\n"
    "       qvd-guard --sweep --vm ID --run DIR [--overlay DIR --fresh] [--cgroup NAME]\n"
    "       qvd-guard --strays --run DIR --cgroup NAMES [--cgroup-fs DIR]\n"
    "       qvd-guard --trial --run DIR --basefs DIR --overlayfs DIR [--idmap FIRST]\n"
    "       qvd-guard --hook stop --run DIR\n"
    "\n"
    "Runs one VM for qvd-hkd. SIGTERM: power off; SIGQUIT: end by force. --sweep removes what a\n"
    "killed guard left; --strays removes cgroups NAMES* of VMs that have no folder; --trial tries\n"
    "whether the storage bears VMs; --hook is LXC's at a VM's end.\n";

enum {
    O_VM = 256,
    O_RUN,
    O_LXC,
    O_BASE,
    O_OVERLAY,
    O_FRESH,
    O_HOME,
    O_IDMAP,
    O_CGROUP,
    O_CGROUP_FS,
    O_SWEEP,
    O_STRAYS,
    O_TRIAL,
    O_BASEFS,
    O_OVERLAYFS,
    O_HOOK,
    O_LXC_START,
    O_ANNOUNCE
};

static const struct option table[] = {
    {"vm",        required_argument, NULL, O_VM       },
    {"run",       required_argument, NULL, O_RUN      },
    {"lxc",       required_argument, NULL, O_LXC      },
    {"base",      required_argument, NULL, O_BASE     },
    {"overlay",   required_argument, NULL, O_OVERLAY  },
    {"fresh",     no_argument,       NULL, O_FRESH    },
    {"home",      required_argument, NULL, O_HOME     },
    {"idmap",     required_argument, NULL, O_IDMAP    },
    {"cgroup",    required_argument, NULL, O_CGROUP   },
    {"cgroup-fs", required_argument, NULL, O_CGROUP_FS},
    {"sweep",     no_argument,       NULL, O_SWEEP    },
    {"strays",    no_argument,       NULL, O_STRAYS   },
    {"trial",     no_argument,       NULL, O_TRIAL    },
    {"basefs",    required_argument, NULL, O_BASEFS   },
    {"overlayfs", required_argument, NULL, O_OVERLAYFS},
    {"hook",      required_argument, NULL, O_HOOK     },
    {"lxc-start", required_argument, NULL, O_LXC_START},
    {"announce",  required_argument, NULL, O_ANNOUNCE },
    {"help",      no_argument,       NULL, 'h'        },
    {"version",   no_argument,       NULL, 'V'        },
    {NULL,        0,                 NULL, 0          },
};

/* A path of ours: absolute, and without what overlay's options or LXC's settings would cut. */
static const char *path_of(const char *s)
{
    if (*s != '/' || strpbrk(s, ",:\\\n") || strlen(s) > 200) {
        fprintf(stderr, "qvd-guard: %s: not an absolute path without , : \\ of at most 200 bytes\n",
                s);
        exit(2);
    }
    return s;
}

static uint64_t number_of(const char *s, uint64_t max)
{
    uint64_t n;

    if (str_to_u64(s, max, &n) < 0) {
        fprintf(stderr, "qvd-guard: %s: not a number up to %llu\n", s, (unsigned long long)max);
        exit(2);
    }
    return n;
}

static void take(struct options *o, int c)
{
    switch (c) {
    case O_VM:
        o->g.vm = number_of(optarg, INT64_MAX);
        break;
    case O_RUN:
        o->g.run_dir = path_of(optarg);
        break;
    case O_LXC:
        o->g.lxc_dir = path_of(optarg);
        break;
    case O_BASE:
        o->g.base = optarg;
        break;
    case O_OVERLAY:
        o->g.overlay = optarg;
        break;
    case O_FRESH:
        o->g.fresh = true;
        break;
    case O_HOME:
        o->g.home = optarg;
        break;
    case O_IDMAP:
        o->g.idmap = (uint32_t)number_of(optarg, UINT32_MAX - 65536);
        break;
    case O_CGROUP:
        o->g.cgroup = optarg;
        break;
    case O_CGROUP_FS:
        o->g.cgroup_fs = path_of(optarg);
        break;
    case O_SWEEP:
        o->mode = SWEEP;
        break;
    case O_STRAYS:
        o->mode = STRAYS;
        break;
    case O_TRIAL:
        o->mode = TRIAL;
        break;
    case O_BASEFS:
        o->basefs = optarg;
        break;
    case O_OVERLAYFS:
        o->overlayfs = optarg;
        break;
    case O_HOOK:
        o->mode = HOOK;
        o->hook = optarg;
        break;
    case O_LXC_START:
        o->g.lxc_start = optarg;
        break;
    case O_ANNOUNCE:
        o->g.gateway = optarg;
        break;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    case 'V':
        puts("qvd-guard " QVD_VERSION);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

/* Is everything there that the mode needs? */
static bool complete(const struct options *o)
{
    const struct guard *g = &o->g;

    switch (o->mode) {
    case RUN:
        return g->vm && g->run_dir && g->lxc_dir && g->base;
    case SWEEP:
        return g->vm && g->run_dir;
    case TRIAL:
        return g->run_dir && o->basefs && o->overlayfs;
    case STRAYS:
    case HOOK:
        return g->run_dir;
    default:
        return true;
    }
}

/* The VM's lock: a record lock, so that the kernel tells hkd our pid. Held until we end. */
static must_check int take_lock(struct guard *g)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[256];

    if (str_format(path, sizeof path, "%s/lock", g->run_dir) < 0)
        return -ENAMETOOLONG;
    g->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (g->lock_fd < 0 || fcntl(g->lock_fd, F_SETLK, &lock) < 0)
        return -errno;
    return 0;
}

static int trial(const struct options *o)
{
    struct qvd_error err = {0};

    if (guard_trial(o->basefs, o->overlayfs, o->g.run_dir, o->g.idmap, &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}

static int run_or_sweep(struct options *o)
{
    struct guard *g = &o->g;
    int r = take_lock(g);

    if (r < 0) {
        log_error("[vm:%llu] cannot take the lock in %s: %s", (unsigned long long)g->vm, g->run_dir,
                  r == -EAGAIN || r == -EACCES ? "another guard holds it" : strerror(-r));
        return 3;
    }
    if (o->mode == RUN)
        return guard_run(g);
    r = guard_cgroup_clean(g);
    guard_storage_release(g, guard_failed(g));
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .g = {.idmap = 1000000,
              .lxc_start = "/usr/bin/lxc-start",
              .cgroup = "qvd",
              .cgroup_fs = "/sys/fs/cgroup",
              .lock_fd = -EBADF,
              .overlay_fd = -EBADF,
              .home_fd = -EBADF}
    };
    int c;

    log_open("qvd-guard");
    log_by_name();
    signal(SIGPIPE, SIG_IGN);
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1)
        take(&o, c);
    if ((optind < argc && o.mode != HOOK) || /* LXC adds words of its own */
        !complete(&o) ||
        str_format(o.g.name, sizeof o.g.name, "qvd-%llu", (unsigned long long)o.g.vm) < 0) {
        fputs(usage, stderr);
        return 2;
    }
    if (o.mode == HOOK)
        return guard_hook(o.hook, o.g.run_dir);
    if (o.mode == TRIAL)
        return trial(&o);
    if (o.mode == STRAYS)
        return guard_cgroup_strays(&o.g) < 0 ? 1 : 0;
    umask(022);
    (void)syscall(SYS_close_range, o.mode == RUN ? GUARD_REPORT_FD + 1U : 3U, ~0U, 0U);
    if (o.mode == RUN && (fcntl(GUARD_SECRET_FD, F_SETFD, FD_CLOEXEC) < 0 ||
                          fcntl(GUARD_REPORT_FD, F_SETFD, FD_CLOEXEC) < 0)) {
        log_error("[vm:%llu] started without the descriptors of hkd", (unsigned long long)o.g.vm);
        return 2;
    }
    return run_or_sweep(&o);
}
