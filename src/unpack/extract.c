// SPDX-License-Identifier: GPL-3.0-or-later
#include "unpack/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "unpack/entry.h"

#define BLOCK (256 * 1024)
/* Nothing through a link, nothing by a path that leads elsewhere. Not EXTRACT_UNLINK: with it
 * libarchive replaces a link in the way instead of refusing. */
#define FLAGS                                                                                      \
    (ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR | \
     ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |                           \
     ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS | ARCHIVE_EXTRACT_SPARSE)

struct run {
    struct archive *in, *out;
    struct archive_entry *entry;
    uint64_t archive_size;
    const struct extract_limits *limits;
    extract_progress_fn *progress;
    void *arg;
    unsigned percent;
    struct extract_counts counts;
    char path[ENTRY_NAME_MAX + 1];
};

static enum entry_kind kind_of(struct archive_entry *e)
{
    if (archive_entry_hardlink(e))
        return ENTRY_HARD_LINK;
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return ENTRY_FILE;
    case AE_IFDIR:
        return ENTRY_FOLDER;
    case AE_IFLNK:
        return ENTRY_SYMLINK;
    case AE_IFCHR:
    case AE_IFBLK:
        return ENTRY_DEVICE;
    case AE_IFIFO:
        return ENTRY_FIFO;
    case AE_IFSOCK:
        return ENTRY_SOCKET;
    default:
        return ENTRY_OTHER;
    }
}

/* Why libarchive failed, in words of ours where a person can do something. */
static must_check int archive_failed(struct archive *a, const char *path, struct qvd_error *err)
{
    int code = archive_errno(a);

    if (code == ENOSPC || code == EDQUOT)
        return qvd_error_set(err, -ENOSPC, "the disk is full; make room below path.storage.basefs");
    if (code == EFBIG)
        return qvd_error_set(err, -EFBIG, "entry \"%.60s\" exceeds vm.lxc.image.size.max", path);
    return qvd_error_set(err, -EBADMSG, "%s%.60s%s%.120s", *path ? "entry \"" : "", path,
                         *path ? "\": " : "", archive_error_string(a));
}

static void drop_xattrs(struct archive_entry *e)
{
    const char *name;
    const void *value;
    size_t size, n = 0;
    struct {
        char name[256];
        void *value;
        size_t size;
    } kept[16];

    archive_entry_xattr_reset(e);
    while (n < ARRAY_SIZE(kept) &&
           archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        if (!entry_xattr_ok(name) || str_copy(kept[n].name, sizeof kept[n].name, name) < 0)
            continue;
        kept[n].value = malloc(size ? size : 1);
        if (!kept[n].value)
            break;
        memcpy(kept[n].value, value, size);
        kept[n++].size = size;
    }
    archive_entry_xattr_clear(e);
    for (size_t i = 0; i < n; i++) {
        archive_entry_xattr_add_entry(e, kept[i].name, kept[i].value, kept[i].size);
        free(kept[i].value);
    }
    archive_entry_acl_clear(e);
    archive_entry_set_fflags(e, 0, 0);
}

static void tell_progress(struct run *x)
{
    int64_t read = archive_filter_bytes(x->in, -1);
    unsigned percent = x->archive_size && read > 0 ? (uint64_t)read * 100 / x->archive_size : 0;

    if (percent <= x->percent || percent > 100)
        return;
    x->percent = percent;
    if (x->progress)
        x->progress(x->arg, percent);
}

static must_check int count(struct run *x, const struct entry *e, struct qvd_error *err)
{
    if (++x->counts.entries > x->limits->max_entries)
        return qvd_error_set(err, -EFBIG, "more than %llu entries (vm.lxc.image.entries.max)",
                             (unsigned long long)x->limits->max_entries);
    if (e->kind != ENTRY_FILE)
        return 0;
    x->counts.bytes += e->size;
    if ((uint64_t)e->size > x->limits->max_bytes || x->counts.bytes > x->limits->max_bytes)
        return qvd_error_set(err, -EFBIG,
                             "entry \"%.60s\": more than %llu MB in all (vm.lxc.image.size.max)",
                             x->path, (unsigned long long)(x->limits->max_bytes >> 20));
    return 0;
}

