// SPDX-License-Identifier: GPL-3.0-or-later
/* What the machine has and what of it is free, and the settings as the table tells them. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "conf/conf.h"
#include "config.h"
#include "node/node-internal.h"

/* "MemTotal:   16384 kB": the number, 0 when it is not there. */
static double number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtod(at + strlen(key), NULL) : 0;
}

static must_check int read_memory(struct node_load *l)
{
    _cleanup_(free_p) char *text = NULL;
    int r = fs_read("/proc/meminfo", 65536, &text, NULL);

    if (r < 0)
        return r;
    double total = number_after(text, "MemTotal:"), free = number_after(text, "MemAvailable:");
    l->usable_ram_mb = total / 1024;
    l->free_ram = total > 0 ? free / total : 0;
    return 0;
}

/* Of the first line: all time, and all but idle and waiting. */
static must_check int read_cpu(struct node *n, struct node_load *l)
{
    _cleanup_(free_p) char *text = NULL;
    int r = fs_read("/proc/stat", 1 << 20, &text, NULL);
    uint64_t total = 0, idle = 0;

    if (r < 0)
        return r;
    if (strncmp(text, "cpu ", 4) != 0)
        return -EBADMSG;
    char *at = text + 4;
    for (int i = 0; i < 8; i++) {
        uint64_t ticks = strtoull(at, &at, 10);
        total += ticks;
        idle += i == 3 || i == 4 ? ticks : 0;
    }
    uint64_t all = total - n->cpu_total, busy = total - idle - n->cpu_busy;
    l->free_cpu = all > 0 && busy <= all ? 1.0 - (double)busy / (double)all : 1.0;
    n->cpu_total = total;
    n->cpu_busy = total - idle;
    return 0;
}

static must_check int read_bogomips(struct node_load *l)
{
    _cleanup_(free_p) char *text = NULL;
    int r = fs_read("/proc/cpuinfo", 8 << 20, &text, NULL);

    if (r < 0)
        return r;
    for (const char *at = text; (at = strstr(at, "bogomips")); at++)
        if ((at = strchr(at, ':')))
            l->usable_cpu += strtod(at + 1, NULL);
        else
            break;
    return 0;
}

int node_load_read(struct node *n, struct node_load *ret_load)
{
    struct node_load l = {.usable_cpu = n->bogomips};
    int r = n->bogomips > 0 ? 0 : read_bogomips(&l);

    n->bogomips = l.usable_cpu;
    if (r == 0)
        r = read_memory(&l);
    if (r == 0)
        r = read_cpu(n, &l);
    if (r == 0)
        *ret_load = l;
    return r;
}

void node_settings_from_conf(const struct conf *c, struct node_settings *ret)
{
    *ret = (struct node_settings){
        .nodename = conf_str(c, "nodename"),
        .run_dir = conf_str(c, "path.run"),
        .lxc_dir = conf_str(c, "path.run.lxc"),
        .log_dir = conf_str(c, "path.log"),
        .captures = conf_str(c, "path.serial.captures"),
        .data_dir = QVD_DATADIR,
        .libexec_dir = QVD_LIBEXECDIR,
        .images = conf_str(c, "path.storage.images"),
        .basefs = conf_str(c, "path.storage.basefs"),
        .overlayfs = conf_str(c, "path.storage.overlayfs"),
        .homefs = conf_str(c, "path.storage.homefs"),
        .cgroup_dir = conf_str(c, "path.cgroup"),
        .lxc_start = conf_str(c, "command.lxc-start"),
        .dnsmasq = conf_str(c, "command.dhcpd"),
        .nft = conf_str(c, "command.nft"),
        .ip = conf_str(c, "command.ip"),
        .bridge = conf_str(c, "vm.network.bridge"),
        .ip_start = conf_str(c, "vm.network.ip.start"),
        .netmask = conf_str(c, "vm.network.netmask"),
        .gateway = conf_str(c, "vm.network.gateway"),
        .dns_server = conf_str(c, "vm.network.dns_server"),
        .domain = conf_str(c, "vm.network.domain"),
        .uplinks = conf_str(c, "vm.network.uplinks"),
        .nat_if = conf_str(c, "vm.network.firewall.nat.iface"),
        .use_dhcp = conf_bool(c, "vm.network.use_dhcp"),
        .console_log = conf_bool(c, "vm.serial.capture"),
        .idmap_base = (uint32_t)conf_int(c, "vm.lxc.idmap.base"),
        .pids_max = (uint32_t)conf_int(c, "vm.lxc.pids.max"),
        .cpu_max = (uint32_t)conf_int(c, "vm.lxc.cpu.max"),
        .vma_port = (uint16_t)conf_int(c, "vm.port.vma"),
        .x_port = (uint16_t)conf_int(c, "vm.port.x"),
        .failed_keep_s = conf_ms(c, "hkd.vm.failed.keep") / 1000,
        .image_max_bytes = (uint64_t)conf_int(c, "vm.lxc.image.size.max") << 20,
        .image_max_entries = (uint64_t)conf_int(c, "vm.lxc.image.entries.max"),
    };
}
