// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"
#include "vma/skel.h"

/* Works in a folder of its own, in which "from" and "to" are. */
static int make_folders(void **state)
{
    static char dir[32];

    strcpy(dir, "/tmp/skel-XXXXXX");
    umask(022);
    *state = dir;
    return mkdtemp(dir) && chdir(dir) == 0 && mkdir("from", 0755) == 0 && mkdir("to", 0700) == 0
               ? 0
               : -1;
}

static int remove_folders(void **state)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf %s", (char *)*state);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    assert_int_equal(fs_write_atomic(path, text, strlen(text), mode), 0);
}

static void assert_file(const char *path, const char *text, mode_t mode)
{
    char *found = NULL;
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | mode);
    assert_int_equal(fs_read(path, 1 << 24, &found, NULL), 0);
    assert_string_equal(found, text);
    free(found);
}

/* What `cp -rT from to` makes of the same folder with umask 022. */
static void all_kinds_are_copied(void **state)
{
    char target[64] = "", *big = malloc((3 << 20) + 1);
    struct qvd_error err;
    struct stat st;

    memset(big, 'x', 3 << 20);
    big[3 << 20] = '\0';
    write_file("from/.profile", "PATH=/bin\n", 0644);
    write_file("from/script", "#!/bin/sh\n", 0777);
    write_file("from/suid", "", 04755);
    write_file("from/big", big, 0600);
    assert_int_equal(fs_mkdirs("from/.config/deep", 0755), 0);
    assert_int_equal(chmod("from/.config", 0770), 0);
    write_file("from/.config/deep/rc", "1", 0640);
    assert_int_equal(symlink("/nonexistent/x", "from/link"), 0);
    assert_int_equal(mkfifo("from/fifo", 0600), 0);

    assert_int_equal(skel_copy("from", "to", &err), 0);
    assert_file("to/.profile", "PATH=/bin\n", 0644);
    assert_file("to/script", "#!/bin/sh\n", 0755);
    assert_file("to/suid", "", 0755);
    assert_file("to/big", big, 0600);
    assert_file("to/.config/deep/rc", "1", 0640);
    assert_int_equal(stat("to/.config", &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0750);
    assert_int_equal(readlink("to/link", target, sizeof target - 1), strlen("/nonexistent/x"));
    assert_string_equal(target, "/nonexistent/x");
    assert_int_equal(lstat("to/fifo", &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(stat("to", &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    free(big);
}

static void nothing_is_overwritten_or_followed(void **state)
{
    struct qvd_error err;

    write_file("from/.profile", "new", 0644);
    write_file("to/.profile", "old", 0644);
    assert_int_equal(skel_copy("from", "to", &err), -EEXIST);
    assert_string_equal(err.text, "cannot copy .profile: File exists");
    assert_file("to/.profile", "old", 0644);

    assert_int_equal(unlink("to/.profile"), 0);
    assert_int_equal(symlink("../caught", "to/.profile"), 0);
    assert_int_equal(skel_copy("from", "to", &err), -EEXIST);
    assert_int_equal(access("caught", F_OK), -1);
    assert_int_equal(symlink("to", "home"), 0);
    assert_true(skel_copy("from", "home", &err) < 0);
}

static void a_missing_folder_is_named(void **state)
{
    struct qvd_error err;

    assert_int_equal(skel_copy("nosuch", "to", &err), -ENOENT);
    assert_string_equal(err.text, "cannot copy nosuch to to: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_kinds_are_copied, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(nothing_is_overwritten_or_followed, make_folders,
                                        remove_folders),
        cmocka_unit_test_setup_teardown(a_missing_folder_is_named, make_folders, remove_folders),
    };

    return cmocka_run_group_tests_name("skel", tests, NULL, NULL);
}
