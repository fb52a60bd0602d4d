// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/net/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"

int addr_mac(const char *s, char *dst)
{
    unsigned b[6];
    int end = 0;

    if (strlen(s) > 17 ||
        sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) !=
            6 ||
        s[end] != '\0' || strpbrk(s, " \t+-xX"))
        return -EINVAL;
    return str_format(dst, 18, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

bool addr_ifname_ok(const char *s)
{
    size_t len = strlen(s);

    if (len == 0 || len >= IFNAMSIZ)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

static must_check int read_uplinks(const char *list, struct addr_plan *p, struct qvd_error *err)
{
    while (*(list += strspn(list, ", \t"))) {
        size_t len = strcspn(list, ", \t");
        char *dst = p->uplinks[p->n_uplinks];
        if (p->n_uplinks == NET_UPLINKS)
            return qvd_error_set(err, -EINVAL, "vm.network.uplinks: at most %d interfaces",
                                 NET_UPLINKS);
        if (str_copy_n(dst, sizeof p->uplinks[0], list, len) < 0 || !addr_ifname_ok(dst))
            return qvd_error_set(err, -EINVAL, "vm.network.uplinks: %.*s is no interface name",
                                 (int)len, list);
        p->n_uplinks++;
        list += len;
    }
    return 0;
}

int addr_plan_read(const char *bridge, const char *ip_start, const char *netmask,
                   const char *gateway, const char *uplinks, const char *nat_if,
                   struct addr_plan *ret, struct qvd_error *err)
{
    struct addr_plan p = {0};

    if (!addr_ifname_ok(bridge) || str_copy(p.bridge, sizeof p.bridge, bridge) < 0)
        return qvd_error_set(err, -EINVAL, "vm.network.bridge: \"%s\" is no interface name",
                             bridge);
    if (net_ip4_parse(ip_start, &p.first) < 0)
        return qvd_error_set(err, -EINVAL,
                             "vm.network.ip.start: \"%s\" is no address; set the first address "
                             "of VMs, as 10.3.15.50",
                             ip_start);
    if (net_mask_parse(netmask, &p.prefix) < 0 || p.prefix < 8)
        return qvd_error_set(err, -EINVAL,
                             "vm.network.netmask: \"%s\" is no netmask of 8 to 30 bits; write 24 "
                             "or 255.255.255.0",
                             netmask);
    p.mask = ~0U << (32 - p.prefix);
    p.network = p.first & p.mask;
    p.last = (p.network | ~p.mask) - 1;
    if (p.first <= p.network + 1 || p.first > p.last)
        return qvd_error_set(err, -EINVAL,
                             "vm.network.ip.start: %s leaves no address for nodes below it in "
                             "its network",
                             ip_start);
    if (net_ip4_parse(gateway, &p.gateway) < 0)
        return qvd_error_set(err, -EINVAL,
                             "vm.network.gateway: \"%s\" is no address; set the router that VMs "
                             "use, for one node the bridge's own address",
                             gateway);
    if ((p.gateway & p.mask) != p.network || p.gateway >= p.first)
        return qvd_error_set(err, -EINVAL,
                             "vm.network.gateway: %s must lie in the VMs' network below "
                             "vm.network.ip.start (%s)",
                             gateway, ip_start);
    if (*nat_if && (!addr_ifname_ok(nat_if) || str_copy(p.nat_if, sizeof p.nat_if, nat_if) < 0))
        return qvd_error_set(err, -EINVAL, "vm.network.firewall.nat.iface: %s is no interface name",
                             nat_if);
    int r = read_uplinks(uplinks, &p, err);
    if (r == 0)
        *ret = p;
    return r;
}

bool addr_is_vm(const struct addr_plan *p, uint32_t ip)
{
    return ip >= p->first && ip <= p->last;
}

/* The bridge's address in the VMs' network, else any that it has (0: none). */
static uint32_t bridge_address(const struct addr_plan *p)
{
    struct ifaddrs *all = NULL;
    uint32_t found = 0;

    if (getifaddrs(&all) < 0)
        return 0;
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET ||
            strcmp(a->ifa_name, p->bridge) != 0)
            continue;
        uint32_t ip = ntohl(((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr.s_addr);
        if (!found || (ip & p->mask) == p->network)
            found = ip;
    }
    freeifaddrs(all);
    return found;
}

int addr_bridge_check(struct addr_plan *p, struct qvd_error *err)
{
    char path[64], ip[16], gw[16];
    struct stat st;

    net_ip4_format(p->gateway, gw);
    if (str_format(path, sizeof path, "/sys/class/net/%s", p->bridge) < 0 || stat(path, &st) < 0)
        return qvd_error_set(err, -ENODEV,
                             "vm.network.bridge: there is no %s; make it: ip link add %s type "
                             "bridge; ip addr add %s/%u dev %s; ip link set %s up",
                             p->bridge, p->bridge, gw, p->prefix, p->bridge, p->bridge);
    if (str_format(path, sizeof path, "/sys/class/net/%s/bridge", p->bridge) < 0 ||
        stat(path, &st) < 0)
        return qvd_error_set(err, -ENODEV, "vm.network.bridge: %s is no bridge; name one that is",
                             p->bridge);
    uint32_t address = bridge_address(p);
    if (!address)
        return qvd_error_set(err, -EADDRNOTAVAIL,
                             "bridge %s has no address; give it one below vm.network.ip.start: ip "
                             "addr add %s/%u dev %s",
                             p->bridge, gw, p->prefix, p->bridge);
    net_ip4_format(address, ip);
    if ((address & p->mask) != p->network)
        return qvd_error_set(err, -EADDRNOTAVAIL,
                             "bridge %s has %s, outside of the VMs' network; set "
                             "vm.network.ip.start and .netmask to fit, or change the address",
                             p->bridge, ip);
    if (address >= p->first)
        return qvd_error_set(err, -EADDRNOTAVAIL,
                             "bridge %s has %s, which is not below vm.network.ip.start: it would "
                             "be a VM's; change one of the two",
                             p->bridge, ip);
    p->bridge_address = address;
    return 0;
}

static bool is_local(const char *address)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
        const void *raw = NULL;
        if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET)
            raw = &((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr;
        else if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET6)
            raw = &((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr;
        found = raw && inet_ntop(a->ifa_addr->sa_family, raw, text, sizeof text) &&
                strcmp(text, address) == 0;
    }
    freeifaddrs(all);
    return found;
}

int addr_node_check(const struct addr_plan *p, const char *name, const char *address,
                    struct qvd_error *err)
{
    uint32_t ip;

    if (net_ip4_parse(address, &ip) == 0 && addr_is_vm(p, ip))
        return qvd_error_set(err, -EADDRNOTAVAIL,
                             "node %s has the address %s in its row, which is a VM's; give it its "
                             "own: qa host edit -f name=%s address=ADDRESS",
                             name, address, name);
    if (!is_local(address))
        return qvd_error_set(err, -EADDRNOTAVAIL,
                             "node %s has the address %s in its row, which no interface here has; "
                             "mend it: qa host edit -f name=%s address=ADDRESS",
                             name, address, name);
    return 0;
}
