// SPDX-License-Identifier: GPL-3.0-or-later

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "db/db.h"

static struct db_target target(const char *text)
{
    struct qvd_error err;
    struct db_target t;
    struct conf *c = conf_new(NULL, NULL);

    assert_int_equal(conf_load_text(c, "f", text, strlen(text), &err), 0);
    if (db_target_from_conf(c, "l7r", &t, &err) < 0)
        fail_msg("%s", err.text);
    conf_free(c);
    return t;
}

static void refused(const char *text, int code, const char *expected)
{
    struct qvd_error err;
    struct db_target t;
    struct conf *c = conf_new(NULL, NULL);

    assert_int_equal(conf_load_text(c, "f", text, strlen(text), &err), 0);
    assert_int_equal(db_target_from_conf(c, "l7r", &t, &err), code);
    assert_non_null(strstr(err.text, expected));
    conf_free(c);
}

static void test_hosts(void **state)
{
    struct db_target t = target("database.host = /run/postgresql\n");

    assert_string_equal(t.host, "/run/postgresql");
    assert_string_equal(t.hostaddr, "");
    t = target("database.host = 127.0.0.1\n");
    assert_string_equal(t.hostaddr, "127.0.0.1");
    t = target("database.host = 10.0.0.1, ::1\ndatabase.port = 5433\n");
    assert_string_equal(t.host, "10.0.0.1,::1");
    assert_string_equal(t.hostaddr, "10.0.0.1,::1");
    assert_string_equal(t.port, "5433");
    /* Resolved here, so that libpq does not do it inside a loop. */
    t = target("database.host = localhost\n");
    assert_true(strcmp(t.hostaddr, "127.0.0.1") == 0 || strcmp(t.hostaddr, "::1") == 0);
    refused("database.host = \n", -EINVAL, "database.host must be set");
    refused("database.host = /run/a, /run/b\n", -EINVAL, "a folder stands alone");
    refused("database.host = no.such.host.invalid\n", -EHOSTUNREACH,
            "database.host = no.such.host.invalid: ");
}

static void test_roles(void **state)
{
    struct db_target t = target("database.host = /x\ndatabase.l7r.password = one\n"
                                "database.hkd.password = two\ndatabase.password = three\n"
                                "database.name = farm\n");

    assert_string_equal(t.user, "qvd_l7r");
    assert_string_equal(t.password, "one");
    assert_string_equal(t.name, "farm");
    t = target("database.host = /x\ndatabase.user = qvd\ndatabase.password = three\n"
               "database.l7r.password = one\n");
    assert_string_equal(t.user, "qvd");
    assert_string_equal(t.password, "three");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_roles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
