// SPDX-License-Identifier: GPL-3.0-or-later
/* The root file system of a container, made by the host's root in a mount namespace of our own: it
 * ends with us. The trees below an overlay or a home are the guest's: no path is followed in them
 * but by openat2() without links. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "guard/guard.h"

/* Opens a folder that may be locked by one guard only; -EBUSY: another holds it. */
static must_check int lock_dir(const char *path)
{
    _cleanup_(close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return TAKE_FD(fd);
}

/* Makes dir for the container's root; one that is there keeps its owner. 0 or -errno. */
static must_check int make_owned(const char *path, uint32_t id)
{
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : -errno;
    return lchown(path, id, id) < 0 ? -errno : 0;
}

static must_check int take_overlay(struct guard *g, struct qvd_error *err)
{
    _cleanup_(free_p) char *upper = str_printf("%s/upper", g->overlay);
    _cleanup_(free_p) char *work = str_printf("%s/work", g->overlay);
    int fd = lock_dir(g->overlay), r;

    if (fd == -EBUSY)
        return qvd_error_set(err, -EBUSY, "overlay %s is in use by another process", g->overlay);
    if (fd < 0 && fd != -ENOENT)
        return qvd_error_errno(err, fd, "cannot use overlay %s", g->overlay);
    if (fd >= 0 && g->fresh) {
        r = guard_put_aside(g->overlay);
        fd = fd_close(fd);
        if (r < 0)
            return qvd_error_errno(err, r, "cannot put overlay %s aside", g->overlay);
    }
    if (fd < 0) {
        if (mkdir(g->overlay, 0700) < 0)
            return qvd_error_errno(err, errno, "cannot make overlay %s", g->overlay);
        fd = lock_dir(g->overlay);
        if (fd < 0)
            return qvd_error_errno(err, fd, "cannot lock overlay %s", g->overlay);
    }
    g->overlay_fd = fd;
    r = upper && work ? make_owned(upper, g->idmap) : -ENOMEM;
    if (r == 0)
        r = make_owned(work, g->idmap);
    return r < 0 ? qvd_error_errno(err, r, "cannot make overlay %s", g->overlay) : 0;
}

static must_check int take_home(struct guard *g, struct qvd_error *err)
{
    int r = make_owned(g->home, g->idmap);

    if (r == 0)
        r = lock_dir(g->home);
    if (r == -EBUSY)
        return qvd_error_set(err, -EBUSY, "home %s is in use by another process", g->home);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot use home %s", g->home);
    g->home_fd = r;
    return 0;
}

int guard_storage_take(struct guard *g, struct qvd_error *err)
{
    int r = g->overlay ? take_overlay(g, err) : 0;

    return r == 0 && g->home ? take_home(g, err) : r;
}

/* A folder below the run folder, by which LXC's child walks as the container's root. */
static must_check int place(const struct guard *g, const char *name, char *dst, size_t size)
{
    int r = str_format(dst, size, "%s/%s", g->run_dir, name);

    if (r == 0 && mkdir(dst, 0711) < 0 && errno != EEXIST)
        r = -errno;
    return r;
}

static must_check int own_namespace(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    return 0;
}

/* A folder of the root, without following the image's links. >= 0, -ENOENT: it is none. */
static must_check int open_in_root(const char *root, const char *name)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    _cleanup_(close_p) int top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (top < 0)
        return -errno;
    int fd = (int)syscall(SYS_openat2, top, name, &how, sizeof how);
    if (fd >= 0)
        return fd;
    return errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno;
}

static must_check int mount_overlay(const char *target, const char *lower, const char *over)
{
    _cleanup_(free_p) char *data =
        str_printf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, over, over);

    if (!data)
        return -ENOMEM;
    return mount("overlay", target, "overlay", MS_NODEV, data) < 0 ? -errno : 0;
}

/* The secret lies in memory, and only its container's root reads it. */
static must_check int place_secret(struct guard *g, struct qvd_error *err)
{
    uint8_t secret[GUARD_SECRET_LEN + 1];
    char dir[256], path[300];
    size_t len = 0;
    ssize_t n;

    while (len < sizeof secret &&
           (n = read(GUARD_SECRET_FD, secret + len, sizeof secret - len)) != 0) {
        if (n < 0 && errno != EINTR)
            return qvd_error_errno(err, errno, "cannot read the VM's secret");
        len += n > 0 ? (size_t)n : 0;
    }
    close(GUARD_SECRET_FD);
    if (len != GUARD_SECRET_LEN)
        return qvd_error_set(err, -EINVAL, "the VM's secret has %zu bytes instead of %d", len,
                             GUARD_SECRET_LEN);
    int r = place(g, "dev", dir, sizeof dir);
    if (r == 0 && mount("qvd", dir, "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID,
                        "size=64k,nr_inodes=8,mode=0711") < 0)
        r = -errno;
    if (r == 0)
        r = str_format(path, sizeof path, "%s/secret", dir);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot mount the place of the VM's secret");
    _cleanup_(close_p) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        r = -errno;
    if (r == 0)
        r = fs_write_all(fd, secret, len);
    if (r == 0 && fchown(fd, g->idmap, g->idmap) < 0)
        r = -errno;
    explicit_bzero(secret, sizeof secret);
    return r < 0 ? qvd_error_errno(err, r, "cannot write the VM's secret") : 0;
}

