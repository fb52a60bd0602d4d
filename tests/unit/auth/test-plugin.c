// SPDX-License-Identifier: GPL-3.0-or-later
/* The hooks over several plugins, in the order and with the combinations of auth-plugins 1 and 2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "auth/plugin.h"
#include "base/str.h"
#include "conf/conf.h"

/* What was called, one letter each: plugin a, b or c, then the hook. */
static char calls[200];
static enum auth_verdict a_says, b_says, second_says;

static void note(const char *call)
{
    assert_int_equal(str_format(calls + strlen(calls), sizeof calls - strlen(calls), "%s ", call),
                     0);
}

static enum auth_verdict a_basic(const struct conf *c, struct auth_attempt *a)
{
    note("a.basic");
    assert_string_equal(a->password, a->token ? "pass" : "pass123456");
    return a_says;
}

static enum auth_verdict b_basic(const struct conf *c, struct auth_attempt *a)
{
    note("b.basic");
    return b_says;
}

/* As totp: the last six digits are the second factor. */
static bool b_split(const struct conf *c, const struct auth_attempt *a, char *password, char *token,
                    size_t size)
{
    size_t n = strlen(a->password);

    note("b.split");
    return n > 6 && str_copy_n(password, size, a->password, n - 6) == 0 &&
           str_copy(token, size, a->password + n - 6) == 0;
}

static enum auth_verdict b_second(const struct conf *c, struct auth_attempt *a)
{
    note("b.second");
    assert_string_equal(a->token, "123456");
    return second_says;
}

static void a_after(const struct conf *c, struct auth_attempt *a)
{
    note("a.after");
    assert_int_equal(auth_params_set(a->params, "qvd.vm.user.uid", "4711"), 0);
}

static void b_after(const struct conf *c, struct auth_attempt *a)
{
    note("b.after");
    assert_int_equal(auth_params_set(a->params, "qvd.vm.user.uid", "4712"), 0);
}

static int a_find(const struct conf *c, const struct auth_attempt *a, struct login *ret)
{
    note("a.find");
    return -EINVAL;
}

static int b_find(const struct conf *c, const struct auth_attempt *a, struct login *ret)
{
    note("b.find");
    assert_int_equal(str_copy(ret->name, sizeof ret->name, a->typed), 0);
    assert_int_equal(str_copy(ret->tenant, sizeof ret->tenant, " LAB "), 0);
    return 0;
}

static int a_tenant(const struct conf *c, char *dst)
{
    note("a.tenant");
    assert_string_equal(dst, "lab");
    return str_copy(dst, LOGIN_NAME_MAX, "lab-a");
}

static int b_tenant(const struct conf *c, char *dst)
{
    note("b.tenant");
    assert_string_equal(dst, "lab-a");
    return str_copy(dst, LOGIN_NAME_MAX, "lab-ab");
}

static int b_login(const struct conf *c, char *dst)
{
    note("b.login");
    return strcmp(dst, "nobody") == 0 ? -EINVAL : 0;
}

static enum auth_verdict b_bearer(const struct conf *c, struct auth_attempt *a)
{
    note("b.bearer");
    a->login = (struct login){"ann", "lab"};
    return AUTH_YES;
}

static void a_before_list(const struct conf *c, struct auth_attempt *a)
{
    note("a.before_list");
}

static int a_list(const struct conf *c, struct auth_attempt *a, struct auth_vms *ret)
{
    note("a.list");
    return -ENOENT;
}

static int b_list(const struct conf *c, struct auth_attempt *a, struct auth_vms *ret)
{
    note("b.list");
    ret->ids[ret->n++] = 42;
    return 0;
}

static bool b_allow(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    note("b.allow");
    return vm_id == 42;
}

static void a_connect(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    note("a.connect");
}

static void b_connect(const struct conf *c, struct auth_attempt *a, uint64_t vm_id)
{
    note("b.connect");
}

static const struct auth_plugin a = {.name = "a",
                                     .before_list_of_vms = a_before_list,
                                     .list_of_vm = a_list,
                                     .before_connect_to_vm = a_connect,
                                     .find_tenant = a_find,
                                     .normalize_tenant = a_tenant,
                                     .authenticate_basic = a_basic,
                                     .after_authenticate = a_after};
static const struct auth_plugin b = {.name = "b",
                                     .list_of_vm = b_list,
                                     .allow_access_to_vm = b_allow,
                                     .before_connect_to_vm = b_connect,
                                     .find_tenant = b_find,
                                     .normalize_tenant = b_tenant,
                                     .normalize_login = b_login,
                                     .authenticate_basic = b_basic,
                                     .after_authenticate = b_after,
                                     .authenticate_bearer = b_bearer};
