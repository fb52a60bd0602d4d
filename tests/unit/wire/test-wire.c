// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/str.h"
#include "wire/l7r.h"
#include "wire/vma.h"

/* Computed by Python's hmac and hashlib over secret 00 01 ... 1f. */
#define NONCE "00112233445566778899aabbccddeeff"
#define PING_VALUE "v1 0 " NONCE " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401"
#define START_BODY "{\"qvd.vm.user.name\":\"demo\"}"
#define START_VALUE                                                                                \
    "v1 4711 " NONCE " bf58d7b365229d6194d1bd6326ad8d1629d0068e03fd09688c25a568d326e5af"
#define LARGEST_VALUE                                                                              \
    "v1 18446744073709551615 " NONCE                                                               \
    " cfece562fed407d930b93517c40ea5178196d8e9eee2ae8a8be8ac65d3b6cf8d"
#define OK_BODY "{\"state\":\"listening\"}"
#define OK_VALUE "v1 fc9fede9753f3eb94277afd73647fddf3d6ce5442494ebaa52e8c3ea4c7652a2"
#define EMPTY_503_VALUE "v1 80bbb15cfbbf7c238ac86e89502857167afb6ea78fe8fd111404b2559502e19a"

static uint8_t secret[WIRE_VMA_SECRET_LEN];

static int setup(void **state)
{
    for (unsigned i = 0; i < sizeof secret; i++)
        secret[i] = i;
    return 0;
}

static int check(const char *function, const char *value, const char *body, uint64_t *ret_serial)
{
    char nonce[WIRE_VMA_NONCE_LEN + 1];
    int r = wire_vma_check_request(secret, function, value, strlen(value), body, strlen(body),
                                   ret_serial, nonce);

    if (r == 0)
        assert_string_equal(nonce, NONCE);
    return r;
}

static void test_sign_request(void **state)
{
    char value[WIRE_VMA_AUTH_MAX];

    assert_int_equal(wire_vma_sign_request(secret, "ping", 0, NONCE, "{}", 2, value), 0);
    assert_string_equal(value, PING_VALUE);
    assert_int_equal(wire_vma_sign_request(secret, "x_start", 4711, NONCE, START_BODY,
                                           strlen(START_BODY), value),
                     0);
    assert_string_equal(value, START_VALUE);
    assert_int_equal(wire_vma_sign_request(secret, "x_start", UINT64_MAX, NONCE, "", 0, value), 0);
    assert_string_equal(value, LARGEST_VALUE);
}

static void test_check_request(void **state)
{
    uint64_t serial = 1;

    assert_int_equal(check("ping", PING_VALUE, "{}", &serial), 0);
    assert_int_equal(serial, 0);
    assert_int_equal(check("x_start", START_VALUE, START_BODY, &serial), 0);
    assert_int_equal(serial, 4711);
    assert_int_equal(check("x_start", LARGEST_VALUE, "", &serial), 0);
    assert_true(serial == UINT64_MAX);
}

static void test_refuse_request(void **state)
{
    char value[WIRE_VMA_AUTH_MAX];
    uint64_t serial;

    /* Another function, another body, one digit of the MAC, another secret. */
    assert_int_equal(check("x_state", PING_VALUE, "{}", &serial), -EACCES);
    assert_int_equal(check("ping", PING_VALUE, "{ }", &serial), -EACCES);
    assert_int_equal(str_copy(value, sizeof value, PING_VALUE), 0);
    value[strlen(value) - 1] ^= 1;
    assert_int_equal(check("ping", value, "{}", &serial), -EACCES);
    secret[31] ^= 1;
    assert_int_equal(check("ping", PING_VALUE, "{}", &serial), -EACCES);
    secret[31] ^= 1;
    /* Another serial or nonce. */
    assert_int_equal(str_copy(value, sizeof value, START_VALUE), 0);
    value[3] = '5';
    assert_int_equal(check("x_start", value, START_BODY, &serial), -EACCES);
    assert_int_equal(str_copy(value, sizeof value, START_VALUE), 0);
    value[8] = 'f';
    assert_int_equal(check("x_start", value, START_BODY, &serial), -EACCES);
}

