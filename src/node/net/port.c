// SPDX-License-Identifier: GPL-3.0-or-later
/* The messages that `nft add element` and `ip neigh replace` send, without a process for each: a
 * start waits for them. linux/netfilter/nf_tables.h and rtnetlink(7) tell their form. */
#include "node/net/port.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <string.h>
#include <sys/socket.h>

#include "model/net.h"

/* Several messages behind each other; four elements take 400 bytes. */
struct request {
    _Alignas(struct nlmsghdr) char data[1024];
    size_t len;
    bool full;
};

/* As the sets of nft.c have them: each field of a key begins at a multiple of four bytes. */
struct key {
    char port[IFNAMSIZ];
    uint8_t mac[ETH_ALEN], pad[2];
    uint32_t ip; /* in network byte order; in "addresses" only */
};

#define KEY_OF_MACS offsetof(struct key, ip)
#define KEY_OF_ADDRESSES sizeof(struct key)

static size_t put(struct request *q, const void *data, size_t len)
{
    size_t at = q->len, size = NLMSG_ALIGN(len);

    if (q->full || size > sizeof q->data - at) {
        q->full = true;
        return 0;
    }
    memcpy(q->data + at, data, len);
    memset(q->data + at + len, 0, size - len);
    q->len += size;
    return at;
}

static size_t begin(struct request *q, uint16_t type, uint16_t flags, const void *head, size_t len)
{
    struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
    size_t at = put(q, &h, sizeof h);

    put(q, head, len);
    return at;
}

static void end(struct request *q, size_t at)
{
    ((struct nlmsghdr *)(void *)(q->data + at))->nlmsg_len = (uint32_t)(q->len - at);
}

static void attribute(struct request *q, uint16_t type, const void *data, size_t len)
{
    struct nlattr a = {.nla_type = type, .nla_len = (uint16_t)(sizeof a + len)};

    put(q, &a, sizeof a);
    put(q, data, len);
}

static size_t nest(struct request *q, uint16_t type)
{
    struct nlattr a = {.nla_type = type | NLA_F_NESTED};

    return put(q, &a, sizeof a);
}

static void unnest(struct request *q, size_t at)
{
    ((struct nlattr *)(void *)(q->data + at))->nla_len = (uint16_t)(q->len - at);
}

/* The first error among the kernel's answers, which are there when it has taken the messages. */
static must_check int answers(int fd)
{
    _Alignas(struct nlmsghdr) char data[4096];
    bool any = false;
    int r = 0;

    for (;;) {
        ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return r < 0 ? r : errno == EAGAIN && any ? 0 : -errno;
        const struct nlmsghdr *h = (const void *)data;
        if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != NLMSG_ERROR)
            continue;
        any = true;
        if (r == 0)
            r = ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
    }
}

static must_check int ask(int protocol, const struct request *q)
{
    _cleanup_(close_p) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

    if (q->full)
        return -ENOBUFS;
    if (fd < 0 ||
        sendto(fd, q->data, q->len, 0, (const struct sockaddr *)&kernel, sizeof kernel) < 0)
        return -errno;
    return answers(fd);
}

static void mark(struct request *q, uint16_t type)
{
    struct nfgenmsg head = {.nfgen_family = AF_UNSPEC, .res_id = htons(NFNL_SUBSYS_NFTABLES)};

    end(q, begin(q, type, 0, &head, sizeof head));
}

static void element(struct request *q, uint16_t type, const char *set, const struct key *key,
                    size_t key_len)
{
    struct nfgenmsg head = {.nfgen_family = NFPROTO_BRIDGE};
    uint16_t flags = NLM_F_ACK | (type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0);
    size_t message = begin(q, NFNL_SUBSYS_NFTABLES << 8 | type, flags, &head, sizeof head);

    attribute(q, NFTA_SET_ELEM_LIST_TABLE, "qvd", sizeof "qvd");
    attribute(q, NFTA_SET_ELEM_LIST_SET, set, strlen(set) + 1);
    size_t list = nest(q, NFTA_SET_ELEM_LIST_ELEMENTS);
    size_t one = nest(q, NFTA_LIST_ELEM);
    size_t value = nest(q, NFTA_SET_ELEM_KEY);
    attribute(q, NFTA_DATA_VALUE, key, key_len);
    unnest(q, value);
    unnest(q, one);
    unnest(q, list);
    end(q, message);
}