/* The guest's /etc/resolv.conf, unless the image has a link there. Nothing here may be fatal but
 * our own failures: what lies at /etc is the guest's. */
static must_check int place_resolv(const struct guard *g, const char *root)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    _cleanup_(free_p) char *path = str_printf("%s/resolv.conf", g->run_dir), *text = NULL;
    _cleanup_(close_p) int top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t len;
    struct stat st;

    if (!path || top < 0)
        return -ENOMEM;
    int r = fs_read(path, 4096, &text, &len);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    _cleanup_(close_p) int etc = (int)syscall(SYS_openat2, top, "etc", &how, sizeof how);
    if (etc < 0)
        return 0;
    if (fstatat(etc, "resolv.conf", &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
        return 0;
    (void)unlinkat(etc, ".resolv.conf.qvd", 0);
    _cleanup_(close_p) int fd =
        openat(etc, ".resolv.conf.qvd", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    r = fs_write_all(fd, text, len);
    if (r == 0 && (fchown(fd, g->idmap, g->idmap) < 0 || fchmod(fd, 0644) < 0 ||
                   renameat(etc, ".resolv.conf.qvd", etc, "resolv.conf") < 0))
        r = -errno;
    return r;
}

static must_check int mount_writable(struct guard *g, const char *base, const char *root,
                                     struct qvd_error *err)
{
    char over[256];
    int r = place(g, "over", over, sizeof over);

    /* Paths of our own in the options: they hold no comma and no colon. */
    if (r == 0 && mount(g->overlay, over, NULL, MS_BIND, NULL) < 0)
        r = -errno;
    if (r == 0)
        r = mount_overlay(root, base, over);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot mount overlay %s over %s", g->overlay, g->base);
    r = place_resolv(g, root);
    return r < 0 ? qvd_error_errno(err, r, "cannot write the guest's resolv.conf into overlay %s",
                                   g->overlay)
                 : 0;
}

/* One folder of the read-only root: what the image has there, and above it a layer in memory. */
static must_check int mount_layer(const struct guard *g, const char *root, const char *name,
                                  const char *mem)
{
    char over[300], upper[320], work[320], target[64];
    _cleanup_(close_p) int fd = open_in_root(root, name);

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd; /* the image has none, or a link */
    if (str_format(over, sizeof over, "%s/%s", mem, name) < 0 ||
        str_format(upper, sizeof upper, "%s/upper", over) < 0 ||
        str_format(work, sizeof work, "%s/work", over) < 0 ||
        str_format(target, sizeof target, "/proc/self/fd/%d", fd) < 0)
        return -ENAMETOOLONG;
    if (mkdir(over, 0700) < 0)
        return -errno;
    int r = make_owned(upper, g->idmap);
    if (r == 0)
        r = make_owned(work, g->idmap);
    return r < 0 ? r : mount_overlay(target, target, over);
}

/* Without an overlay the root is the image, read-only. What programs must write goes to memory and
 * is gone with the run: accounts are made in /etc, packages want their /var, a home that is not
 * kept lies in /home. (/tmp and /run are LXC's.) */
static must_check int mount_read_only(struct guard *g, const char *root, struct qvd_error *err)
{
    static const char *const layers[] = {"etc", "var", "home"};
    char mem[256];
    int r = place(g, "mem", mem, sizeof mem);

    if (r == 0 && mount("qvd", mem, "tmpfs", MS_NODEV, "mode=0711") < 0)
        r = -errno;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(layers); i++)
        r = mount_layer(g, root, layers[i], mem);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot mount the layers in memory over %s", g->base);
    r = place_resolv(g, root);
    return r < 0 ? qvd_error_errno(err, r, "cannot write the guest's resolv.conf") : 0;
}

int guard_rootfs_mount(struct guard *g, struct qvd_error *err)
{
    char base[256], root[256], home[256];
    int r = own_namespace();

    if (r < 0)
        return qvd_error_errno(err, r, "cannot make a mount namespace");
    r = place(g, "base", base, sizeof base);
    if (r == 0)
        r = place(g, "root", root, sizeof root);
    if (r == 0)
        r = guard_idmap_mount(g->base, g->overlay ? base : root, g->idmap);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot mount the unpacked image %s with mapped ids",
                               g->base);
    r = g->overlay ? mount_writable(g, base, root, err) : mount_read_only(g, root, err);
    if (r < 0)
        return r;
    if (g->home) {
        r = place(g, "home", home, sizeof home);
        if (r == 0 &&
            (mount(g->home, home, NULL, MS_BIND, NULL) < 0 ||
             mount(NULL, home, NULL, MS_BIND | MS_REMOUNT | MS_NODEV | MS_NOSUID, NULL) < 0))
            r = -errno;
        if (r < 0)
            return qvd_error_errno(err, r, "cannot mount home %s", g->home);
    }
    return place_secret(g, err);
}

