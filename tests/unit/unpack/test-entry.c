// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "unpack/entry.h"

static void names_stay_below_the_root(void **state)
{
    static const struct {
        const char *name;
        const char *path; /* NULL: refused */
    } rows[] = {
        {"./",              ""            },
        {".",               ""            },
        {"",                ""            },
        {"usr/bin/x",       "usr/bin/x"   },
        {"./usr//bin/./x/", "usr/bin/x"   },
        {"...",             "..."         },
        {"a/..b/c..",       "a/..b/c.."   },
        {"na\xc3\xafve",    "na\xc3\xafve"},
        {"..",              NULL          },
        {"../etc/passwd",   NULL          },
        {"a/../../b",       NULL          },
        {"a/..",            NULL          },
        {"/etc/passwd",     NULL          },
        {"caf\xe9",         NULL          },
    };
    char path[ENTRY_NAME_MAX + 1];
    struct qvd_error err;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int r = entry_path(rows[i].name, path, &err);
        assert_int_equal(r, rows[i].path ? 0 : -EINVAL);
        if (rows[i].path)
            assert_string_equal(path, rows[i].path);
    }
}

static void long_names_end_at_their_limits(void **state)
{
    char name[5000], path[ENTRY_NAME_MAX + 1];
    struct qvd_error err;

    memset(name, 'x', sizeof name);
    name[255] = '\0';
    assert_int_equal(entry_path(name, path, &err), 0);
    name[255] = 'x';
    name[256] = '\0';
    assert_int_equal(entry_path(name, path, &err), -EINVAL);
    memset(name, 'x', sizeof name);
    for (size_t i = 100; i < sizeof name; i += 100)
        name[i] = '/';
    name[ENTRY_NAME_MAX - 1] = 'x';
    name[ENTRY_NAME_MAX] = '\0';
    assert_int_equal(entry_path(name, path, &err), 0);
    name[ENTRY_NAME_MAX] = 'x';
    name[ENTRY_NAME_MAX + 1] = '\0';
    assert_int_equal(entry_path(name, path, &err), -EINVAL);
}

static void kinds_are_judged(void **state)
{
    static const struct {
        struct entry entry;
        int result;
        enum entry_verdict verdict;
    } rows[] = {
        {{"etc/x", ENTRY_FILE, NULL, 0, 0, 5},                    0,       ENTRY_TAKE},
        {{"etc/x", ENTRY_FILE, NULL, 65535, 65535, 0},            0,       ENTRY_TAKE},
        {{"etc/x", ENTRY_FILE, NULL, 65536, 0, 0},                -EINVAL, ENTRY_TAKE},
        {{"etc/x", ENTRY_FILE, NULL, 0, 65536, 0},                -EINVAL, ENTRY_TAKE},
        {{"etc/x", ENTRY_FILE, NULL, -1, 0, 0},                   -EINVAL, ENTRY_TAKE},
        {{"etc/x", ENTRY_FILE, NULL, 0, 0, -1},                   -EINVAL, ENTRY_TAKE},
        {{"./", ENTRY_FOLDER, NULL, 0, 0, 0},                     0,       ENTRY_TAKE},
        {{"./", ENTRY_SYMLINK, "/etc", 0, 0, 0},                  -EINVAL, ENTRY_TAKE},
        {{"./", ENTRY_FILE, NULL, 0, 0, 0},                       -EINVAL, ENTRY_TAKE},
        {{"etc/s", ENTRY_SYMLINK, "/proc/self", 0, 0, 0},         0,       ENTRY_TAKE},
        {{"etc/s", ENTRY_SYMLINK, "", 0, 0, 0},                   -EINVAL, ENTRY_TAKE},
        {{"etc/h", ENTRY_HARD_LINK, "./etc/x", 0, 0, 0},          0,       ENTRY_TAKE},
        {{"etc/h", ENTRY_HARD_LINK, "../../etc/shadow", 0, 0, 0}, -EINVAL, ENTRY_TAKE},
        {{"etc/h", ENTRY_HARD_LINK, "/etc/shadow", 0, 0, 0},      -EINVAL, ENTRY_TAKE},
        {{"etc/h", ENTRY_HARD_LINK, ".", 0, 0, 0},                -EINVAL, ENTRY_TAKE},
        {{"dev/sda", ENTRY_DEVICE, NULL, 0, 0, 0},                0,       ENTRY_SKIP},
        {{"./dev/pts/1", ENTRY_DEVICE, NULL, 0, 0, 0},            0,       ENTRY_SKIP},
        {{"devices/sda", ENTRY_DEVICE, NULL, 0, 0, 0},            -EINVAL, ENTRY_TAKE},
        {{"tmp/sda", ENTRY_DEVICE, NULL, 0, 0, 0},                -EINVAL, ENTRY_TAKE},
        {{"run/s", ENTRY_SOCKET, NULL, 0, 0, 0},                  0,       ENTRY_SKIP},
        {{"run/initctl", ENTRY_FIFO, NULL, 0, 0, 0},              0,       ENTRY_TAKE},
        {{"x", ENTRY_OTHER, NULL, 0, 0, 0},                       -EINVAL, ENTRY_TAKE},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[ENTRY_NAME_MAX + 1];
        struct qvd_error err = {0};
        enum entry_verdict verdict;
        assert_int_equal(entry_path(rows[i].entry.name, path, &err), 0);
        int r = entry_judge(&rows[i].entry, path, &verdict, &err);
        assert_int_equal(r, rows[i].result);
        if (r == 0)
            assert_int_equal(verdict, rows[i].verdict);
        else
            assert_non_null(strstr(err.text, rows[i].entry.name));
    }
}

static void overlays_own_attributes_are_dropped(void **state)
{
    assert_true(entry_xattr_ok("security.capability"));
    assert_true(entry_xattr_ok("user.comment"));
    assert_false(entry_xattr_ok("trusted.overlay.redirect"));
    assert_false(entry_xattr_ok("user.overlay.opaque"));
    assert_false(entry_xattr_ok("security.selinux"));
    assert_false(entry_xattr_ok("system.posix_acl_access"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_stay_below_the_root),
        cmocka_unit_test(long_names_end_at_their_limits),
        cmocka_unit_test(kinds_are_judged),
        cmocka_unit_test(overlays_own_attributes_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
