// SPDX-License-Identifier: GPL-3.0-or-later
/* The copier: brings one file from the staging folder into the images folder. Opens what it needs,
 * gives up all capabilities and the right to open, and copies a piece a turn, so that it ends at
 * once when nobody waits for it. The image is there whole, with its last name, or not at all. */
#include <fcntl.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "api/process.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/str.h"
#include "ev/ev.h"
#include "ipc/api-msg.h"
#include "ipc/channel.h"

#define PIECE (1 << 20)

struct copier {
    const struct conf *conf;
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct ev_timer *more;
    char name[API_FILE_MAX + 32], temporary[API_FILE_MAX + 48];
    int from, to, folder;
    bool made; /* the temporary file exists */
    uint64_t done, total;
    unsigned told; /* percent */
    EVP_MD_CTX *sum;
    uint8_t *piece;
};

static const int more_syscalls[] = {SYS_fsync, SYS_renameat2, SYS_unlinkat, SYS_fadvise64, -1};

static void finish(struct copier *c, bool ok, const char *sha256, const char *text)
{
    const struct api_copied m = {.ok = ok, .size = c->done, .sha256 = sha256, .text = text};

    if (!ok && c->made)
        (void)unlinkat(c->folder, c->temporary, 0);
    c->made = false;
    int r = ipc_send(c->channel, &api_copied_msg, &m, -EBADF);
    ev_loop_stop(c->loop, r < 0 || !ok);
}

static void fail(struct copier *c, int r, const char *what)
{
    char text[256];

    snprintf(text, sizeof text, "%.150s: %s", what, strerror(-r));
    finish(c, false, "", text);
}

/* The owner of the images folder, be it root without capabilities, and no more. */
static must_check int enter_sandbox(const struct copier *c, struct qvd_error *err)
{
    int list[128];
    size_t n = 0;

    for (size_t i = 0; sandbox_loop_syscalls[i] != -1; i++)
        list[n++] = sandbox_loop_syscalls[i];
    for (size_t i = 0; more_syscalls[i] != -1; i++)
        list[n++] = more_syscalls[i];
    list[n] = -1;
    const char *user = conf_str(c->conf, "api.user");
    const struct passwd *pw = getpwnam(user);
    struct stat st;
    if (fstat(c->folder, &st) < 0 || !pw || st.st_uid != pw->pw_uid || geteuid() != 0)
        user = NULL;
    const struct sandbox_spec spec = {
        .user = user, .keep_capabilities = geteuid() != 0, .syscalls = list};
    return sandbox_enter(&spec, err);
}

static void publish(struct copier *c)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned n = 0;

    if (fsync(c->to) < 0) {
        fail(c, -errno, "the images folder");
    } else if (!EVP_DigestFinal_ex(c->sum, sum, &n)) {
        finish(c, false, "", "its checksum cannot be made");
    } else if (syscall(SYS_renameat2, c->folder, c->temporary, c->folder, c->name,
                       1U /* RENAME_NOREPLACE */) < 0) {
        fail(c, -errno, c->name);
    } else {
        (void)fsync(c->folder);
        c->made = false;
        hex_encode(sum, n, hex);
        finish(c, true, hex, "");
    }
}

static void copy_piece(void *arg)
{
    struct copier *c = arg;
    ssize_t n = read(c->from, c->piece, PIECE);

    if (n < 0) {
        fail(c, -errno, "the staging file");
        return;
    }
    if (n == 0) {
        publish(c);
        return;
    }
    int r = fs_write_all(c->to, c->piece, (size_t)n);
    if (r < 0) {
        fail(c, r, "the images folder");
        return;
    }
    if (!EVP_DigestUpdate(c->sum, c->piece, (size_t)n)) {
        finish(c, false, "", "its checksum cannot be made");
        return;
    }
    c->done += (uint64_t)n;
    unsigned percent = c->total ? (unsigned)(c->done * 100 / c->total) : 100;
    if (percent >= c->told + 5) {
        const struct api_progress m = {c->done, c->total};
        c->told = percent;
        if (ipc_send(c->channel, &api_progress_msg, &m, -EBADF) < 0)
            log_debug("progress not told");
    }
    ev_timer_arm(c->more, 0);
}

