// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/hypervisor/lxc-config.h"

static const struct lxc_config sample = {
    .vm = 42,
    .run_dir = "/run/qvd/vm/42",
    .guard = "/usr/lib/qvd/qvd-guard",
    .log_file = "/var/log/qvd/lxc/qvd-42.log",
    .seccomp = "/usr/share/qvd/lxc.seccomp",
    .cgroup = "qvd-42",
    .cgroup_version = 1,
    .idmap = 1000000,
    .limits = {.memory = 512ULL << 20, .pids = 1024, .cpu_percent = 150, .swap_limit = true},
    .bridge = "qvdnet0",
    .port = "qvd42",
    .mac = "54:52:00:03:0f:32",
    .ip = "10.3.15.50",
    .gateway = "10.3.15.1",
    .prefix = 24,
};

/* The text for the sample changed by the caller; to be done by buf_done(). */
static char *text_of(const struct lxc_config *c, struct buf *out)
{
    buf_init(out, 0);
    assert_int_equal(lxc_config_write(c, out), 0);
    return buf_cstr(out);
}

static void expect_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void expect_none(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" is in:\n%s", part, text);
}

static void limits_of_version_1(void **state)
{
    struct buf out;
    const char *text = text_of(&sample, &out);

    expect_line(text, "lxc.cgroup.memory.limit_in_bytes = 536870912");
    expect_line(text, "lxc.cgroup.memory.memsw.limit_in_bytes = 536870912");
    expect_line(text, "lxc.cgroup.pids.max = 1024");
    expect_line(text, "lxc.cgroup.cpu.shares = 1024");
    expect_line(text, "lxc.cgroup.cpu.cfs_quota_us = 150000");
    expect_line(text, "lxc.cgroup.devices.deny = a");
    expect_none(text, "lxc.cgroup2.");
    /* Memory before memory and swap: the kernel refuses the second below the first. */
    assert_true(strstr(text, "memory.limit_in_bytes") < strstr(text, "memory.memsw"));
    buf_done(&out);
}

static void limits_of_version_2(void **state)
{
    struct lxc_config c = sample;
    struct buf out;

    c.cgroup_version = 2;
    const char *text = text_of(&c, &out);
    expect_line(text, "lxc.cgroup2.memory.max = 536870912");
    expect_line(text, "lxc.cgroup2.memory.swap.max = 0");
    expect_line(text, "lxc.cgroup2.pids.max = 1024");
    expect_line(text, "lxc.cgroup2.cpu.weight = 100");
    expect_line(text, "lxc.cgroup2.cpu.max = 150000 100000");
    expect_line(text, "lxc.cgroup2.devices.deny = a");
    expect_none(text, "lxc.cgroup.memory");
    expect_none(text, "lxc.cgroup.devices");
    buf_done(&out);
}

static void limits_that_are_not_there(void **state)
{
    struct lxc_config c = sample;
    struct buf out;

    c.limits.swap_limit = false;
    c.limits.cpu_percent = 0;
    const char *text = text_of(&c, &out);
    expect_none(text, "memsw");
    expect_none(text, "cfs_quota");
    expect_line(text, "lxc.cgroup.memory.limit_in_bytes = 536870912");
    buf_done(&out);
}

static void what_confines(void **state)
{
    struct buf out;
    const char *text = text_of(&sample, &out);

    expect_line(text, "lxc.rootfs.path = dir:/run/qvd/vm/42/root");
    expect_line(text, "lxc.idmap = u 0 1000000 65536");
    expect_line(text, "lxc.idmap = g 0 1000000 65536");
    expect_line(text, "lxc.seccomp.profile = /usr/share/qvd/lxc.seccomp");
    expect_line(text, "lxc.apparmor.profile = unconfined");
    expect_line(text, "lxc.mount.entry = /run/qvd/vm/42/dev/secret dev/.qvd/secret none "
                      "bind,ro,create=file 0 0");
    expect_line(text, "lxc.cgroup.dir.container = qvd-42/vm");
    expect_line(text, "lxc.cgroup.dir.container.inner = guest");
    expect_none(text, "lxc.include");
    buf_done(&out);
}

static void the_network(void **state)
{
    struct buf out;
    const char *text = text_of(&sample, &out);

    expect_line(text, "lxc.net.0.link = qvdnet0");
    expect_line(text, "lxc.net.0.veth.pair = qvd42");
    expect_line(text, "lxc.net.0.hwaddr = 54:52:00:03:0f:32");
    expect_line(text, "lxc.net.0.ipv4.address = 10.3.15.50/24");
    expect_line(text, "lxc.net.0.ipv4.gateway = 10.3.15.1");
    /* LXC puts "exec " before it: the first words are a redirection, which a shell then keeps. */
    expect_line(text, "lxc.hook.start-host = 1<>'/run/qvd/vm/42/hook'; echo 1 "
                      ">/sys/class/net/qvd42/brport/isolated && echo start $LXC_PID");
    buf_done(&out);
}

static void what_a_flavour_chooses(void **state)
{
    struct lxc_config c = sample;
    struct buf out;
    const char *text = text_of(&c, &out);

    expect_none(text, " home none");
    expect_line(text, "lxc.console.size = 128kB");
    buf_done(&out);
    c.own_home = c.apparmor = true;
    c.console = "/var/log/qvd/lxc/qvd-42.console";
    text = text_of(&c, &out);
    expect_line(text, "lxc.mount.entry = /run/qvd/vm/42/home home none "
                      "bind,nosuid,nodev,create=dir 0 0");
    expect_line(text, "lxc.console.logfile = /var/log/qvd/lxc/qvd-42.console");
    expect_line(text, "lxc.console.size = 1MB");
    expect_none(text, "unconfined");
    buf_done(&out);
}

static void a_text_may_not_add_lines(void **state)
{
    struct lxc_config c = sample;
    struct buf out;

    c.gateway = "10.3.15.1\nlxc.hook.pre-start = /bin/sh";
    buf_init(&out, 0);
    assert_int_equal(lxc_config_write(&c, &out), -EINVAL);
    assert_int_equal(out.len, 0);
    c = sample;
    c.mac = "a\rb";
    assert_int_equal(lxc_config_write(&c, &out), -EINVAL);
    c = sample;
    c.run_dir = "/run/qvd'; reboot; '"; /* a shell reads it */
    assert_int_equal(lxc_config_write(&c, &out), -EINVAL);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_of_version_1),
        cmocka_unit_test(limits_of_version_2),
        cmocka_unit_test(limits_that_are_not_there),
        cmocka_unit_test(what_confines),
        cmocka_unit_test(the_network),
        cmocka_unit_test(what_a_flavour_chooses),
        cmocka_unit_test(a_text_may_not_add_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