static void test_malformed_request(void **state)
{
    static const char *const bad[] = {
        "",
        "v1",
        "v1 0",
        "v1 0 " NONCE,
        "v2" /* a version to come */
        " 0 " NONCE " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
        PING_VALUE " ",
        " " PING_VALUE,
        PING_VALUE " x",
        PING_VALUE "0",
        "v1 00 " NONCE " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
        "v1 -1 " NONCE " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
        "v1 18446744073709551616 " NONCE
        " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
        "v1  0 " NONCE " 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
        "v1 0 " NONCE " 75435FBC0CBDC4E413A2725B7F0B3ECC4A2BB6E1558C20C7E76F57AD78664401",
        "v1 0 0 75435fbc0cbdc4e413a2725b7f0b3ecc4a2bb6e1558c20c7e76f57ad78664401",
    };
    uint64_t serial;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(check("ping", bad[i], "{}", &serial), -EBADMSG);
}

static int check_answer(unsigned status, const char *value, const char *body)
{
    return wire_vma_check_answer(secret, status, NONCE, value, strlen(value), body, strlen(body));
}

static void test_answer_mac(void **state)
{
    char value[WIRE_VMA_AUTH_MAX];

    assert_int_equal(wire_vma_sign_answer(secret, 200, NONCE, OK_BODY, strlen(OK_BODY), value), 0);
    assert_string_equal(value, OK_VALUE);
    assert_int_equal(check_answer(200, OK_VALUE, OK_BODY), 0);
    assert_int_equal(check_answer(503, EMPTY_503_VALUE, ""), 0);
    assert_int_equal(check_answer(201, OK_VALUE, OK_BODY), -EACCES);
    assert_int_equal(check_answer(200, OK_VALUE, ""), -EACCES);
    assert_int_equal(check_answer(200, EMPTY_503_VALUE, ""), -EACCES);
    assert_int_equal(check_answer(200, OK_VALUE " ", OK_BODY), -EBADMSG);
    assert_int_equal(check_answer(200, "", OK_BODY), -EBADMSG);
}

static int parse_answer(const char *body, struct wire_vma_answer *a)
{
    return wire_vma_answer_parse(body, strlen(body), a);
}

static void test_answer_body(void **state)
{
    struct wire_vma_answer a;

    assert_int_equal(parse_answer(OK_BODY, &a), 0);
    assert_int_equal(a.state, WIRE_X_LISTENING);
    assert_string_equal(a.error, "");
    assert_int_equal(parse_answer("{}", &a), 0);
    assert_int_equal(a.state, WIRE_X_STATE_INVALID);
    assert_int_equal(parse_answer("{\"state\":\"dancing\",\"error\":\"a\\nb\\u0007\\u0085c\"}", &a),
                     0);
    assert_int_equal(a.state, WIRE_X_STATE_INVALID);
    assert_string_equal(a.error, "a?b???c");
    assert_int_equal(parse_answer("[]", &a), -EBADMSG);
    assert_int_equal(parse_answer("{\"state\":7}", &a), -EBADMSG);
    assert_int_equal(parse_answer("{\"error\":{}}", &a), -EBADMSG);
    assert_int_equal(parse_answer("{\"state\":\"stopped\"} x", &a), -EBADMSG);
    assert_int_equal(parse_answer("", &a), -EBADMSG);
}

/* A text too long is cut between two characters. */
static void test_answer_cut(void **state)
{
    char body[2048] = "{\"error\":\"a";
    struct wire_vma_answer a;

    for (int i = 0; i < 300; i++)
        strcat(body, "é");
    strcat(body, "\"}");
    assert_int_equal(parse_answer(body, &a), 0);
    assert_int_equal(strlen(a.error), 511);
    assert_true(utf8_valid(a.error, 511));
    strcpy(body, "{\"error\":\"");
    for (int i = 0; i < 300; i++)
        strcat(body, "é");
    strcat(body, "\"}");
    assert_int_equal(parse_answer(body, &a), 0);
    assert_int_equal(strlen(a.error), 510);
    assert_true(utf8_valid(a.error, 510));
}

static void test_answer_format(void **state)
{
    struct wire_vma_answer a = {.state = WIRE_X_SUSPENDED};
    _cleanup_(free_p) char *plain = wire_vma_answer_format(&a);

    assert_string_equal(plain, "{\"state\":\"suspended\"}");
    a = (struct wire_vma_answer){.state = WIRE_X_STOPPED, .error = "no \"home\""};
    _cleanup_(free_p) char *refused = wire_vma_answer_format(&a);
    assert_string_equal(refused, "{\"state\":\"stopped\",\"error\":\"no \\\"home\\\"\"}");
}

