// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "l7r/worker/worker-internal.h"

#define BASIC "Authorization: Basic YWxpY2VAYWNtZTpwYTpzcw==\r\n" /* alice@acme:pa:ss */
#define UPGRADE "Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n"

static struct http_head *head;
static struct request_memory memory;
static struct l7r_request q;
static const char *why;

static int read_text(const char *text)
{
    assert_int_equal(
        http_head_parse(HTTP_REQUEST, (const uint8_t *)text, strlen(text), &head, NULL), 0);
    return request_read(head, &memory, &q, &why);
}

static int forget(void **state)
{
    request_done(&memory);
    head = http_head_free(head);
    return 0;
}

static void paths_and_methods(void **state)
{
    static const struct {
        const char *line;
        int status;
        enum l7r_kind kind;
    } rows[] = {
        {"GET /qvd/ping",                           0,   L7R_PING     },
        {"GET /qvd/list_of_vm?",                    0,   L7R_LIST     },
        {"GET /qvd/list_of_applications",           0,   L7R_LIST_APPS},
        {"GET /qvd/authenticate_user?store_auth=1", 0,   L7R_AUTH     },
        {"GET /qvd/create_auth_token",              0,   L7R_TOKEN    },
        {"GET /qvd/connect_to_vm?id=1",             0,   L7R_CONNECT  },
        {"GET /qvd/stop_vm?id=1",                   0,   L7R_STOP_VM  },
        {"GET /qvd/pi%6Eg",                         0,   L7R_PING     },
        {"GET /",                                   404, 0            },
        {"GET /qvd/ping/",                          404, 0            },
        {"GET /QVD/ping",                           404, 0            },
        {"POST /qvd/ping",                          405, 0            },
        {"HEAD /qvd/ping",                          405, 0            },
        {"GET /qvd/ping?%zz",                       400, 0            },
    };
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        (void)snprintf(text, sizeof text, "%s HTTP/1.1\r\n\r\n", rows[i].line);
        assert_int_equal(read_text(text), rows[i].status);
        if (rows[i].status == 0)
            assert_int_equal(q.kind, rows[i].kind);
        else
            assert_non_null(why);
        forget(state);
    }
}

static void credentials(void **state)
{
    assert_int_equal(read_text("GET /qvd/list_of_vm HTTP/1.1\r\n" BASIC "\r\n"), 0);
    assert_int_equal(q.credentials, L7R_BASIC);
    assert_string_equal(q.login, "alice@acme");
    assert_string_equal(q.secret, "pa:ss");
    forget(state);
    assert_int_equal(
        read_text("GET /qvd/list_of_vm HTTP/1.1\r\nAuthorization: bearer dG9rZW4=\r\n\r\n"), 0);
    assert_int_equal(q.credentials, L7R_BEARER);
    assert_string_equal(q.secret, "token");
}

/* What is no login is none: 401 comes from where all 401s come from. */
static void broken_credentials_are_none(void **state)
{
    static const char *const values[] = {
        "Basic bm9jb2xvbg==", /* nocolon */
        "Basic Om5vbmFtZQ==", /* :noname */
        "Basic !!!",
        "Digest x",
        "Bearer YQBi", /* a NUL b */
        "Bearer ",
    };
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        (void)snprintf(text, sizeof text,
                       "GET /qvd/list_of_vm HTTP/1.1\r\nAuthorization: %s\r\n\r\n", values[i]);
        assert_int_equal(read_text(text), 0);
        assert_int_equal(q.credentials, L7R_NONE);
        forget(state);
    }
}

/* l7r-protocol 4: upgrade, then id, then parameters. */
static void flaws_come_in_their_order(void **state)
{
    static const struct {
        const char *query, *headers;
        uint32_t flaw;
    } rows[] = {
        {"?id=1",                           UPGRADE,                                       0  },
        {"?id=1",                           "Connection: upgrade\r\nUpgrade: qvd/1.0\r\n", 0  },
        {"?id=1",                           "",                                            426},
        {"?id=1",                           "Connection: Upgrade\r\nUpgrade: VNC\r\n",     426},
        {"?id=1",                           "Upgrade: QVD/1.0\r\n",                        426},
        {"?x=1",                            "",                                            426},
        {"",                                UPGRADE,                                       422},
        {"?id=",                            UPGRADE,                                       422},
        {"?id=x",                           UPGRADE,                                       422},
        {"?id=0",                           UPGRADE,                                       422},
        {"?id=99999999999999999999",        UPGRADE,                                       422},
        {"?x=1",                            UPGRADE,                                       422},
        {"?id=1&x=1",                       UPGRADE,                                       403},
        {"?id=1&qvd.vm.user.name=root",     UPGRADE,                                       403},
        {"?id=1&qvd.client.link=&custom.a", UPGRADE,                                       0  },
    };
    char text[300];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        (void)snprintf(text, sizeof text, "GET /qvd/connect_to_vm%s HTTP/1.1\r\n%s\r\n",
                       rows[i].query, rows[i].headers);
        assert_int_equal(read_text(text), 0);
        if (q.flaw != rows[i].flaw)
            fail_msg("%s: %u", rows[i].query, q.flaw);
        forget(state);
    }
}

