// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "http/head.h"
#include "http/uri.h"

static int parse(enum http_kind kind, const char *text, struct http_head **ret_head)
{
    ssize_t n = http_head_length((const uint8_t *)text, strlen(text), HTTP_HEAD_MAX);

    if (n <= 0)
        return -1;
    return http_head_parse(kind, (const uint8_t *)text, n, ret_head, NULL);
}

/* RFC 9112 and l7r-protocol sections 1 and 10: what is taken and what is refused with what. */
static void test_requests(void **state)
{
    static const struct {
        const char *text;
        int status;
    } table[] = {
        {"GET /qvd/ping HTTP/1.1\r\n\r\n",                                                     0  }, /* no Host needed */
        {"GET /qvd/list_of_vm? HTTP/1.1\r\nHost: a:8443\r\n\r\n",                              0  },
        {"GET /qvd/ping HTTP/1.1\n\n",                                                         0  }, /* bare LF */
        {"GET / HTTP/1.1\nA: b\n\n",                                                           0  },
        {"\r\n\r\nGET / HTTP/1.1\r\n\r\n",                                                     0  }, /* blank lines before it */
        {"\n\nGET / HTTP/1.1\n\n",                                                             0  },
        {"GET /?tz=Etc/UTC&k=pc105/en HTTP/1.1\n\n",                                           0  },
        {"GET / HTTP/1.1\r\nA:b\r\nB: \t c \t\r\nC:\r\n\r\n",                                  0  },
        {"GET / HTTP/1.1\r\nA: b\n\r\n",                                                       400}, /* mixed ends */
        {"GET / HTTP/1.1\nA: b\r\n\n",                                                         400},
        {"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",                                               400}, /* lone CR */
        {"GET / HTTP/1.1\r\nA: b\r\r\n\r\n",                                                   400},
        {"GET / HTTP/1.1\r\n\rA: b\r\n\r\n",                                                   400}, /* CVE-2023-30589 */
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n",                                                 400}, /* blank before the colon */
        {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",                                               400}, /* folding */
        {"GET / HTTP/1.1\r\n A: b\r\n\r\n",                                                    400},
        {"GET / HTTP/1.1\r\nA\r\n\r\n",                                                        400},
        {"GET / HTTP/1.1\r\n: b\r\n\r\n",                                                      400},
        {"GET / HTTP/1.1\r\nA(: b\r\n\r\n",                                                    400},
        {"GET / HTTP/1.1\r\nA: \x01\r\n\r\n",                                                  400},
        {"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",                                                  400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",                   400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",                   400},
        {"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",                                     400},
        {"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",                                       400},
        {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",                                       400},
        {"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",                                      400},
        {"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",                                          400},
        {"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",                     400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",          400},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",                         501},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",                               0  },
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",                                       400},
        {"GET / HTTP/1.1\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",                     400},
        {"GET / HTTP/1.0\r\n\r\n",                                                             505},
        {"GET / HTTP/2.0\r\n\r\n",                                                             505},
        {"GET / HTTP/2\r\n\r\n",                                                               505},
        {"GET / HTTP/1.10\r\n\r\n",                                                            400},
        {"GET / http/1.1\r\n\r\n",                                                             400},
        {"GET /\r\n\r\n",                                                                      400},
        {"GET  / HTTP/1.1\r\n\r\n",                                                            400},
        {"GET / HTTP/1.1 \r\n\r\n",                                                            400},
        {"GET /a b HTTP/1.1\r\n\r\n",                                                          400},
        {"GET http://a/ HTTP/1.1\r\n\r\n",                                                     400},
        {"GET /\x80 HTTP/1.1\r\n\r\n",                                                         400},
        {" GET / HTTP/1.1\r\n\r\n",                                                            400},
        {"G@T / HTTP/1.1\r\n\r\n",                                                             400},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct http_head *h = NULL;
        int r = parse(HTTP_REQUEST, table[i].text, &h);
        if (r != table[i].status)
            fail_msg("%s: %d instead of %d", table[i].text, r, table[i].status);
        http_head_free(h);
    }
}

static void test_answers(void **state)
{
    static const struct {
        const char *text;
        int result, status;
    } table[] = {
        {"HTTP/1.1 200 OK\r\n\r\n",                                            0,   200},
        {"HTTP/1.1 200 \r\n\r\n",                                              0,   200},
        {"HTTP/1.1 200\r\n\r\n",                                               0,   200},
        {"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Session acquired\r\n\r\n", 0,   102},
        {"HTTP/1.0 200 OK\r\n\r\n",                                            505, 0  },
        {"HTTP/1.1 20 OK\r\n\r\n",                                             400, 0  },
        {"HTTP/1.1 2000 OK\r\n\r\n",                                           400, 0  },
        {"HTTP/1.1 099 OK\r\n\r\n",                                            400, 0  },
        {"HTTP/1.1 600 OK\r\n\r\n",                                            400, 0  },
        {"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",               400, 0  },
        {"ICY 200 OK\r\n\r\n",                                                 400, 0  },
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct http_head *h = NULL;
        int r = parse(HTTP_ANSWER, table[i].text, &h);
        if (r != table[i].result || (h && h->status != table[i].status))
            fail_msg("%s: %d", table[i].text, r);
        http_head_free(h);
    }
}

static void test_what_a_head_says(void **state)
{
    struct http_head *h = NULL;

    assert_int_equal(parse(HTTP_REQUEST,
                           "GET /qvd/connect_to_vm?id=7 HTTP/1.1\nAuthorization: Basic YTpi\n"
                           "Connection: keep-alive , upgrade\nUpgrade: qvd/1.0\n"
                           "Content-Length: 0\n\n",
                           &h),
                     0);
    assert_string_equal(h->method, "GET");
    assert_string_equal(h->target, "/qvd/connect_to_vm?id=7");
    assert_int_equal(h->n_headers, 4);
    assert_string_equal(h->headers[0].name, "Authorization");
    assert_string_equal(http_head_get(h, "AUTHORIZATION"), "Basic YTpi");
    assert_null(http_head_get(h, "Host"));
    assert_true(h->upgrade);
    assert_true(http_head_has(h, "Upgrade", "QVD/1.0"));
    assert_false(http_head_has(h, "Upgrade", "QVD"));
    assert_false(h->close);
    assert_int_equal(h->content_length, 0);
    http_head_free(h);
}

static void test_length(void **state)
{
    char big[HTTP_HEAD_MAX + 10];

    assert_int_equal(http_head_length((const uint8_t *)"", 0, HTTP_HEAD_MAX), 0);
    assert_int_equal(http_head_length((const uint8_t *)"GET / HTTP/1.1\r\n\r", 17, HTTP_HEAD_MAX),
                     0);
    assert_int_equal(
        http_head_length((const uint8_t *)"GET / HTTP/1.1\r\n\r\nmore", 22, HTTP_HEAD_MAX), 18);
    assert_int_equal(http_head_length((const uint8_t *)"\r\n\r\n", 4, HTTP_HEAD_MAX), 0);
    assert_int_equal(http_head_length(NULL, 0, HTTP_HEAD_MAX), 0);
    /* A CR without LF is told before the head is whole; one at the end may still be right. */
    assert_int_equal(http_head_length((const uint8_t *)"GET / HTTP/1.1\rA", 16, HTTP_HEAD_MAX),
                     -EBADMSG);
    assert_int_equal(http_head_length((const uint8_t *)"GET / HTTP/1.1\r", 15, HTTP_HEAD_MAX), 0);
    memset(big, 'a', sizeof big);
    assert_int_equal(http_head_length((const uint8_t *)big, HTTP_HEAD_MAX - 1, HTTP_HEAD_MAX), 0);
    assert_int_equal(http_head_length((const uint8_t *)big, HTTP_HEAD_MAX, HTTP_HEAD_MAX), -E2BIG);
    /* The largest that fits, and one byte more. */
    memcpy(big, "GET / HTTP/1.1\nA:", 17);
    memcpy(big + HTTP_HEAD_MAX - 2, "\n\n", 2);
    assert_int_equal(http_head_length((const uint8_t *)big, sizeof big, HTTP_HEAD_MAX),
                     HTTP_HEAD_MAX);
    memcpy(big + HTTP_HEAD_MAX - 2, "a\n\n", 3);
    assert_int_equal(http_head_length((const uint8_t *)big, sizeof big, HTTP_HEAD_MAX), -E2BIG);
}

static void test_too_many_headers(void **state)
{
    for (int extra = 0; extra < 2; extra++) {
        char text[4096] = "GET / HTTP/1.1\r\n";
        struct http_head *h = NULL;
        for (int i = 0; i < HTTP_HEADERS_MAX + extra; i++)
            strcat(text, "A: b\r\n");
        strcat(text, "\r\n");
        assert_int_equal(parse(HTTP_REQUEST, text, &h), extra ? 431 : 0);
        http_head_free(h);
    }
}

static void test_target(void **state)
{
    struct http_target *t;
    static const char *const wrong[] = {"",     "a",       "/%",      "/%2",    "/%zz",
                                        "/%00", "/?a=%00", "/?%ff=1", "/%c0%af"};

    assert_int_equal(
        http_target_parse("/qvd/c%6fnnect?id=5&qvd.client.geometry=1024x768&&x&y=a+b%2B%C3%A9&y=2",
                          &t),
        0);
    assert_string_equal(t->path, "/qvd/connect");
    assert_int_equal(t->n_params, 5);
    assert_string_equal(http_target_get(t, "id"), "5");
    assert_string_equal(http_target_get(t, "x"), "");
    assert_string_equal(http_target_get(t, "y"), "a b+\xc3\xa9");
    assert_null(http_target_get(t, "z"));
    http_target_free(t);
    assert_int_equal(http_target_parse("/a+b", &t), 0); /* '+' is itself in a path */
    assert_string_equal(t->path, "/a+b");
    http_target_free(t);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(http_target_parse(wrong[i], &t), -EINVAL);

    char many[3 * (HTTP_PARAMS_MAX + 1) + 3] = "/?";
    for (int i = 0; i <= HTTP_PARAMS_MAX; i++)
        strcat(many, "a=&");
    assert_int_equal(http_target_parse(many, &t), -E2BIG);
}

static void test_encode(void **state)
{
    struct buf b;

    buf_init(&b, 0);
    assert_int_equal(http_encode(&b, "pc105/es a-b._~\xc3\xa9+&"), 0);
    assert_string_equal(buf_cstr(&b), "pc105%2Fes%20a-b._~%C3%A9%2B%26");
    buf_done(&b);
}

static void test_auth(void **state)
{
    struct http_auth a;
    static const char *const wrong[] = {"",           "Basic",  "Basic ",     "Basic !!!",
                                        "Basic YQ==", /* a */
                                        "Basic OmI=", /* :b */
                                        "Digest x",   "Bearer", "Bearer a b", "YTpi"};

    assert_int_equal(http_auth_parse(NULL, &a), 0);
    assert_int_equal(a.scheme, HTTP_AUTH_NONE);
    assert_int_equal(http_auth_parse("basic YWxpY2VAYTpwOnE=", &a), 0);
    assert_int_equal(a.scheme, HTTP_AUTH_BASIC);
    assert_string_equal(a.user, "alice@a");
    assert_string_equal(a.password, "p:q");
    http_auth_done(&a);
    assert_int_equal(http_auth_parse("Bearer dG9rZW4=", &a), 0);
    assert_int_equal(a.scheme, HTTP_AUTH_BEARER);
    assert_string_equal(a.token, "dG9rZW4=");
    http_auth_done(&a);
    assert_int_equal(http_auth_parse("Basic YToAYg==", &a), -EINVAL); /* a:\0b */
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        if (http_auth_parse(wrong[i], &a) != -EINVAL)
            fail_msg("%s", wrong[i]);
    char *value = http_auth_basic("alice@a", "p:q");
    assert_string_equal(value, "Basic YWxpY2VAYTpwOnE=");
    free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),         cmocka_unit_test(test_answers),
        cmocka_unit_test(test_what_a_head_says), cmocka_unit_test(test_length),
        cmocka_unit_test(test_too_many_headers), cmocka_unit_test(test_target),
        cmocka_unit_test(test_encode),           cmocka_unit_test(test_auth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
