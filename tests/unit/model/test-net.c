// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/net.h"

static uint32_t ip(const char *s)
{
    uint32_t v;

    assert_int_equal(net_ip4_parse(s, &v), 0);
    return v;
}

static void test_ip4(void **state)
{
    static const char *const bad[] = {"",          "10.0.0",    "10.0.0.256", "10.0.0.1.",
                                      "010.0.0.1", "10.0.0.1 ", "::1",        "a.b.c.d"};
    char s[NET_IP4_STR];
    uint32_t v;

    assert_int_equal(ip("10.11.12.13"), 0x0a0b0c0d);
    assert_string_equal(net_ip4_format(0xffffffff, s), "255.255.255.255");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(net_ip4_parse(bad[i], &v), -EINVAL);
}

/* vm.network.netmask: prefix length or dotted mask (config-keys.md). */
static void test_mask(void **state)
{
    static const struct {
        const char *s;
        int bits;
    } rows[] = {
        {"255.255.0.0",     16},
        {"16",              16},
        {"255.255.255.252", 30},
        {"128.0.0.0",       1 },
        {"255.255.255.254", -1},
        {"255.0.255.0",     -1},
        {"0.0.0.0",         -1},
        {"0",               -1},
        {"31",              -1},
        {"255.255.255.1",   -1},
        {"",                -1},
        {"16.0",            -1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned bits = 99;

        assert_int_equal(net_mask_parse(rows[i].s, &bits), rows[i].bits < 0 ? -EINVAL : 0);
        assert_int_equal(bits, rows[i].bits < 0 ? 99 : rows[i].bits);
    }
}

/* Network = ip.start & netmask; nodes network+1 to ip.start-1; VMs ip.start to broadcast-1
 * (vm-lifecycle.md 6). */
static void test_range(void **state)
{
    struct qvd_error err = {0};
    struct net_range r;

    assert_int_equal(net_range_init("10.0.0.100", "255.255.0.0", &r, &err), 0);
    assert_int_equal(r.network, ip("10.0.0.0"));
    assert_int_equal(r.broadcast, ip("10.0.255.255"));
    assert_int_equal(r.bits, 16);
    assert_false(net_range_is_vm(&r, ip("10.0.0.99")));
    assert_true(net_range_is_vm(&r, ip("10.0.0.100")));
    assert_true(net_range_is_vm(&r, ip("10.0.255.254")));
    assert_false(net_range_is_vm(&r, ip("10.0.255.255")));
    assert_false(net_range_is_node(&r, ip("10.0.0.0")));
    assert_true(net_range_is_node(&r, ip("10.0.0.1")));
    assert_true(net_range_is_node(&r, ip("10.0.0.99")));
    assert_false(net_range_is_node(&r, ip("10.0.0.100")));

    assert_int_equal(net_range_init("10.0.0.1", "24", &r, &err), -EINVAL);
    assert_non_null(strstr(err.text, "vm.network.ip.start"));
    assert_int_equal(net_range_init("10.0.0.255", "24", &r, &err), -EINVAL);
    assert_int_equal(net_range_init("10.0.0.x", "24", &r, &err), -EINVAL);
    assert_int_equal(net_range_init("10.0.0.9", "33", &r, &err), -EINVAL);
    assert_non_null(strstr(err.text, "vm.network.netmask"));
    assert_int_equal(net_range_init("10.0.0.254", "24", &r, &err), 0);
    assert_int_equal(r.first, r.last);
}

static void test_lowest(void **state)
{
    struct net_range r;
    uint32_t got = 0;
    uint32_t used[] = {ip("10.0.0.7"), ip("10.0.0.250"), ip("10.0.0.251"), ip("10.0.0.253")};

    assert_int_equal(net_range_init("10.0.0.250", "24", &r, NULL), 0);
    assert_int_equal(net_range_free(&r, NULL, 0, &got), 0);
    assert_int_equal(got, ip("10.0.0.250"));
    assert_int_equal(net_range_free(&r, used, 4, &got), 0);
    assert_int_equal(got, ip("10.0.0.252"));
    used[3] = ip("10.0.0.252");
    assert_int_equal(net_range_free(&r, used, 4, &got), 0);
    assert_int_equal(got, ip("10.0.0.253"));
    {
        uint32_t all[] = {ip("10.0.0.250"), ip("10.0.0.251"), ip("10.0.0.252"), ip("10.0.0.253"),
                          ip("10.0.0.254")};

        assert_int_equal(net_range_free(&r, all, 5, &got), -ENOSPC);
        assert_int_equal(net_range_free(&r, all, 4, &got), 0);
        assert_int_equal(got, ip("10.0.0.254"));
    }
}

/* A.B.C.D gives 54:52:00:BB:CC:DD (vm-lifecycle.md 5.5). */
static void test_mac(void **state)
{
    static const char *const bad[] = {"",         "54:52",   "54:52:00:", "54:52:0g", "54:52:00:01",
                                      "01:52:00", "54-52-00"};
    char mac[NET_MAC_STR];

    assert_int_equal(net_mac("54:52:00", ip("10.0.0.100"), mac), 0);
    assert_string_equal(mac, "54:52:00:00:00:64");
    assert_int_equal(net_mac("54:52:00", ip("172.16.254.255"), mac), 0);
    assert_string_equal(mac, "54:52:00:10:fe:ff");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(net_mac(bad[i], ip("10.0.0.1"), mac), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ip4),    cmocka_unit_test(test_mask), cmocka_unit_test(test_range),
        cmocka_unit_test(test_lowest), cmocka_unit_test(test_mac),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
