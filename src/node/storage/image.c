// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/storage/image.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/str.h"
#include "ev/child.h"

#define TEMP_PREFIX ".unpack-"
#define MARK_LEN 8
/* The unpacker's exit when another node has unpacked the image while it waited for the lock. */
#define EXIT_THERE 10

struct want {
    struct list node;
    image_progress_fn *progress;
    image_done_fn *done;
    void *arg;
};

/* One unpacking. */
struct image {
    struct list node;
    struct images *all;
    char name[256], temp[320];
    struct list wants;
    struct ev_child *child;
    struct ev_io *io;
    int pipe, lock;
    struct buf line;
    unsigned percent;
    bool gone;
    int status;
    struct qvd_error err; /* what the unpacker told */
};

struct images {
    struct ev_loop *loop;
    char images[224], basefs[224], unpacker[224];
    uint64_t max_bytes, max_entries;
    struct purge *purge;
    node_log_fn *log;
    void *log_arg;
    struct list active;
};

bool image_name_ok(const char *name)
{
    return *name && *name != '.' && strlen(name) <= 200 && !strpbrk(name, "/\n");
}

static struct image *image_free(struct image *i)
{
    QVD_LIST_FOREACH (w, &i->wants, struct want, node)
        free(w);
    list_remove(&i->node);
    ev_io_free(i->io);
    ev_child_free(i->child);
    fd_close(i->pipe);
    fd_close(i->lock);
    buf_done(&i->line);
    free(i);
    return NULL;
}

static void tell_done(void *arg)
{
    struct image *i = arg;

    while (!list_empty(&i->wants)) {
        struct want *w = QVD_CONTAINER(i->wants.next, struct want, node);
        list_remove(&w->node);
        w->done(w->arg, i->err.code, &i->err);
        free(w);
    }
    image_free(i);
}

/* The unpacker's own words, or how it ended. */
static void fill_reason(struct image *i)
{
    char text[32];

    if (i->err.code == 0)
        qvd_error_set(&i->err, -EIO, "qvd-unpack ended by %s",
                      ev_child_status_text(i->status, text, sizeof text));
    qvd_error_wrap(&i->err, "image %s", i->name);
}

static must_check int put_in_place(struct image *i)
{
    char base[512];
    struct stat st;
    int r = str_format(base, sizeof base, "%s/%s", i->all->basefs, i->name);

    if (r == 0 && lstat(base, &st) == 0)
        return -EEXIST;
    return r == 0 && rename(i->temp, base) < 0 ? -errno : r;
}

static void finish(struct image *i)
{
    bool there = WIFEXITED(i->status) && WEXITSTATUS(i->status) == EXIT_THERE;
    int r = i->status == 0 ? put_in_place(i) : 0;

    if (i->status == 0 && r == 0) {
        tell_done(i);
        return;
    }
    if (r < 0)
        qvd_error_errno(&i->err, r, "image %s: cannot be put in place", i->name);
    else if (!there)
        fill_reason(i);
    /* Told once nothing is left of it. */
    if (purge_add(i->all->purge, i->temp, true, tell_done, i) < 0)
        tell_done(i);
}

/* "progress 42", "note TEXT" or "error TEXT": who writes has read a stranger's archive. */
static void on_line(struct image *i, char *line)
{
    uint64_t percent;
    char text[400];

    for (char *c = line; *c; c++)
        if (!isprint((unsigned char)*c))
            *c = '?';

    if (str_starts(line, "progress ") && str_to_u64(line + 9, 100, &percent) == 0) {
        if (percent == i->percent)
            return;
        i->percent = (unsigned)percent;
        QVD_LIST_FOREACH (w, &i->wants, struct want, node)
            if (w->progress)
                w->progress(w->arg, i->percent);
    } else if (str_starts(line, "error ") && i->err.code == 0) {
        qvd_error_set(&i->err, -EBADMSG, "%s", line + 6);
    } else if (str_starts(line, "note ") && i->all->log) {
        (void)!snprintf(text, sizeof text, "image %s: %s", i->name, line + 5);
        i->all->log(i->all->log_arg, text);
    }
}