/* One transaction. Before they are removed they are added, so that missing ones are no error. */
static must_check int elements(const struct key *key, bool there)
{
    struct request q = {.len = 0};

    mark(&q, NFNL_MSG_BATCH_BEGIN);
    element(&q, NFT_MSG_NEWSETELEM, "macs", key, KEY_OF_MACS);
    element(&q, NFT_MSG_NEWSETELEM, "addresses", key, KEY_OF_ADDRESSES);
    if (!there) {
        element(&q, NFT_MSG_DELSETELEM, "macs", key, KEY_OF_MACS);
        element(&q, NFT_MSG_DELSETELEM, "addresses", key, KEY_OF_ADDRESSES);
    }
    mark(&q, NFNL_MSG_BATCH_END);
    return ask(NETLINK_NETFILTER, &q);
}

static must_check int neighbour(const struct key *key, const char *bridge, bool there)
{
    struct ndmsg head = {.ndm_family = AF_INET,
                         .ndm_ifindex = (int)if_nametoindex(bridge),
                         .ndm_state = there ? NUD_PERMANENT : 0};
    uint16_t flags = NLM_F_ACK | (there ? NLM_F_CREATE | NLM_F_REPLACE : 0);
    struct request q = {.len = 0};

    if (head.ndm_ifindex == 0)
        return -errno;
    size_t message = begin(&q, there ? RTM_NEWNEIGH : RTM_DELNEIGH, flags, &head, sizeof head);
    attribute(&q, NDA_DST, &key->ip, sizeof key->ip);
    if (there)
        attribute(&q, NDA_LLADDR, key->mac, sizeof key->mac);
    end(&q, message);
    int r = ask(NETLINK_ROUTE, &q);
    return r == -ENOENT && !there ? 0 : r;
}

static must_check int key_of(const struct nft_port *p, struct key *ret)
{
    struct key key = {.pad = {0}};
    struct ether_addr mac;
    uint32_t ip;

    if (strlen(p->port) >= sizeof key.port || !ether_aton_r(p->mac, &mac) ||
        net_ip4_parse(p->ip, &ip) < 0)
        return -EINVAL;
    memcpy(key.port, p->port, strlen(p->port));
    memcpy(key.mac, &mac, sizeof key.mac);
    key.ip = htonl(ip);
    *ret = key;
    return 0;
}

static must_check int change(const struct nft_port *p, const char *bridge, bool there,
                             struct qvd_error *err)
{
    struct key key;
    int r = key_of(p, &key);

    if (r < 0)
        return qvd_error_set(err, r, "%s, %s, %s: no port of a VM", p->port, p->mac, p->ip);
    int rules = elements(&key, there);
    if (rules < 0 && there)
        return qvd_error_errno(err, rules,
                               "the firewall (nft list table bridge qvd) does not take port %s; a "
                               "restart of qvd-hkd loads it anew",
                               p->port);
    r = neighbour(&key, bridge, there);
    if (r < 0)
        return qvd_error_errno(err, r, "bridge %s does not %s neighbour %s", bridge,
                               there ? "take" : "give up", p->ip);
    return rules < 0 ? qvd_error_errno(err, rules, "the firewall does not give up port %s", p->port)
                     : 0;
}

int port_open(const struct nft_port *p, const char *bridge, struct qvd_error *err)
{
    return change(p, bridge, true, err);
}

int port_close(const struct nft_port *p, const char *bridge, struct qvd_error *err)
{
    return change(p, bridge, false, err);
}