static void test_words(void **state)
{
    static const char *const functions[] = {"ping",      "x_state", "x_start",  "x_reset",
                                            "x_suspend", "x_stop",  "poweroff", "expire"};
    /* l7r-protocol 6.1 */
    static const char *const states[] = {"stopped",   "starting",   "provisioning", "listening",
                                         "connected", "suspending", "suspended",    "stopping"};

    assert_int_equal(ARRAY_SIZE(functions), WIRE_VMA_FUNCTION_MAX);
    assert_int_equal(ARRAY_SIZE(states), WIRE_X_STATE_MAX);
    for (int i = 0; i < WIRE_VMA_FUNCTION_MAX; i++) {
        assert_int_equal(wire_vma_function_from_string(functions[i]), i);
        assert_int_equal(wire_vma_is_order(i), i > 1);
    }
    for (int i = 0; i < WIRE_X_STATE_MAX; i++)
        assert_int_equal(wire_x_state_from_string(states[i]), i);
}

static void test_params(void **state)
{
    struct wire_params *p = wire_params_new();
    static const char json[] = "{\"a.b\":\"1\",\"n\":7,\"t\":true,\"f\":false,\"z\":null}";

    assert_int_equal(wire_params_set_json(p, json, strlen(json)), 0);
    assert_int_equal(wire_params_count(p), 4);
    assert_string_equal(wire_params_get(p, "n"), "7");
    assert_string_equal(wire_params_get(p, "t"), "1");
    assert_string_equal(wire_params_get(p, "f"), "0");
    assert_null(wire_params_get(p, "z"));
    assert_int_equal(wire_params_set(p, "a.b", "ñ later"), 0);
    _cleanup_(free_p) char *out = wire_params_format(p);
    assert_string_equal(out, "{\"a.b\":\"ñ later\",\"n\":\"7\",\"t\":\"1\",\"f\":\"0\"}");
    assert_int_equal(wire_params_set(p, "", "x"), -EINVAL);
    assert_int_equal(wire_params_set(p, "a b", "x"), -EINVAL);
    assert_int_equal(wire_params_set(p, "a", "x\ny"), -EINVAL);
    assert_int_equal(wire_params_set(p, "a", "\xff"), -EINVAL);
    static const char nested[] = "{\"a\":{}}", real[] = "{\"a\":1.5}";
    assert_int_equal(wire_params_set_json(p, nested, strlen(nested)), -EBADMSG);
    assert_int_equal(wire_params_set_json(p, real, strlen(real)), -EBADMSG);
    /* Properties: the bad ones are left out, wherever they stand. */
    static const char typed[] = "{\"qvd.vm.user.uid\":\"0\",\"b c\":\"1\",\"ok\":\"2\","
                                "\"long\":\"x\\ny\",\"a.b\":\"3\"}";
    size_t bad;
    assert_int_equal(wire_params_set_properties(p, typed, strlen(typed), &bad), 0);
    assert_int_equal(bad, 3);
    assert_string_equal(wire_params_get(p, "ok"), "2");
    assert_string_equal(wire_params_get(p, "a.b"), "3");
    assert_null(wire_params_get(p, "qvd.vm.user.uid"));
    assert_int_equal(wire_params_set_properties(p, "[]", 2, &bad), -EBADMSG);
    wire_params_free(p);
}

static void test_params_limits(void **state)
{
    struct wire_params *p = wire_params_new();
    char name[200], value[WIRE_PARAM_VALUE_MAX + 2];

    memset(name, 'n', WIRE_PARAM_NAME_MAX);
    name[WIRE_PARAM_NAME_MAX] = '\0';
    memset(value, 'v', sizeof value);
    value[WIRE_PARAM_VALUE_MAX] = '\0';
    assert_int_equal(wire_params_set(p, name, value), 0);
    value[WIRE_PARAM_VALUE_MAX] = 'v';
    value[WIRE_PARAM_VALUE_MAX + 1] = '\0';
    assert_int_equal(wire_params_set(p, "a", value), -ENOBUFS);
    strcat(name, "n");
    assert_int_equal(wire_params_set(p, name, "x"), -ENOBUFS);
    for (int i = 1; i < WIRE_PARAMS_MAX; i++) {
        assert_int_equal(str_format(name, sizeof name, "k%d", i), 0);
        assert_int_equal(wire_params_set(p, name, "x"), 0);
    }
    assert_int_equal(wire_params_set(p, "onemore", "x"), -ENOBUFS);
    assert_int_equal(wire_params_set(p, "k7", "y"), 0);
    wire_params_free(p);
}

