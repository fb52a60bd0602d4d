// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "node/net/dhcp.h"
#include "node/net/nft.h"

static struct addr_plan plan_of(const char *uplinks, const char *nat)
{
    struct addr_plan p;
    struct qvd_error err;

    if (addr_plan_read("qvdnet0", "10.3.15.50", "24", "10.3.15.1", uplinks, nat, &p, &err) < 0)
        fail_msg("%s", err.text);
    p.bridge_address = 0x0a030f02;
    return p;
}

static void expect_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void the_rules_are_one_transaction(void **state)
{
    struct addr_plan plan = plan_of("", "");
    const struct nft_port port = {"qvd42", "54:52:00:03:0f:32", "10.3.15.50"};
    struct nft_rules r = {.plan = &plan,
                          .by_bridge = true,
                          .vma_port = 3030,
                          .x_port = 4100,
                          .broker_uid = 104,
                          .ports = &port,
                          .n_ports = 1};
    struct buf out;

    buf_init(&out, 0);
    assert_int_equal(nft_rules(&r, &out), 0);
    const char *text = buf_cstr(&out);
    /* Removed and made anew together: there is no moment without rules. */
    assert_ptr_equal(strstr(text, "add table bridge qvd\ndelete table bridge qvd\n"), text);
    expect_line(text, "meta ibrname != \"qvdnet0\" accept");
    expect_line(text, "iifname . ether saddr != @macs drop");
    expect_line(text, "udp sport 67 drop");
    expect_line(text, "tcp dport { 3030, 4100 } meta skuid { 0, 104 } accept");
    expect_line(text, "ip daddr != 10.3.15.50-10.3.15.254 accept");
    expect_line(text, "ip daddr { 10.3.15.2 } udp dport 53 accept");
    expect_line(text, "ip saddr 10.3.15.1-10.3.15.49 ip daddr 10.3.15.50-10.3.15.254 tcp dport { "
                      "3030, 4100 } accept");
    expect_line(text, "add element bridge qvd macs { \"qvd42\" . 54:52:00:03:0f:32 }");
    expect_line(text, "add element bridge qvd addresses { \"qvd42\" . 54:52:00:03:0f:32 . "
                      "10.3.15.50 }");
    assert_null(strchr(text, '$'));
    assert_null(strstr(text, "masquerade"));
    buf_done(&out);
}

static void braces_are_closed(void **state)
{
    struct addr_plan plan = plan_of("eth1, bond0", "eth0");
    struct nft_rules r = {.plan = &plan, .vma_port = 3030, .x_port = 4100, .broker_uid = -1};
    struct buf out;
    int depth = 0;

    buf_init(&out, 0);
    assert_int_equal(nft_rules(&r, &out), 0);
    const char *text = buf_cstr(&out);
    for (const char *c = text; *c; c++) {
        depth += *c == '{' ? 1 : *c == '}' ? -1 : 0;
        assert_true(depth >= 0);
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(text, "ibrname"));
    expect_line(text, "add element bridge qvd uplinks { \"eth1\" }");
    expect_line(text, "add element bridge qvd uplinks { \"bond0\" }");
    expect_line(text, "ip saddr 10.3.15.50-10.3.15.254 oifname \"eth0\" masquerade");
    expect_line(text, "tcp dport { 3030, 4100 } meta skuid { 0 } accept");
    buf_done(&out);
}

