// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"
#include "node/run.h"
#include "node/storage/image.h"

static char dir[64];

static int make_dir(void **state)
{
    strcpy(dir, "/tmp/test-run-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char path[256];

    run_remove(dir, 42);
    snprintf(path, sizeof path, "%s/vm", dir);
    rmdir(path);
    return rmdir(dir);
}

static void a_note_comes_back(void **state)
{
    const struct run_note note = {"qvd42", "54:52:00:03:0f:32", "10.3.15.50", "/s/o/1-42-overlayfs",
                                  "qvd-42"};
    struct run_note back;

    assert_int_equal(run_make(dir, 42), 0);
    assert_int_equal(run_note_write(dir, 42, &note), 0);
    assert_int_equal(run_note_read(dir, 42, &back), 0);
    assert_string_equal(back.port, note.port);
    assert_string_equal(back.mac, note.mac);
    assert_string_equal(back.ip, note.ip);
    assert_string_equal(back.overlay, note.overlay);
    assert_string_equal(back.cgroup, note.cgroup);
    assert_int_equal(run_note_read(dir, 43, &back), -ENOENT);
}

static void notes_that_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "port qvd1\n",
        "port qvd1\nmac x\nip 10.0.0.1\noverlay \ncgroup c\n",
        "port qvd1\nmac 54:52:00:03:0f:32\nip 10.0.0\noverlay \ncgroup c\n",
        "port a;b\nmac 54:52:00:03:0f:32\nip 10.0.0.1\noverlay \ncgroup c\n",
        "port qvd1\nmac 54:52:00:03:0f:32\nip 10.0.0.1\noverlay \ncgroup c",
        "port qvd1\nmac 54:52:00:03:0f:32\nip 10.0.0.1\noverlay \ncgroup c\nmore\n",
        "mac 54:52:00:03:0f:32\nport qvd1\nip 10.0.0.1\noverlay \ncgroup c\n",
        "port seventeen-letters\nmac 54:52:00:03:0f:32\nip 10.0.0.1\noverlay \ncgroup c\n",
    };
    struct run_note note;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (run_note_parse(rows[i], &note) != -EBADMSG)
            fail_msg("row %zu was taken", i);
    assert_int_equal(run_note_parse("port \nmac \nip \noverlay \ncgroup \n", &note), 0);
}

static void records(void **state)
{
    static const struct {
        const char *line;
        int end;
        const char *text;
    } rows[] = {
        {"stopped powered off as ordered\n", NODE_END_STOPPED, "powered off as ordered"},
        {"killed ended by force\n",          NODE_END_KILLED,  "ended by force"        },
        {"reboot x\n",                       NODE_END_REBOOT,  "x"                     },
        {"crashed\n",                        NODE_END_CRASHED, ""                      },
        {"failed a\tb\n",                    NODE_END_FAILED,  "a?b"                   },
        {"stop x\n",                         -1,               NULL                    },
        {"stoppedx\n",                       -1,               NULL                    },
        {"",                                 -1,               NULL                    },
    };
    enum node_vm_end end;
    char text[256];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int r = run_exit_parse(rows[i].line, &end, text);
        assert_int_equal(r, rows[i].end < 0 ? -EBADMSG : 0);
        if (r == 0) {
            assert_int_equal(end, rows[i].end);
            assert_string_equal(text, rows[i].text);
        }
    }
    assert_int_equal(run_exit_read(dir, 42, &end, text), -ENOENT);
}

/* Another process takes the lock as a guard does; it ends when its pipe is closed. */
static pid_t lock_holder(const char *path, int *ret_pipe)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int up[2], down[2];
    char c;

    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(down[1]);
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)!read(down[0], &c, 1);
        _exit(0);
    }
    close(up[1]);
    close(down[0]);
    assert_int_equal(read(up[0], &c, 1), 1);
    close(up[0]);
    *ret_pipe = down[1];
    return pid;
}

static void the_kernel_names_the_guard(void **state)
{
    char path[256];
    int end, pidfd = -1;

    assert_int_equal(run_make(dir, 42), 0);
    assert_int_equal(run_guard(dir, 42, NULL), 0); /* no lock file */
    assert_int_equal(run_path(dir, 42, "lock", path), 0);
    pid_t pid = lock_holder(path, &end);
    assert_int_equal(run_guard(dir, 42, &pidfd), pid);
    assert_true(pidfd >= 0);
    close(pidfd);
    close(end);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(run_guard(dir, 42, NULL), 0); /* the file is there, the holder is not */
}

static void image_names(void **state)
{
    assert_true(image_name_ok("7-ubuntu.tar.zst"));
    assert_false(image_name_ok(""));
    assert_false(image_name_ok(".hidden"));
    assert_false(image_name_ok(".."));
    assert_false(image_name_ok("a/b"));
    assert_false(image_name_ok("a\nb"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_note_comes_back, make_dir, remove_dir),
        cmocka_unit_test(notes_that_are_refused),
        cmocka_unit_test_setup_teardown(records, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_kernel_names_the_guard, make_dir, remove_dir),
        cmocka_unit_test(image_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
