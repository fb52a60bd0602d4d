// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/net/nft.h"

#include <string.h>

#include "base/str.h"

static must_check int add_elements(const struct nft_port *p, struct buf *out)
{
    return buf_printf(out,
                      "add element bridge qvd macs { \"%s\" . %s }\n"
                      "add element bridge qvd addresses { \"%s\" . %s . %s }\n",
                      p->port, p->mac, p->port, p->mac, p->ip);
}

int nft_remove(struct buf *out)
{
    return buf_append_str(out, "add table bridge qvd\ndelete table bridge qvd\n"
                               "add table inet qvd\ndelete table inet qvd\n");
}

/* Words of the texts below: $bridge, $nodes (their range), $vms, $net, $gw, $self, $vma, $x,
 * $broadcast. */
struct words {
    char bridge[20], nodes[40], vms[40], net[24], gw[16], self[16], broadcast[16], vma[8], x[8];
    char users[32];
};

static must_check int expand(const struct words *w, const char *text, struct buf *out)
{
    const struct {
        const char *name, *value;
    } table[] = {
        {"bridge",    w->bridge   },
        {"nodes",     w->nodes    },
        {"vms",       w->vms      },
        {"net",       w->net      },
        {"gw",        w->gw       },
        {"self",      w->self     },
        {"broadcast", w->broadcast},
        {"vma",       w->vma      },
        {"xport",     w->x        },
        {"users",     w->users    },
    };
    int r = 0;

    while (r == 0 && *text) {
        size_t n = strcspn(text, "$");
        r = buf_append(out, text, n);
        text += n;
        if (*text != '$')
            continue;
        text++;
        size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz");
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(table); i++)
            if (strlen(table[i].name) == len && strncmp(text, table[i].name, len) == 0)
                r = buf_append_str(out, table[i].value);
        text += len;
    }
    return r;
}

/* Who changes a set's type changes port.c's keys too. */
static const char bridge_sets[] = "table bridge qvd {\n"
                                  "set macs { type ifname . ether_addr; }\n"
                                  "set addresses { type ifname . ether_addr . ipv4_addr; }\n"
                                  "set uplinks { type ifname; }\n";

/* What a port may send. The first rules of a chain that must leave other bridges alone come from
 * the caller. */
static const char bridge_port[] =
    "iifname @uplinks jump uplink_in\n"
    "iifname @uplinks accept\n"
    "iifname . ether saddr != @macs drop\n"
    "ether saddr & 01:00:00:00:00:00 != 0 drop\n"
    "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
    "iifname . arp saddr ether . arp saddr ip @addresses accept\n"
    "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation request "
    "arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs accept\n" /* RFC 5227: a probe */
    "ether type arp drop\n"
    "udp sport 67 drop\n" /* no server but ours */
    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept\n"
    "ether type ip iifname . ether saddr . ip saddr @addresses accept\n"
    "drop\n"
    "}\n";

/* From other nodes and from the gateway to VMs, and the other way. DHCP never crosses. What a VM of
 * another node sends to this node (as its gateway, or as an answer) is for the inet table to judge;
 * its own node has looked at its addresses. */
static const char bridge_uplink[] =
    "chain uplink_in {\n"
    "udp sport { 67, 68 } drop\n"
    "udp dport { 67, 68 } drop\n"
    "}\n"
    "chain to_uplink {\n"
    "udp dport { 67, 68 } drop\n"
    "arp daddr ip $gw accept\n"
    "arp daddr ip $nodes accept\n"
    "ether type arp drop\n"
    "ip daddr $gw icmp type echo-request accept\n"
    "ip daddr $nodes tcp sport { $vma, $xport } tcp flags & (syn | ack) != syn accept\n"
    "ip daddr $gw udp dport 53 accept\n"
    "ip daddr $gw tcp dport 53 accept\n"
    "ip daddr $net drop\n"
    "ether daddr & 01:00:00:00:00:00 != 0 drop\n"
    "ether type ip accept\n"
    "drop\n"
    "}\n"
    "chain from_uplink {\n"
    "arp saddr ip $vms drop\n" /* no VM of another node speaks to ours */
    "ether type arp accept\n"
    "ip saddr $nodes tcp dport { $vma, $xport } accept\n"
    "ip saddr $nodes tcp flags & (syn | ack) != syn tcp sport 53 accept\n"
    "ip saddr $nodes udp sport 53 accept\n"
    "ip saddr $nodes icmp type echo-reply accept\n"
    "ip saddr $net drop\n"
    "ether type ip accept\n"
    "drop\n"
    "}\n";

static const char bridge_forward[] = "iifname @uplinks oifname @uplinks accept\n"
                                     "iifname @uplinks goto from_uplink\n"
                                     "oifname @uplinks goto to_uplink\n"
                                     "drop\n"
                                     "}\n";

/* What leaves by a port, this node's own frames too: those that a bridge sends everywhere because
 * it does not know where their receiver is must not be seen by VMs that are not it. */
static const char bridge_leave[] = "oifname @uplinks udp dport { 67, 68 } drop\n"
                                   "oifname @uplinks accept\n"
                                   "oifname . ether daddr @macs accept\n"
                                   "ether daddr ff:ff:ff:ff:ff:ff ether type arp accept\n"
                                   "ether daddr ff:ff:ff:ff:ff:ff udp sport 67 accept\n"
                                   "drop\n"
                                   "}\n"
                                   "}\n";

