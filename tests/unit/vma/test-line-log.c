// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "vma/line-log.h"

#define MAX 1000

struct place {
    char dir[32], path[64], old[64];
    struct line_log log;
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    strcpy(p->dir, "/tmp/line-log-XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    snprintf(p->path, sizeof p->path, "%s/x.log", p->dir);
    snprintf(p->old, sizeof p->old, "%s/x.log.1", p->dir);
    p->log = LINE_LOG_CLOSED;
    *state = p;
    return 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;

    line_log_close(&p->log);
    (void)unlink(p->path);
    (void)unlink(p->old);
    (void)rmdir(p->dir);
    free(p);
    return 0;
}

static void put(struct place *p, const char *line)
{
    line_log_put(&p->log, p->path, MAX, line);
}

static void assert_holds(const char *path, const char *expected)
{
    char *text = NULL;

    assert_int_equal(fs_read(path, 1 << 16, &text, NULL), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void lines_are_appended_to_one_file(void **state)
{
    struct place *p = *state;

    put(p, "one");
    int fd = p->log.fd;
    put(p, "two");
    assert_true(fd >= 0 && p->log.fd == fd);
    assert_holds(p->path, "one\ntwo\n");
    line_log_close(&p->log);
    put(p, "three");
    assert_holds(p->path, "one\ntwo\nthree\n");
}

static void who_renames_or_removes_it_tells_nobody(void **state)
{
    struct place *p = *state;

    put(p, "one");
    assert_int_equal(rename(p->path, p->old), 0);
    put(p, "two");
    assert_holds(p->old, "one\n");
    assert_holds(p->path, "two\n");
    assert_int_equal(unlink(p->path), 0);
    put(p, "three");
    assert_holds(p->path, "three\n");
    assert_int_equal(truncate(p->path, 0), 0);
    put(p, "four");
    assert_holds(p->path, "four\n");
}

static void one_that_is_too_long_is_put_aside(void **state)
{
    char line[MAX + 1], whole[MAX + 2];
    struct place *p = *state;

    memset(line, 'x', MAX);
    line[MAX] = '\0';
    snprintf(whole, sizeof whole, "%s\n", line);
    put(p, line);
    put(p, "next");
    assert_holds(p->old, whole);
    assert_holds(p->path, "next\n");
}

static void a_folder_that_is_not_there_costs_the_line_only(void **state)
{
    struct place *p = *state;

    line_log_put(&p->log, "/nonexistent/x.log", MAX, "lost");
    assert_int_equal(p->log.fd, -1);
    put(p, "kept");
    assert_holds(p->path, "kept\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_appended_to_one_file, make_place, remove_place),
        cmocka_unit_test_setup_teardown(who_renames_or_removes_it_tells_nobody, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(one_that_is_too_long_is_put_aside, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_costs_the_line_only, make_place,
                                        remove_place),
    };

    return cmocka_run_group_tests_name("line-log", tests, NULL, NULL);
}
