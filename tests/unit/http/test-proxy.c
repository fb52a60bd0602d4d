// SPDX-License-Identifier: GPL-3.0-or-later
/* PROXY headers; the texts of version 1 and the bytes of version 2 are the protocol's own examples
 * (haproxy's proxy-protocol.txt, sections 2.1 and 2.2) and what breaks its rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "http/proxy.h"

static void test_version_1(void **state)
{
    static const struct {
        const char *text;
        int result; /* -1: wrong; 0: more; 1: all of it */
        const char *source;
        unsigned port;
    } rows[] = {
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",             1,  "192.168.0.1",     56324},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",    1,  "255.255.255.255", 65535},
        {"PROXY TCP6 2001:db8::1 2001:db8::2 1 0\r\n",                    1,  "2001:db8::1",     1    },
        {"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 443\r\n",                  1,  "192.0.2.7",       4711 },
        {"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",    -1, "",                0    },
        {"PROXY UNKNOWN\r\n",                                             1,  "",                0    },
        {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", 1,  "",                0    },
        {"PROXY UNKNOWNS\r\n",                                            -1, "",                0    },
        {"",                                                              0,  "",                0    },
        {"P",                                                             0,  "",                0    },
        {"PROXY",                                                         0,  "",                0    },
        {"PROXY ",                                                        0,  "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443",                 0,  "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r",               0,  "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",               -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",           -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",            -1, "",                0    },
        {"PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",            -1, "",                0    },
        {"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",            -1, "",                0    },
        {"PROXY TCP4\t192.168.0.1 192.168.0.11 56324 443\r\n",            -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",                 -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",             -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 0443 443\r\n",              -1, "",                0    },
        {"PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",                -1, "",                0    },
        {"PROXY TCP4 192.168.0.256 192.168.0.11 1 443\r\n",               -1, "",                0    },
        {"PROXY TCP4 ::1 ::1 1 443\r\n",                                  -1, "",                0    },
        {"PROXY TCP6 192.168.0.1 192.168.0.11 1 443\r\n",                 -1, "",                0    },
        {"PROXY UDP4 192.168.0.1 192.168.0.11 1 443\r\n",                 -1, "",                0    },
        {"proxy TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",             -1, "",                0    },
        {"PROXYTCP4 192.168.0.1 192.168.0.11 56324 443\r\n",              -1, "",                0    },
        {"GET / HTTP/1.1\r\n\r\n",                                        -1, "",                0    },
        {"\x16\x03\x01",                                                  -1, "",                0    },
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct proxy_header h;
        size_t len = strlen(rows[i].text);
        ssize_t n = proxy_header_parse((const uint8_t *)rows[i].text, len, &h);
        assert_int_equal(n, rows[i].result == 1   ? (ssize_t)len
                            : rows[i].result == 0 ? 0
                                                  : -EBADMSG);
        if (rows[i].result < 1)
            continue;
        assert_string_equal(h.source, rows[i].source);
        assert_int_equal(h.port, rows[i].port);
    }
}

static void test_what_follows_is_not_taken(void **state)
{
    const char *text = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n";
    struct proxy_header h;

    assert_int_equal(proxy_header_parse((const uint8_t *)text, strlen(text), &h), 36);
    assert_string_equal(h.source, "192.0.2.1");
}

/* 107 bytes with CRLF are the most of version 1. */
static void test_the_longest_of_version_1(void **state)
{
    char text[200];
    struct proxy_header h;

    memset(text, 'x', sizeof text);
    memcpy(text, "PROXY UNKNOWN ", 14);
    memcpy(text + 105, "\r\n", 2);
    assert_int_equal(proxy_header_parse((const uint8_t *)text, 107, &h), 107);
    assert_int_equal(proxy_header_parse((const uint8_t *)text, 106, &h), 0);
    memcpy(text + 105, "x\r\n", 3);
    assert_int_equal(proxy_header_parse((const uint8_t *)text, 108, &h), -EBADMSG);
    assert_int_equal(proxy_header_parse((const uint8_t *)text, 107, &h), -EBADMSG);
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x01\xbb" /* 192.0.2.1:4711 to .2:443 */
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define TCP6 V6 V6 "\x12\x67\x01\xbb"

struct row2 {
    const char *bytes;
    size_t len;
    int result;
    const char *source;
};
#define ROW2(bytes, result, source)                                                                \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, result, source                                                   \
    }

static void test_version_2(void **state)
{
    static const struct row2 rows[] = {
        ROW2(SIGNATURE "\x21\x11\0\x0c" TCP4, 1, "192.0.2.1"),
        ROW2(SIGNATURE "\x21\x21\0\x24" TCP6, 1, "2001:db8::1"),
        ROW2(SIGNATURE "\x21\x11\0\x0f" TCP4 "\x04\0\0", 1, "192.0.2.1"), /* a TLV behind */
        ROW2(SIGNATURE "\x20\0\0\0", 1, ""),                              /* LOCAL */
        ROW2(SIGNATURE "\x20\x11\0\x0c" TCP4, 1, ""), /* LOCAL: addresses count for nothing */
        ROW2(SIGNATURE "\x20\x11\0\0", 1, ""),
        ROW2(SIGNATURE "\x21\0\0\0", 1, ""), /* unspecified */
        ROW2(SIGNATURE "\x21\0\0\x03zzz", 1, ""),
        ROW2(SIGNATURE "\x21\x11\0\x0c", 0, ""),
        ROW2(SIGNATURE "\x21", 0, ""),
        ROW2("\r\n\r\n\0\r\nQ", 0, ""),
        ROW2("\r", 0, ""),
        ROW2(SIGNATURE "\x21\x11\0\x0b" TCP4, -1, ""), /* too short for its addresses */
        ROW2(SIGNATURE "\x21\x21\0\x0c" TCP4, -1, ""),
        ROW2(SIGNATURE "\x11\x11\0\x0c" TCP4, -1, ""), /* version 1 */
        ROW2(SIGNATURE "\x22\x11\0\x0c" TCP4, -1, ""), /* no such command */
        ROW2(SIGNATURE "\x21\x12\0\x0c" TCP4, -1, ""), /* UDP */
        ROW2(SIGNATURE "\x21\x41\0\x0c" TCP4, -1, ""), /* no such family */
        ROW2(SIGNATURE "\x21\x11\xff\xff" TCP4, -1, ""),
        ROW2("\r\n\r\nGET ", -1, ""),
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct proxy_header h;
        ssize_t n = proxy_header_parse((const uint8_t *)rows[i].bytes, rows[i].len, &h);
        assert_int_equal(n, rows[i].result == 1   ? (ssize_t)rows[i].len
                            : rows[i].result == 0 ? 0
                                                  : -EBADMSG);
        if (rows[i].result < 1)
            continue;
        assert_string_equal(h.source, rows[i].source);
        assert_int_equal(h.port, rows[i].source[0] ? 4711 : 0);
    }
}

/* In whatever pieces it comes: never more than its own bytes are asked for. */
static void test_byte_by_byte(void **state)
{
    static const char *const texts[] = {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nXYZ",
                                        SIGNATURE "\x21\x11\0\x0c" TCP4 "XYZ"};
    static const size_t lens[] = {36, 28};

    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i <= lens[t] + 3; i++) {
            struct proxy_header h;
            ssize_t n = proxy_header_parse((const uint8_t *)texts[t], i, &h);
            assert_int_equal(n, i < lens[t] ? 0 : (ssize_t)lens[t]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_what_follows_is_not_taken),
        cmocka_unit_test(test_the_longest_of_version_1),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_byte_by_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