static void parameters_are_decoded_in_their_order(void **state)
{
    static const char want[] =
        "qvd.client.timezone\0Etc/UTC\0qvd.client.keyboard\0\0custom.a\0b c+d";

    assert_int_equal(read_text("GET /qvd/connect_to_vm?qvd.client.timezone=Etc/UTC&id=7"
                               "&qvd.client.keyboard&custom.a=b+c%2Bd HTTP/1.1\r\n" UPGRADE
                               "User-Agent: QVD/4.3\r\n\r\n"),
                     0);
    assert_int_equal(q.vm_id, 7);
    assert_int_equal(q.flaw, 0);
    assert_int_equal(q.params.len, sizeof want);
    assert_memory_equal(q.params.data, want, sizeof want);
    assert_string_equal(q.client, "QVD/4.3");
}

/* L7R_PARAMS_MAX bytes are taken, one more is not. */
static void parameters_have_a_limit(void **state)
{
    static char text[10000];

    for (int over = 0; over < 2; over++) {
        size_t value = L7R_PARAMS_MAX - strlen("custom.x") - 2 + (size_t)over;
        int n = snprintf(text, sizeof text, "GET /qvd/connect_to_vm?id=1&custom.x=");
        memset(text + n, 'y', value);
        (void)snprintf(text + n + value, sizeof text - (size_t)n - value,
                       " HTTP/1.1\r\n" UPGRADE "\r\n");
        assert_int_equal(read_text(text), 0);
        assert_int_equal(q.flaw, over ? 403 : 0);
        assert_int_equal(q.params.len, over ? 0 : L7R_PARAMS_MAX);
        forget(state);
    }
}

/* auth-plugins 8: Auth-<hex of the name>: base64 of the value. */
static void the_shared_environment(void **state)
{
    assert_int_equal(read_text("GET /qvd/list_of_vm HTTP/1.1\r\n"
                               "Auth-4c414e47: ZXNfRVM=\r\n" /* LANG es_ES */
                               "Auth-58: \r\n"               /* X, empty */
                               "Auth-5A5a: YSBi\r\n"         /* ZZ "a b" */
                               "\r\n"),
                     0);
    assert_int_equal(q.env.len, 5 + 6 + 2 + 1 + 3 + 4);
    assert_memory_equal(q.env.data, "LANG\0es_ES\0X\0\0ZZ\0a b\0", q.env.len);
}

/* Prefix in its case, hex in pairs, base64, no NUL: what is otherwise is another header. */
static void headers_that_share_nothing(void **state)
{
    assert_int_equal(read_text("GET /qvd/ping HTTP/1.1\r\n"
                               "auth-4c: YQ==\r\n"
                               "Auth-4: YQ==\r\n"
                               "Auth-4g: YQ==\r\n"
                               "Auth-00: YQ==\r\n"
                               "Auth-4c: Y\r\n"
                               "Auth-4d: YQBi\r\n" /* a NUL b */
                               "Auth-: YQ==\r\n"
                               "\r\n"),
                     0);
    assert_int_equal(q.env.len, 0);
}

static void a_shared_environment_has_a_limit(void **state)
{
    char text[9000];

    /* Name X, its NUL and the value's: 4,093 bytes of value fit, 4,094 do not. */
    for (size_t over = 0; over < 2; over++) {
        size_t n = 0, bytes = L7R_ENV_MAX - 3 + over;
        n += (size_t)snprintf(text, sizeof text, "GET /qvd/ping HTTP/1.1\r\nAuth-58: ");
        for (size_t i = 0; i < bytes / 3; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "YWFh");
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\r\n\r\n",
                              bytes % 3 == 1   ? "YQ=="
                              : bytes % 3 == 2 ? "YWE="
                                               : "");
        assert_int_equal(read_text(text), over ? 431 : 0);
        assert_int_equal(over || q.env.len == L7R_ENV_MAX, 1);
        forget(NULL);
    }
    assert_int_equal(read_text("GET / HTTP/1.1\r\n\r\n"), 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(paths_and_methods, forget),
        cmocka_unit_test_teardown(credentials, forget),
        cmocka_unit_test_teardown(broken_credentials_are_none, forget),
        cmocka_unit_test_teardown(flaws_come_in_their_order, forget),
        cmocka_unit_test_teardown(parameters_are_decoded_in_their_order, forget),
        cmocka_unit_test_teardown(parameters_have_a_limit, forget),
        cmocka_unit_test_teardown(a_shared_environment_has_a_limit, forget),
        cmocka_unit_test_teardown(headers_that_share_nothing, forget),
        cmocka_unit_test_teardown(the_shared_environment, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
