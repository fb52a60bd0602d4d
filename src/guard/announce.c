// SPDX-License-Identifier: GPL-3.0-or-later
/* The first frame of a VM, sent for it out of its own network: one question for its gateway's
 * hardware address. Bridges and switches on the way, which may remember the VM elsewhere (it ran on
 * another node), learn where it is now; nobody would reach it before it speaks otherwise. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"
#include "guard/guard.h"

#define DEVICE "eth0"

struct frame {
    struct ether_header ether;
    struct ether_arp arp;
} __attribute__((packed));

static must_check int open_network(pid_t pid)
{
    char path[64];
    int r = str_format(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    int fd = r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC);

    return r == 0 && fd < 0 ? -errno : fd;
}

/* Its own hardware and IP address. */
static must_check int fill_sender(int fd, struct frame *f)
{
    struct ifreq r = {0};

    if (str_copy(r.ifr_name, sizeof r.ifr_name, DEVICE) < 0 || ioctl(fd, SIOCGIFHWADDR, &r) < 0)
        return -errno;
    memcpy(f->ether.ether_shost, r.ifr_hwaddr.sa_data, ETH_ALEN);
    memcpy(f->arp.arp_sha, r.ifr_hwaddr.sa_data, ETH_ALEN);
    if (ioctl(fd, SIOCGIFADDR, &r) < 0)
        return -errno;
    memcpy(f->arp.arp_spa, &((struct sockaddr_in *)(void *)&r.ifr_addr)->sin_addr, 4);
    return 0;
}

static must_check int fill(int fd, const char *gateway, struct frame *f)
{
    *f = (struct frame){
        .ether.ether_type = htons(ETHERTYPE_ARP),
        .arp.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                       .ar_pro = htons(ETHERTYPE_IP),
                       .ar_hln = ETH_ALEN,
                       .ar_pln = 4,
                       .ar_op = htons(ARPOP_REQUEST)}
    };
    memset(f->ether.ether_dhost, 0xff, ETH_ALEN);
    if (inet_pton(AF_INET, gateway, f->arp.arp_tpa) != 1)
        return -EINVAL;
    return fill_sender(fd, f);
}

static must_check int ask(const char *gateway)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_ARP)};
    struct frame f;
    _cleanup_(close_p) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    _cleanup_(close_p) int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || any < 0)
        return -errno;
    int r = fill(any, gateway, &f);
    if (r < 0)
        return r;
    to.sll_ifindex = (int)if_nametoindex(DEVICE);
    return sendto(fd, &f, sizeof f, 0, (struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
}

int guard_announce(pid_t pid, const char *gateway)
{
    _cleanup_(close_p) int ours = open_network(getpid());
    _cleanup_(close_p) int theirs = open_network(pid);

    if (ours < 0 || theirs < 0)
        return ours < 0 ? ours : theirs;
    if (setns(theirs, CLONE_NEWNET) < 0)
        return -errno;
    int r = ask(gateway);
    return setns(ours, CLONE_NEWNET) < 0 ? -errno : r;
}