static const struct auth_plugin c = {
    .name = "c", .split = b_split, .authenticate_second = b_second};
static const struct auth_plugins both =
                                     {
                                         .at = {&a, &b},
                                           .n = 2
},
                                 all = {.at = {&a, &b, &c}, .n = 3};

static int fresh(void **state)
{
    calls[0] = 0;
    a_says = b_says = second_says = AUTH_NO;
    return (*state = conf_new(NULL, NULL)) ? 0 : -1;
}

static int done(void **state)
{
    conf_free(*state);
    return 0;
}

static void the_first_tenant_wins_and_names_are_chained(void **state)
{
    struct auth_attempt t = {.typed = " Ann "};

    assert_int_equal(auth_find_tenant(&both, *state, &t), 0);
    assert_string_equal(t.login.name, "ann");
    assert_string_equal(t.login.tenant, "lab-ab");
    assert_string_equal(calls, "a.find b.find a.tenant b.tenant b.login ");
    t.typed = "nobody";
    assert_int_equal(auth_find_tenant(&both, *state, &t), -EINVAL);
    static const struct auth_plugins only_a = {.at = {&a}, .n = 1};
    assert_int_equal(auth_find_tenant(&only_a, *state, &t), -EINVAL);
}

static void the_first_yes_wins(void **state)
{
    static const struct {
        enum auth_verdict a, b, all;
        const char *calls;
    } rows[] = {
        {AUTH_YES,  AUTH_NO,   AUTH_YES,  "a.basic "        },
        {AUTH_NO,   AUTH_YES,  AUTH_YES,  "a.basic b.basic "},
        {AUTH_NO,   AUTH_NO,   AUTH_NO,   "a.basic b.basic "},
        {AUTH_AWAY, AUTH_NO,   AUTH_AWAY, "a.basic b.basic "},
        {AUTH_NO,   AUTH_AWAY, AUTH_AWAY, "a.basic b.basic "},
        {AUTH_AWAY, AUTH_YES,  AUTH_YES,  "a.basic b.basic "},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct auth_attempt t = {
            .password = "pass123456", .login = {"ann", "lab"}
        };
        calls[0] = 0;
        a_says = rows[i].a;
        b_says = rows[i].b;
        assert_int_equal(auth_basic(&both, *state, &t), rows[i].all);
        assert_string_equal(calls, rows[i].calls);
    }
}

/* As if it had said nothing. */
static void a_plugin_that_says_nonsense_is_not_heard(void **state)
{
    struct auth_attempt t = {
        .password = "pass123456", .login = {"ann", "lab"}
    };

    a_says = (enum auth_verdict)77;
    b_says = AUTH_NO;
    assert_int_equal(auth_basic(&both, *state, &t), AUTH_NO);
    /* Who names nobody lets nobody in. */
    a_says = AUTH_YES;
    t.login.name[0] = 0;
    assert_int_equal(auth_basic(&both, *state, &t), AUTH_NO);
}

/* Only if one was split off; then none that takes it is a refusal. */
static void the_second_factor(void **state)
{
    struct auth_attempt t = {
        .password = "pass123456", .login = {"ann", "lab"}
    };

    a_says = second_says = AUTH_YES;
    assert_int_equal(auth_basic(&all, *state, &t), AUTH_YES);
    assert_string_equal(calls, "b.split a.basic b.second ");
    assert_string_equal(t.password, "pass123456");
    assert_null(t.token);
    second_says = AUTH_NO;
    assert_int_equal(auth_basic(&all, *state, &t), AUTH_NO);
    a_says = AUTH_NO;
    calls[0] = 0;
    assert_int_equal(auth_basic(&all, *state, &t), AUTH_NO);
    assert_string_equal(calls, "b.split a.basic b.basic ");
}

static void all_hear_of_a_login_and_the_later_parameter_holds(void **state)
{
    struct auth_attempt t = {.params = auth_params_new()};

    auth_after(&all, *state, &t);
    assert_string_equal(calls, "a.after b.after ");
    char *json = auth_params_json(t.params);
    assert_string_equal(json, "{\"qvd.vm.user.uid\":\"4712\"}");
    free(json);
    assert_int_equal(auth_params_set(t.params, "", "x"), -EINVAL);
    assert_int_equal(auth_params_set(t.params, "x", "\xff"), -EINVAL);
    char long_one[AUTH_PARAMS_MAX / 6 + 1];
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = 0;
    assert_int_equal(auth_params_set(t.params, "x", long_one), -E2BIG);
    auth_params_free(t.params);
}