static const char inet_rules[] = "table inet qvd {\n"
                                 "chain input {\n"
                                 "type filter hook input priority filter; policy accept;\n"
                                 "iifname != $bridge accept\n"
                                 "meta nfproto ipv6 drop\n"
                                 "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
                                 "ip saddr != $vms accept\n"
                                 "ct state established,related accept\n"
                                 "udp sport 68 udp dport 67 accept\n"
                                 "ip daddr { $self } udp dport 53 accept\n"
                                 "ip daddr { $self } tcp dport 53 accept\n"
                                 "ip daddr { $self } icmp type echo-request accept\n"
                                 "drop\n"
                                 "}\n"
                                 "chain output {\n"
                                 "type filter hook output priority filter; policy accept;\n"
                                 "oifname != $bridge accept\n"
                                 "meta nfproto ipv6 drop\n"
                                 "ip daddr != $vms accept\n"
                                 "ct state established,related accept\n"
                                 "udp sport 67 udp dport 68 accept\n"
                                 "tcp dport { $vma, $xport } meta skuid { $users } accept\n"
                                 "drop\n"
                                 "}\n"
                                 "chain forward {\n"
                                 "type filter hook forward priority filter; policy accept;\n"
                                 "iifname != $bridge oifname != $bridge accept\n"
                                 "meta nfproto ipv6 drop\n"
                                 "ct state established,related accept\n"
                                 "ip saddr $nodes ip daddr $vms tcp dport { $vma, $xport } accept\n"
                                 "ip saddr $vms ip daddr $gw udp dport 53 accept\n"
                                 "ip saddr $vms ip daddr $gw tcp dport 53 accept\n"
                                 "ip saddr $vms ip daddr $gw icmp type echo-request accept\n"
                                 "ip saddr $vms ip daddr $net drop\n"
                                 "ip daddr $vms drop\n"
                                 "}\n";

static must_check int fill_words(const struct nft_rules *r, struct words *w)
{
    const struct addr_plan *p = r->plan;
    char a[16], b[16];

    if (str_format(w->bridge, sizeof w->bridge, "\"%s\"", p->bridge) < 0 ||
        str_format(w->nodes, sizeof w->nodes, "%s-%s", net_ip4_format(p->network + 1, a),
                   net_ip4_format(p->first - 1, b)) < 0 ||
        str_format(w->vms, sizeof w->vms, "%s-%s", net_ip4_format(p->first, a),
                   net_ip4_format(p->last, b)) < 0 ||
        str_format(w->net, sizeof w->net, "%s/%u", net_ip4_format(p->network, a), p->prefix) < 0 ||
        str_format(w->vma, sizeof w->vma, "%u", r->vma_port) < 0 ||
        str_format(w->x, sizeof w->x, "%u", r->x_port) < 0)
        return -EINVAL;
    net_ip4_format(p->gateway, w->gw);
    net_ip4_format(p->bridge_address, w->self);
    net_ip4_format(p->last + 1, w->broadcast);
    return r->broker_uid < 0 ? str_format(w->users, sizeof w->users, "0")
                             : str_format(w->users, sizeof w->users, "0, %d", r->broker_uid);
}

/* The chain's head; what goes over other bridges goes its way where the kernel can tell. */
static must_check int bridge_chain(const struct nft_rules *r, const char *hook, const char *bridge,
                                   struct buf *out)
{
    int e = buf_printf(out, "chain %s {\ntype filter hook %s priority filter; policy accept;\n",
                       hook, hook);

    if (e == 0 && r->by_bridge)
        e = buf_printf(out, "meta %s != \"%s\" accept\n", bridge, r->plan->bridge);
    return e;
}

int nft_rules(const struct nft_rules *r, struct buf *out)
{
    struct words w = {0};
    int e = fill_words(r, &w);

    if (e == 0)
        e = nft_remove(out);
    if (e == 0)
        e = buf_append_str(out, bridge_sets);
    if (e == 0)
        e = expand(&w, bridge_uplink, out);
    if (e == 0)
        e = bridge_chain(r, "prerouting", "ibrname", out);
    if (e == 0)
        e = buf_append_str(out, bridge_port);
    if (e == 0)
        e = bridge_chain(r, "forward", "ibrname", out);
    if (e == 0)
        e = buf_append_str(out, bridge_forward);
    if (e == 0)
        e = bridge_chain(r, "postrouting", "obrname", out);
    if (e == 0)
        e = buf_append_str(out, bridge_leave);
    if (e == 0)
        e = expand(&w, inet_rules, out);
    if (e == 0 && *r->plan->nat_if)
        e = buf_printf(out,
                       "chain postrouting {\n"
                       "type nat hook postrouting priority srcnat; policy accept;\n"
                       "ip saddr %s oifname \"%s\" masquerade\n"
                       "}\n",
                       w.vms, r->plan->nat_if);
    if (e == 0)
        e = buf_append_str(out, "}\n");
    for (unsigned i = 0; e == 0 && i < r->plan->n_uplinks; i++)
        e = buf_printf(out, "add element bridge qvd uplinks { \"%s\" }\n", r->plan->uplinks[i]);
    for (size_t i = 0; e == 0 && i < r->n_ports; i++)
        e = add_elements(&r->ports[i], out);
    return e;
}
