// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

static int make_dir(void **state)
{
    char name[] = "/tmp/qvd-test-XXXXXX";

    *state = mkdtemp(name) ? strdup(name) : NULL;
    return *state ? 0 : -1;
}

static int remove_dir(void **state)
{
    int r = rmdir(*state);

    free(*state);
    return r;
}

static void atomic_write_is_whole_and_private(void **state)
{
    _cleanup_(free_p) char *path = str_printf("%s/secret", (char *)*state), *data = NULL;
    struct stat st;
    size_t len;

    assert_int_equal(fs_write_atomic(path, "one", 3, 0600), 0);
    assert_int_equal(fs_write_atomic(path, "two!", 4, 0600), 0);
    assert_int_equal(fs_read(path, 100, &data, &len), 0);
    assert_string_equal(data, "two!");
    assert_int_equal(len, 4);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    _cleanup_(free_p) char *more = NULL;
    assert_int_equal(fs_read(path, 3, &more, &len), -EFBIG);
    assert_int_equal(unlink(path), 0); /* and nothing beside it: the folder can be removed */
}

static void log_lines_stay_one_line(void **state)
{
    _cleanup_(free_p) char *path = str_printf("%s/log", (char *)*state), *text = NULL;
    size_t len;

    log_open("test");
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(log_set_file(path), 0);
    log_info("[vm:%d] said \"%s\"", 42, "a\nerror: forged\x1b[2J");
    log_debug("not written");
    assert_int_equal(log_set_file(NULL), 0);
    assert_int_equal(fs_read(path, 4096, &text, &len), 0);
    assert_int_equal(unlink(path), 0);
    assert_non_null(strstr(text, " info: [vm:42] said \"a\\x0aerror: forged\\x1b[2J\"\n"));
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
}

static void log_levels_have_their_words(void **state)
{
    assert_int_equal(log_level_from_string("warn"), LOG_LEVEL_WARNING);
    assert_int_equal(log_level_from_string("loud"), LOG_LEVEL_INVALID);
    assert_int_equal(log_level_from_string(NULL), LOG_LEVEL_INVALID);
    assert_string_equal(log_level_to_string(LOG_LEVEL_DEBUG), "debug");
    assert_null(log_level_to_string(LOG_LEVEL_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(atomic_write_is_whole_and_private, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(log_lines_stay_one_line, make_dir, remove_dir),
        cmocka_unit_test(log_levels_have_their_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
