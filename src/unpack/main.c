// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-unpack: unpacks one image into a new folder, as a child of hkd. Reads a stranger's archive
 * with root's right to make files of all owners, and nothing else: see unpack/jail.h. */
#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/str.h"
#include "config.h"
#include "unpack/extract.h"
#include "unpack/jail.h"

#define LOCK_FD 3
#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define EXIT_THERE 10

struct options {
    const char *image, *base, *into;
    struct extract_limits limits;
};

static const char usage[] =
    "usage: qvd-unpack --image FILE --into DIR [--base DIR] [--max-bytes N] [--max-entries N]\n"
    "\n"
    "Unpacks an image of a desktop (tar, plain or .gz, .xz, .zst) into DIR, which it makes.\n"
    "Started by qvd-hkd; of use by hand to see why an image is refused.\n"
    "\n"
    "  --image FILE      the archive\n"
    "  --into DIR        the folder to make\n"
    "  --base DIR        ends with status 10 when this folder exists once the lock is held\n"
    "                    (descriptor 3, when it is open, is locked meanwhile)\n"
    "  --max-bytes N     refuses an image with more bytes of files (64 GiB)\n"
    "  --max-entries N   refuses an image with more entries (500000)\n"
    "  --help, --version\n"
    "\n"
    "Lines on stdout: progress PERCENT; note TEXT; error TEXT (with status 1); done ENTRIES "
    "BYTES.\n";

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"image",            required_argument, NULL, 'i'},
        {"into",              required_argument, NULL, 't'},
        {"base",                  required_argument, NULL, 'b'},
        {"max-bytes",required_argument, NULL, 'B'},
        {"max-entries",               required_argument, NULL, 'E'},
        {"help",             no_argument, NULL, 'h'},
        {"version",              no_argument, NULL, 'V'},
        {0                 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        int r = 0;
        switch (c) {
        case 'i':
            o->image = optarg;
            break;
        case 't':
            o->into = optarg;
            break;
        case 'b':
            o->base = optarg;
            break;
        case 'B':
            r = str_to_u64(optarg, INT64_MAX, &o->limits.max_bytes);
            break;
        case 'E':
            r = str_to_u64(optarg, INT64_MAX, &o->limits.max_entries);
            break;
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        case 'V':
            puts("qvd-unpack " QVD_VERSION);
            exit(EXIT_SUCCESS);
        default:
            return EXIT_USAGE;
        }
        if (r < 0) {
            fprintf(stderr, "qvd-unpack: \"%s\" is no number\n", optarg);
            return EXIT_USAGE;
        }
    }
    if (o->image && o->into && optind == argc)
        return 0;
    fputs(usage, stderr);
    return EXIT_USAGE;
}

/* One line, whatever names stand in the text. */
static void print_line(const char *word, const char *text)
{
    printf("%s ", word);
    for (; *text; text++)
        putchar(*text >= 0x20 && *text < 0x7f ? *text : '?');
    putchar('\n');
    fflush(stdout);
}

static void on_progress(void *arg, unsigned percent)
{
    printf("progress %u\n", percent);
    fflush(stdout);
}

static must_check int open_image(const char *path, uint64_t *ret_size, struct qvd_error *err)
{
    struct stat st;
    _cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0)
        return qvd_error_errno(err, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return qvd_error_set(err, -EINVAL, "%s is not a plain file", path);
    *ret_size = st.st_size;
    return TAKE_FD(fd);
}

/* What hkd will start. Looked for in the new root, so that links lead nowhere else. */
static must_check int check_root(struct qvd_error *err)
{
    struct stat st;

    if (fstatat(AT_FDCWD, "/sbin/init", &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    return qvd_error_set(err, -EINVAL, "has no /sbin/init: pack the root folder of a system");
}

static must_check int unpack(const struct options *o, struct extract_counts *ret_counts,
                             struct qvd_error *err)
{
    uint64_t size = 0;
    _cleanup_(close_p) int fd = open_image(o->image, &size, err);

    if (fd < 0)
        return fd;
    if (mkdir(o->into, 0755) < 0)
        return qvd_error_errno(err, errno, "cannot make %s", o->into);
    int r = jail_enter(o->into, o->limits.max_bytes, err);
    if (r == 0)
        r = extract(fd, size, &o->limits, on_progress, NULL, ret_counts, err);
    if (r == 0)
        r = check_root(err);
    if (r < 0)
        return r;
    /* Whole on the disk before anybody renames it to its final name. */
    _cleanup_(close_p) int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || syncfs(root) < 0)
        return qvd_error_errno(err, errno, "cannot write all to the disk");
    return 0;
}

static int finish(int r, const struct extract_counts *counts, const struct qvd_error *err)
{
    if (r < 0) {
        print_line("error", err->text);
        return EXIT_REFUSED;
    }
    if (counts->skipped)
        printf("note %llu devices or sockets left out (%s ...)\n",
               (unsigned long long)counts->skipped, counts->first_skipped);
    printf("done %llu %llu\n", (unsigned long long)counts->entries,
           (unsigned long long)counts->bytes);
    fflush(stdout);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct options o = {
        .limits = {64ULL << 30, 500000}
    };
    struct extract_counts counts = {0};
    struct qvd_error err = {0};
    struct stat st;

    int r = parse(argc, argv, &o);
    if (r)
        return r;
    /* Names in pax headers are UTF-8: without such a locale libarchive cannot give them. */
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return finish(qvd_error_set(&err, -ENOENT, "the locale C.UTF-8 is missing"), NULL, &err);
    signal(SIGXFSZ, SIG_IGN);
    umask(022);
    if (fcntl(LOCK_FD, F_GETFD) >= 0) {
        while (flock(LOCK_FD, LOCK_EX) < 0)
            if (errno != EINTR)
                return finish(qvd_error_errno(&err, errno, "cannot take the lock"), NULL, &err);
        if (o.base && lstat(o.base, &st) == 0)
            return EXIT_THERE;
    }
    r = unpack(&o, &counts, &err);
    return finish(r, &counts, &err);
}