static must_check int copy_data(struct run *x, struct qvd_error *err)
{
    const void *block;
    size_t size;
    la_int64_t offset;

    for (;;) {
        int r = archive_read_data_block(x->in, &block, &size, &offset);
        if (r == ARCHIVE_EOF)
            return 0;
        if (r < ARCHIVE_WARN)
            return archive_failed(x->in, x->path, err);
        /* A file may not outgrow the size that was counted. */
        if (offset < 0 || offset + (int64_t)size > archive_entry_size(x->entry))
            return qvd_error_set(err, -EBADMSG, "entry \"%.60s\" is longer than it says", x->path);
        if (archive_write_data_block(x->out, block, size, offset) < ARCHIVE_OK)
            return archive_failed(x->out, x->path, err);
        tell_progress(x);
    }
}

static must_check int take(struct run *x, const struct entry *e, struct qvd_error *err)
{
    char target[ENTRY_NAME_MAX + 1];

    archive_entry_set_pathname(x->entry, *x->path ? x->path : ".");
    if (e->kind == ENTRY_HARD_LINK) {
        int r = entry_path(e->target, target, err);
        if (r < 0)
            return r;
        archive_entry_set_hardlink(x->entry, target);
        archive_entry_unset_size(x->entry);
    }
    drop_xattrs(x->entry);
    if (archive_write_header(x->out, x->entry) < ARCHIVE_OK)
        return archive_failed(x->out, x->path, err);
    if (e->kind == ENTRY_FILE && e->size > 0) {
        int r = copy_data(x, err);
        if (r < 0)
            return r;
    }
    if (archive_write_finish_entry(x->out) < ARCHIVE_OK)
        return archive_failed(x->out, x->path, err);
    return 0;
}

static must_check int handle(struct run *x, struct qvd_error *err)
{
    enum entry_verdict verdict;
    struct entry e = {
        .name = archive_entry_pathname(x->entry),
        .kind = kind_of(x->entry),
        .uid = archive_entry_uid(x->entry),
        .gid = archive_entry_gid(x->entry),
        .size = archive_entry_size(x->entry),
    };

    if (!e.name)
        return qvd_error_set(err, -EINVAL, "an entry has a name that is not UTF-8");
    e.target = e.kind == ENTRY_HARD_LINK ? archive_entry_hardlink(x->entry)
                                         : archive_entry_symlink(x->entry);
    int r = entry_path(e.name, x->path, err);
    if (r == 0)
        r = entry_judge(&e, x->path, &verdict, err);
    if (r == 0)
        r = count(x, &e, err);
    if (r < 0)
        return r;
    tell_progress(x);
    if (verdict == ENTRY_TAKE)
        return take(x, &e, err);
    if (x->counts.skipped++ == 0 && str_copy(x->counts.first_skipped, 64, x->path) < 0)
        memcpy(x->counts.first_skipped, "(long name)", 12);
    return 0;
}

static must_check int run_all(struct run *x, struct qvd_error *err)
{
    for (;;) {
        int r = archive_read_next_header(x->in, &x->entry);
        x->path[0] = '\0';
        if (r == ARCHIVE_EOF)
            break;
        if (r < ARCHIVE_WARN)
            return archive_failed(x->in, "", err);
        r = handle(x, err);
        if (r < 0)
            return r;
    }
    if (x->counts.entries == 0)
        return qvd_error_set(err, -EBADMSG, "the archive is empty");
    /* Times and modes of folders are set now. */
    return archive_write_close(x->out) < ARCHIVE_OK ? archive_failed(x->out, "", err) : 0;
}

static must_check int open_archive(struct run *x, int fd, struct qvd_error *err)
{
    x->in = archive_read_new();
    x->out = archive_write_disk_new();
    if (!x->in || !x->out)
        return qvd_error_errno(err, ENOMEM, "cannot unpack");
    archive_read_support_format_tar(x->in);
    archive_read_support_filter_none(x->in);
    archive_read_support_filter_gzip(x->in);
    archive_read_support_filter_xz(x->in);
    archive_read_support_filter_zstd(x->in);
    archive_write_disk_set_options(x->out, FLAGS);
    if (archive_read_open_fd(x->in, fd, BLOCK) < ARCHIVE_WARN)
        return archive_failed(x->in, "", err);
    return 0;
}

int extract(int fd, uint64_t archive_size, const struct extract_limits *limits,
            extract_progress_fn *progress, void *arg, struct extract_counts *ret_counts,
            struct qvd_error *err)
{
    struct run x = {
        .archive_size = archive_size, .limits = limits, .progress = progress, .arg = arg};

    int r = open_archive(&x, fd, err);
    if (r == 0)
        r = run_all(&x, err);
    if (x.in)
        archive_read_free(x.in);
    if (x.out)
        archive_write_free(x.out);
    if (r == 0)
        *ret_counts = x.counts;
    return r;
}