static void test_vm_list(void **state)
{
    const struct wire_vm vms[] = {
        {.id = 3,      .state = "running", .name = "ann's \"desk\""},
        { .id = 4, .state = "stopped",    .name = "b",   .blocked = true, .is_application = true},
    };
    struct wire_vm *back = NULL;
    size_t n = 7;
    _cleanup_(free_p) char *json = wire_vm_list_format(vms, 2);

    assert_string_equal(json, "[{\"id\":3,\"state\":\"running\",\"name\":\"ann's \\\"desk\\\"\","
                              "\"blocked\":0,\"is_application\":0},"
                              "{\"id\":4,\"state\":\"stopped\",\"name\":\"b\","
                              "\"blocked\":1,\"is_application\":1}]");
    assert_int_equal(wire_vm_list_parse(json, strlen(json), &back, &n), 0);
    assert_int_equal(n, 2);
    assert_string_equal(back[0].name, vms[0].name);
    assert_true(back[1].blocked && back[1].is_application && back[1].id == 4);
    free(back);
    _cleanup_(free_p) char *none = wire_vm_list_format(NULL, 0);
    assert_string_equal(none, "[]");
    assert_int_equal(wire_vm_list_parse(none, 2, &back, &n), 0);
    assert_int_equal(n, 0);
    assert_null(back);
    /* What the original's servers send: blocked null, ids as texts. */
    static const char old[] =
        "[{\"id\":\"9\",\"state\":\"stopped\",\"name\":\"x\",\"blocked\":null}]";
    assert_int_equal(wire_vm_list_parse(old, strlen(old), &back, &n), 0);
    assert_true(n == 1 && back[0].id == 9 && !back[0].blocked);
    free(back);
    static const char *const bad[] = {"{}",
                                      "[1]",
                                      "[{}]",
                                      "[{\"id\":-1,\"state\":\"a\",\"name\":\"b\"}]",
                                      "[{\"id\":1,\"state\":\"a\"}]",
                                      "[",
                                      ""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(wire_vm_list_parse(bad[i], strlen(bad[i]), &back, &n), -EBADMSG);
}

static void test_token(void **state)
{
    struct wire_token t = {.auth_params_id = 12, .token = "secret"}, back;
    _cleanup_(free_p) char *json = wire_token_format(&t);

    assert_string_equal(json, "{\"auth_params_id\":12,\"auth_token\":\"c2VjcmV0\\n\"}");
    assert_int_equal(wire_token_parse(json, strlen(json), &back), 0);
    assert_true(back.auth_params_id == 12 && strcmp(back.token, "secret") == 0);
    assert_int_equal(wire_token_parse("{}", 2, &back), 0);
    assert_true(back.auth_params_id == 0 && back.token[0] == '\0');
    assert_int_equal(wire_token_parse("[]", 2, &back), -EBADMSG);
}

static void test_client_keys(void **state)
{
    assert_true(wire_l7r_client_key("qvd.client.link"));
    assert_true(wire_l7r_client_key("custom.x"));
    assert_false(wire_l7r_client_key("qvd.vm.user.name"));
    assert_false(wire_l7r_client_key("qvd.slave.key"));
    assert_false(wire_l7r_client_key("Custom.x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_request),   cmocka_unit_test(test_check_request),
        cmocka_unit_test(test_refuse_request), cmocka_unit_test(test_malformed_request),
        cmocka_unit_test(test_answer_mac),     cmocka_unit_test(test_answer_body),
        cmocka_unit_test(test_answer_cut),     cmocka_unit_test(test_answer_format),
        cmocka_unit_test(test_words),          cmocka_unit_test(test_params),
        cmocka_unit_test(test_params_limits),  cmocka_unit_test(test_vm_list),
        cmocka_unit_test(test_token),          cmocka_unit_test(test_client_keys),
    };

    return cmocka_run_group_tests_name("wire", tests, setup, NULL);
}