void guard_storage_release(struct guard *g, bool failed)
{
    char path[256];
    static const char *const mounts[] = {"home", "root", "over", "mem", "base", "dev"};

    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
        if (str_format(path, sizeof path, "%s/%s", g->run_dir, mounts[i]) == 0)
            (void)umount2(path, MNT_DETACH);
    if (g->overlay && g->fresh) {
        if (g->overlay_fd < 0)
            g->overlay_fd = lock_dir(g->overlay); /* a sweep: another's is left alone */
        int r = g->overlay_fd;
        if (r >= 0)
            r = failed ? guard_keep_failed(g) : guard_put_aside(g->overlay);
        if (r < 0 && r != -ENOENT)
            log_warning("[vm:%llu] overlay %s is left: %s", (unsigned long long)g->vm, g->overlay,
                        strerror(-r));
    }
}

/* Writes through the trial's overlay as a VM would: a new file, and a folder of the image removed.
 */
static must_check int try_out(const char *root)
{
    _cleanup_(free_p) char *file = str_printf("%s/file", root);
    _cleanup_(free_p) char *dir = str_printf("%s/dir", root);

    if (!file || !dir)
        return -ENOMEM;
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    return rmdir(dir) < 0 ? -errno : 0;
}

/* The folders of a trial: in both places, removed in any case. */
struct trial {
    char base[300], base_dir[300], over[300], upper[300], work[300];
};

static must_check int trial_make(struct trial *t, const char *basefs, const char *overlayfs,
                                 uint32_t idmap)
{
    char mark[9];
    int r = random_alnum(mark, 8);

    if (r < 0)
        return r;
    if (str_format(t->base, sizeof t->base, "%s/.trial-%s", basefs, mark) < 0 ||
        str_format(t->base_dir, sizeof t->base_dir, "%s/dir", t->base) < 0 ||
        str_format(t->over, sizeof t->over, "%s/.trial-%s", overlayfs, mark) < 0 ||
        str_format(t->upper, sizeof t->upper, "%s/upper", t->over) < 0 ||
        str_format(t->work, sizeof t->work, "%s/work", t->over) < 0)
        return -ENAMETOOLONG;
    if (mkdir(t->base, 0755) < 0 || mkdir(t->base_dir, 0755) < 0 || mkdir(t->over, 0755) < 0)
        return -errno;
    r = make_owned(t->upper, idmap);
    return r < 0 ? r : make_owned(t->work, idmap);
}

/* The kernel keeps a whiteout for later use in its work folder. */
static void empty_dir(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (e->d_type != DT_DIR)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

static void trial_remove(const struct trial *t)
{
    char path[320];
    static const char *const rest[] = {"upper/file", "upper/dir", "upper", "work/work", "work"};

    if (str_format(path, sizeof path, "%s/work/work", t->over) == 0)
        empty_dir(path);
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
        if (str_format(path, sizeof path, "%s/%s", t->over, rest[i]) == 0 && unlink(path) < 0)
            (void)rmdir(path);
    (void)rmdir(t->over);
    (void)rmdir(t->base_dir);
    (void)rmdir(t->base);
}

int guard_trial(const char *basefs, const char *overlayfs, const char *run_dir, uint32_t idmap,
                struct qvd_error *err)
{
    struct trial t = {0};
    struct guard g = {.run_dir = run_dir};
    char base[256], over[256], root[256];
    int r = own_namespace();

    if (r == 0)
        r = place(&g, "base", base, sizeof base);
    if (r == 0)
        r = place(&g, "over", over, sizeof over);
    if (r == 0)
        r = place(&g, "root", root, sizeof root);
    if (r < 0)
        return qvd_error_errno(err, r, "cannot prepare a trial mount in %s", run_dir);
    r = trial_make(&t, basefs, overlayfs, idmap);
    if (r < 0) {
        qvd_error_errno(err, r, "cannot write to %s and %s", basefs, overlayfs);
        goto end;
    }
    r = guard_idmap_mount(t.base, base, idmap);
    if (r < 0) {
        qvd_error_errno(err, r,
                        "%s cannot be mounted with mapped ids; put path.storage.basefs on a local "
                        "ext4, xfs or btrfs (kernel 5.19 or later)",
                        basefs);
        goto end;
    }
    if (mount(t.over, over, NULL, MS_BIND, NULL) < 0)
        r = -errno;
    if (r == 0)
        r = mount_overlay(root, base, over);
    if (r == 0)
        r = try_out(root);
    if (r < 0)
        qvd_error_errno(err, r,
                        "%s does not bear overlays; load the module overlay, and put "
                        "path.storage.overlayfs on a local ext4, xfs or btrfs",
                        overlayfs);
end:
    (void)umount2(root, MNT_DETACH);
    (void)umount2(over, MNT_DETACH);
    (void)umount2(base, MNT_DETACH);
    trial_remove(&t);
    return r;
}