static void plans(void **state)
{
    static const struct {
        const char *bridge, *start, *mask, *gateway, *uplinks, *said;
    } rows[] = {
        {"qvdnet0",          "10.3.15.50",  "24",            "10.3.15.1",  "",     NULL      },
        {"qvdnet0",          "10.3.15.50",  "255.255.255.0", "10.3.15.49", "eth1", NULL      },
        {"",                 "10.3.15.50",  "24",            "10.3.15.1",  "",     "bridge"  },
        {"a b",              "10.3.15.50",  "24",            "10.3.15.1",  "",     "bridge"  },
        {"sixteen-letters!", "10.3.15.50",  "24",            "10.3.15.1",  "",     "bridge"  },
        {"qvdnet0",          "",            "24",            "10.3.15.1",  "",     "ip.start"},
        {"qvdnet0",          "10.3.15.300", "24",            "10.3.15.1",  "",     "ip.start"},
        {"qvdnet0",          "10.3.15.0",   "24",            "10.3.15.1",  "",     "ip.start"},
        {"qvdnet0",          "10.3.15.1",   "24",            "10.3.15.1",  "",     "ip.start"},
        {"qvdnet0",          "10.3.15.255", "24",            "10.3.15.1",  "",     "ip.start"},
        {"qvdnet0",          "10.3.15.50",  "255.0.255.0",   "10.3.15.1",  "",     "netmask" },
        {"qvdnet0",          "10.3.15.50",  "31",            "10.3.15.1",  "",     "netmask" },
        {"qvdnet0",          "10.3.15.50",  "7",             "10.3.15.1",  "",     "netmask" },
        {"qvdnet0",          "10.3.15.50",  "24",            "",           "",     "gateway" },
        {"qvdnet0",          "10.3.15.50",  "24",            "10.3.15.50", "",     "gateway" },
        {"qvdnet0",          "10.3.15.50",  "24",            "10.3.16.1",  "",     "gateway" },
        {"qvdnet0",          "10.3.15.50",  "24",            "10.3.15.1",  "a\"b", "uplinks" },
    };
    struct qvd_error err;
    struct addr_plan p;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int r = addr_plan_read(rows[i].bridge, rows[i].start, rows[i].mask, rows[i].gateway,
                               rows[i].uplinks, "", &p, &err);
        if (r != (rows[i].said ? -EINVAL : 0) || (r < 0 && !strstr(err.text, rows[i].said)))
            fail_msg("row %zu: %d %s", i, r, r < 0 ? err.text : "");
    }
    p = plan_of("", "");
    assert_true(addr_is_vm(&p, 0x0a030f32) && addr_is_vm(&p, 0x0a030ffe));
    assert_false(addr_is_vm(&p, 0x0a030f31) || addr_is_vm(&p, 0x0a030fff));
}

static void hardware_addresses(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"54:52:00:03:0f:32",  "54:52:00:03:0f:32"},
        {"54:52:0:3:F:32",     "54:52:00:03:0f:32"},
        {"54:52:00:03:0f",     NULL               },
        {"54:52:00:03:0f:32:", NULL               },
        {"54:52:00:03:0f:3g",  NULL               },
        {"54:52:00:03:0f: 3",  NULL               },
        {"-1:52:00:03:0f:32",  NULL               },
        {"",                   NULL               },
    };
    char mac[18];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(addr_mac(rows[i].in, mac), rows[i].out ? 0 : -EINVAL);
        if (rows[i].out)
            assert_string_equal(mac, rows[i].out);
    }
}

static void dnsmasq_settings(void **state)
{
    struct addr_plan plan = plan_of("", "");
    struct dhcp_settings s = {
        .plan = &plan, .dir = "/run/qvd/dhcp", .dns = "10.0.0.1, 10.0.0.2", .domain = "qvd.test"};
    struct buf out;

    buf_init(&out, 0);
    assert_int_equal(dhcp_config(&s, &out), 0);
    const char *text = buf_cstr(&out);
    expect_line(text, "interface=qvdnet0");
    expect_line(text, "except-interface=lo");
    expect_line(text, "listen-address=10.3.15.2");
    expect_line(text, "dhcp-range=10.3.15.50,static,255.255.255.0,infinite");
    expect_line(text, "dhcp-option=option:router,10.3.15.1");
    expect_line(text, "dhcp-option=option:dns-server,10.0.0.1,10.0.0.2");
    expect_line(text, "dhcp-hostsdir=/run/qvd/dhcp/hosts");
    expect_line(text, "dhcp-lease-max=50000");
    expect_line(text, "domain=qvd.test");
    buf_done(&out);
    s.dns = s.domain = "";
    assert_int_equal(dhcp_config(&s, &out), 0);
    expect_line(buf_cstr(&out), "dhcp-option=option:dns-server,10.3.15.1");
    assert_null(strstr(buf_cstr(&out), "\ndomain="));
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_are_one_transaction),
        cmocka_unit_test(braces_are_closed),
        cmocka_unit_test(plans),
        cmocka_unit_test(hardware_addresses),
        cmocka_unit_test(dnsmasq_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