static void take_lines(struct image *i)
{
    char *text, *end;

    while ((text = buf_cstr(&i->line)) && (end = strchr(text, '\n'))) {
        *end = '\0';
        on_line(i, text);
        buf_consume(&i->line, (size_t)(end - text) + 1);
    }
}

static void on_output(void *arg, unsigned events)
{
    struct image *i = arg;
    char chunk[1024];
    ssize_t n = read(i->pipe, chunk, sizeof chunk);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0 && buf_append(&i->line, chunk, (size_t)n) == 0) {
        take_lines(i);
        return;
    }
    i->io = ev_io_free(i->io); /* the end, or a line without one */
    i->pipe = fd_close(i->pipe);
    if (i->gone)
        finish(i);
}

static void on_gone(void *arg, int status)
{
    struct image *i = arg;

    i->gone = true;
    i->status = status;
    i->child = ev_child_free(i->child);
    if (!i->io)
        finish(i);
}

static must_check int spawn(struct image *i, struct qvd_error *err)
{
    const struct images *im = i->all;
    char file[512], base[512], bytes[24], entries[24];
    const char *argv[] = {im->unpacker, "--image",     file,  "--base",        base,    "--into",
                          i->temp,      "--max-bytes", bytes, "--max-entries", entries, NULL};
    int fds[2];

    if (str_format(file, sizeof file, "%s/%s", im->images, i->name) < 0 ||
        str_format(base, sizeof base, "%s/%s", im->basefs, i->name) < 0 ||
        str_format(bytes, sizeof bytes, "%llu", (unsigned long long)im->max_bytes) < 0 ||
        str_format(entries, sizeof entries, "%llu", (unsigned long long)im->max_entries) < 0)
        return qvd_error_set(err, -ENAMETOOLONG, "image %s: its path is too long", i->name);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return qvd_error_errno(err, errno, "image %s", i->name);
    i->pipe = fds[0];
    _cleanup_(close_p) int theirs = fds[1];
    struct ev_child_fd child_fds[] = {
        {theirs,  1},
        {i->lock, 3}
    };
    struct ev_child_spec spec = {.path = im->unpacker,
                                 .argv = argv,
                                 .fds = child_fds,
                                 .n_fds = ARRAY_SIZE(child_fds),
                                 .death_signal = SIGKILL};
    int r = fs_set_nonblock(i->pipe);
    if (r == 0)
        r = ev_io_new(im->loop, i->pipe, EV_IO_IN, on_output, i, &i->io);
    if (r < 0)
        return qvd_error_errno(err, r, "image %s", i->name);
    return ev_child_spawn(im->loop, &spec, on_gone, i, &i->child, err);
}

/* The lock's descriptor goes to the unpacker too, which waits for it: the lock is held until both
 * have closed it. */