static void a_token_of_a_plugin_names_its_user(void **state)
{
    struct auth_attempt t = {.token = "x"};

    assert_int_equal(auth_bearer(&all, *state, &t), AUTH_YES);
    assert_string_equal(t.login.name, "ann");
    assert_string_equal(calls, "b.bearer ");
}

/* The first list wins; one yes is enough; all hear of a connection. */
static void requests_of_one_who_is_known(void **state)
{
    struct auth_attempt t = {.user_id = 7};
    static const struct auth_plugins only_c =
                                         {
                                             .at = {&c},
                                               .n = 1
    },
                                     a_and_c = {.at = {&a, &c}, .n = 2};
    struct auth_vms vms;

    assert_true(auth_before_list(&all, *state, &t, &vms));
    assert_int_equal(vms.n, 1);
    assert_int_equal(vms.ids[0], 42);
    assert_string_equal(calls, "a.before_list a.list b.list ");
    assert_false(auth_before_list(&a_and_c, *state, &t, &vms));
    assert_true(auth_allow(&all, *state, &t, 42));
    assert_false(auth_allow(&all, *state, &t, 43));
    assert_false(auth_allow(&a_and_c, *state, &t, 42));
    calls[0] = 0;
    auth_before_connect(&all, *state, &t, 42);
    assert_string_equal(calls, "a.connect b.connect ");
    assert_true(auth_asks(&a_and_c));
    assert_false(auth_asks(&only_c));
}

/* auth-plugins 1: head, the tenant's, tail; each once. */
static void the_lists_of_plugins(void **state)
{
    static const struct conf_row rows[] = {
        {5, "l7r.auth.plugins", "default"},
        {6, "l7r.auth.plugins", "no-such"},
    };
    struct auth_plugins p;
    struct qvd_error err;

    assert_int_equal(auth_plugins_of(*state, -1, &p, &err), 0);
    assert_int_equal(p.n, 1);
    assert_string_equal(p.at[0]->name, "default");
    assert_int_equal(conf_override(*state, "l7r.auth.plugins.tail", "tester", &err), 0);
    assert_int_equal(conf_set_rows(*state, rows, 2), 0);
    assert_int_equal(auth_plugins_of(*state, 5, &p, &err), 0);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.at[0]->name, "default");
    assert_string_equal(p.at[1]->name, "tester");
    assert_int_equal(auth_plugins_of(*state, 7, &p, &err), 0);
    assert_string_equal(p.at[0]->name, "tester");
    assert_int_equal(auth_plugins_of(*state, 6, &p, &err), -EINVAL);
    assert_string_equal(err.text, "l7r.auth.plugins: there is no plugin \"no-such\", and no "
                                  "/usr/lib/qvd/auth/no-such.so");
    assert_int_equal(conf_override(*state, "l7r.auth.plugins.head", "tester, default", &err), 0);
    assert_int_equal(auth_plugins_of(*state, 5, &p, &err), 0);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.at[0]->name, "tester");
    assert_int_equal(conf_override(*state, "l7r.auth.plugins.head", "", &err), 0);
    assert_int_equal(conf_override(*state, "l7r.auth.plugins.tail", "", &err), 0);
    assert_int_equal(auth_plugins_of(*state, 7, &p, &err), -EINVAL);
}

static void what_is_shared_is_found_by_its_name(void **state)
{
    static const char shared[] = "LANG\0es_ES\0X\0";
    const struct auth_env env = {shared, sizeof shared}, none = {NULL, 0};
    const char *at = NULL, *name, *value;

    assert_string_equal(auth_env_get(&env, "LANG"), "es_ES");
    assert_string_equal(auth_env_get(&env, "X"), "");
    assert_null(auth_env_get(&env, "Y"));
    assert_null(auth_env_get(&none, "Y"));
    assert_false(auth_env_next(&none, &at, &name, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_tenant_wins_and_names_are_chained, fresh, done),
        cmocka_unit_test_setup_teardown(the_first_yes_wins, fresh, done),
        cmocka_unit_test_setup_teardown(a_plugin_that_says_nonsense_is_not_heard, fresh, done),
        cmocka_unit_test_setup_teardown(the_second_factor, fresh, done),
        cmocka_unit_test_setup_teardown(all_hear_of_a_login_and_the_later_parameter_holds, fresh,
                                        done),
        cmocka_unit_test_setup_teardown(a_token_of_a_plugin_names_its_user, fresh, done),
        cmocka_unit_test_setup_teardown(requests_of_one_who_is_known, fresh, done),
        cmocka_unit_test_setup_teardown(the_lists_of_plugins, fresh, done),
        cmocka_unit_test_setup_teardown(what_is_shared_is_found_by_its_name, fresh, done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