/* Only plain files of the folder itself: no links, no sub-folders. */
static must_check int open_staging(struct copier *c, const char *file, struct qvd_error *err)
{
    const char *path = conf_str(c->conf, "path.storage.staging");
    _cleanup_(close_p) int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (folder < 0)
        return qvd_error_errno(err, errno, "staging folder %s", path);
    /* A name without slashes, so that nothing but the last part could be a link. Not openat2():
     * systemd's RestrictSUIDSGID= answers it with ENOSYS. */
    c->from = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (c->from < 0 || fstat(c->from, &st) < 0)
        return qvd_error_errno(err, errno, "%s/%s", path, file);
    if (!S_ISREG(st.st_mode))
        return qvd_error_set(err, -EINVAL, "%s/%s: not a plain file", path, file);
    if (st.st_size == 0)
        return qvd_error_set(err, -EINVAL, "%s/%s: empty", path, file);
    c->total = (uint64_t)st.st_size;
    return 0;
}

static must_check int open_images(struct copier *c, struct qvd_error *err)
{
    const char *path = conf_str(c->conf, "path.storage.images");
    int r = fs_mkdirs(path, 0755);

    if (r < 0)
        return qvd_error_errno(err, r, "images folder %s", path);
    c->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->folder < 0)
        return qvd_error_errno(err, errno, "images folder %s", path);
    if (str_format(c->temporary, sizeof c->temporary, ".%s.part", c->name) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "%s: the name is too long", c->name);
    (void)unlinkat(c->folder, c->temporary, 0);
    c->to = openat(c->folder, c->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (c->to < 0)
        return qvd_error_errno(err, errno, "%s/%s", path, c->temporary);
    c->made = true;
    return 0;
}

static int on_copy(void *owner, const void *msg, int *fd)
{
    struct copier *c = owner;
    const struct api_copy *m = msg;
    struct qvd_error err;

    ipc_channel_set_state(c->channel, 1);
    if (!api_file_name_ok(m->file) || !api_image_name_ok(m->name) ||
        str_copy(c->name, sizeof c->name, m->name) < 0)
        return -EBADMSG;
    if (open_staging(c, m->file, &err) < 0 || open_images(c, &err) < 0 ||
        enter_sandbox(c, &err) < 0)
        finish(c, false, "", err.text);
    else
        ev_timer_arm(c->more, 0);
    return 0;
}

static void on_closed(void *owner, int reason)
{
    struct copier *c = owner;

    if (c->made)
        (void)unlinkat(c->folder, c->temporary, 0);
    ev_loop_stop(c->loop, 1);
}

int api_copy(const struct conf *conf)
{
    static const struct ipc_handler handlers[] = {
        {&api_copy_msg, 1, on_copy}
    };
    struct copier c = {.conf = conf, .from = -EBADF, .to = -EBADF, .folder = -EBADF};

    c.sum = EVP_MD_CTX_new();
    c.piece = malloc(PIECE);
    if (!c.sum || !c.piece || !EVP_DigestInit_ex(c.sum, EVP_sha256(), NULL) ||
        ev_loop_new(&c.loop) < 0 || ev_timer_new(c.loop, copy_piece, &c, &c.more) < 0 ||
        ipc_channel_new(c.loop, API_CHANNEL_FD, handlers, ARRAY_SIZE(handlers), on_closed, &c,
                        &c.channel) < 0) {
        log_error("the copier cannot start: out of memory, or not started by qvd-api");
        return 1;
    }
    int status = ev_loop_run(c.loop);
    ipc_channel_free(c.channel);
    ev_timer_free(c.more);
    ev_loop_free(c.loop);
    EVP_MD_CTX_free(c.sum);
    free(c.piece);
    return status;
}