static must_check int open_lock(const struct images *im, const char *name)
{
    char path[512];

    if (str_format(path, sizeof path, "%s/lock.%s", im->basefs, name) < 0)
        return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

static must_check int begin(struct images *im, const char *name, struct image **ret,
                            struct qvd_error *err)
{
    char mark[MARK_LEN + 1];
    struct image *i = calloc(1, sizeof *i);

    if (!i)
        return qvd_error_errno(err, ENOMEM, "image %s", name);
    *i = (struct image){.all = im, .pipe = -EBADF, .lock = -EBADF};
    list_init(&i->wants);
    list_init(&i->node);
    buf_init(&i->line, 4096);
    int r = random_alnum(mark, MARK_LEN);
    if (r == 0)
        r = str_copy(i->name, sizeof i->name, name);
    if (r == 0)
        r = str_format(i->temp, sizeof i->temp, "%s/" TEMP_PREFIX "%s-%s", im->basefs, name, mark);
    if (r == 0) {
        i->lock = open_lock(im, name);
        r = i->lock < 0 ? i->lock : 0;
    }
    r = r < 0 ? qvd_error_errno(err, r, "image %s: cannot lock it in %s", name, im->basefs)
              : spawn(i, err);
    if (r < 0) {
        image_free(i);
        return r;
    }
    list_append(&im->active, &i->node);
    *ret = i;
    return 0;
}

static struct image *find_active(struct images *im, const char *name)
{
    QVD_LIST_FOREACH (i, &im->active, struct image, node)
        if (strcmp(i->name, name) == 0)
            return i;
    return NULL;
}

int image_want(struct images *im, const char *name, image_progress_fn *progress,
               image_done_fn *done, void *arg, struct qvd_error *err)
{
    char base[512];
    struct stat st;

    if (!image_name_ok(name) || str_format(base, sizeof base, "%s/%s", im->basefs, name) < 0)
        return qvd_error_set(err, -EINVAL, "image %s: not a name of a file in %s", name,
                             im->images);
    if (lstat(base, &st) == 0 && S_ISDIR(st.st_mode))
        return 1;
    struct want *w = calloc(1, sizeof *w);
    if (!w)
        return qvd_error_errno(err, ENOMEM, "image %s", name);
    *w = (struct want){.progress = progress, .done = done, .arg = arg};
    list_init(&w->node);
    struct image *i = find_active(im, name);
    int r = i ? 0 : begin(im, name, &i, err);
    if (r < 0) {
        free(w);
        return r;
    }
    list_append(&i->wants, &w->node);
    return 0;
}

void image_unwant(struct images *im, const void *arg)
{
    QVD_LIST_FOREACH (i, &im->active, struct image, node)
        QVD_LIST_FOREACH (w, &i->wants, struct want, node)
            if (w->arg == arg) {
                list_remove(&w->node);
                free(w);
            }
}

/* ".unpack-NAME-XXXXXXXX": is NAME's lock free? */
static bool abandoned(const struct images *im, const char *entry)
{
    char name[256];
    size_t len = strlen(entry);

    if (!str_starts(entry, TEMP_PREFIX) || len < strlen(TEMP_PREFIX) + MARK_LEN + 2 ||
        str_copy_n(name, sizeof name, entry + strlen(TEMP_PREFIX),
                   len - strlen(TEMP_PREFIX) - MARK_LEN - 1) < 0)
        return false;
    _cleanup_(close_p) int fd = open_lock(im, name);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

void image_sweep(struct images *im)
{
    DIR *d = opendir(im->basefs);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        _cleanup_(free_p) char *path = str_printf("%s/%s", im->basefs, e->d_name);
        if (path && abandoned(im, e->d_name) && purge_add(im->purge, path, false, NULL, NULL) < 0)
            break;
    }
    if (d)
        closedir(d);
}

int images_new(struct ev_loop *loop, const struct image_settings *s, struct purge *purge,
               struct images **ret)
{
    struct images *im = calloc(1, sizeof *im);

    if (!im)
        return -ENOMEM;
    *im = (struct images){
        .loop = loop, .purge = purge, .max_bytes = s->max_bytes, .max_entries = s->max_entries};
    list_init(&im->active);
    if (str_copy(im->images, sizeof im->images, s->images) < 0 ||
        str_copy(im->basefs, sizeof im->basefs, s->basefs) < 0 ||
        str_copy(im->unpacker, sizeof im->unpacker, s->unpacker) < 0) {
        free(im);
        return -ENAMETOOLONG;
    }
    *ret = im;
    return 0;
}

struct images *images_free(struct images *im)
{
    if (!im)
        return NULL;
    QVD_LIST_FOREACH (i, &im->active, struct image, node) {
        if (i->child)
            (void)ev_child_kill(i->child, SIGKILL);
        image_free(i);
    }
    free(im);
    return NULL;
}
