// SPDX-License-Identifier: GPL-3.0-or-later
#include "http/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/str.h"

#define V1_BEGIN "PROXY "
#define V1_MAX 107 /* with CRLF, says the protocol */
#define V2_HEAD 16

static const uint8_t v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* An address of mapped IPv4 is shown as IPv4: one client is one source. */
static must_check int put_address(int family, const void *address, struct proxy_header *ret)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    if (family == AF_INET6 && memcmp(address, mapped, sizeof mapped) == 0) {
        family = AF_INET;
        address = (const uint8_t *)address + sizeof mapped;
    }
    return inet_ntop(family, address, ret->source, sizeof ret->source) ? 0 : -EBADMSG;
}

/* Version 1 --------------------------------------------------------------------------------------
 */

static must_check int read_port(const char *text, uint16_t *ret)
{
    uint64_t value = 0;

    if ((text[0] == '0' && text[1]) || str_to_u64(text, 65535, &value) < 0)
        return -EBADMSG;
    *ret = (uint16_t)value;
    return 0;
}

/* "TCP4 SOURCE DESTINATION PORT PORT", one blank between two. */
static must_check int read_words(char *line, struct proxy_header *ret)
{
    char *words[5] = {NULL}, *rest = line;
    uint8_t source[16], other[16];
    uint16_t other_port;
    int family;

    for (int i = 0; i < 5; i++) {
        words[i] = strsep(&rest, " ");
        if (!words[i] || !*words[i])
            return -EBADMSG;
    }
    if (rest)
        return -EBADMSG;
    if (strcmp(words[0], "TCP4") == 0)
        family = AF_INET;
    else if (strcmp(words[0], "TCP6") == 0)
        family = AF_INET6;
    else
        return -EBADMSG;
    if (inet_pton(family, words[1], source) != 1 || inet_pton(family, words[2], other) != 1 ||
        read_port(words[3], &ret->port) < 0 || read_port(words[4], &other_port) < 0)
        return -EBADMSG;
    return put_address(family, source, ret);
}

static ssize_t parse_v1(const uint8_t *data, size_t len, struct proxy_header *ret)
{
    size_t seen = len < V1_MAX ? len : V1_MAX;
    const uint8_t *cr = memchr(data, '\r', seen);
    char line[V1_MAX];

    /* Only its end may be a control character. */
    for (const uint8_t *c = data; c < (cr ? cr : data + seen); c++)
        if (*c < 0x20 || *c >= 0x7f)
            return -EBADMSG;
    if (!cr || cr + 1 == data + len)
        return seen == V1_MAX ? -EBADMSG : 0;
    if (cr[1] != '\n' || cr + 2 > data + V1_MAX)
        return -EBADMSG;
    size_t used = (size_t)(cr - data) - strlen(V1_BEGIN);
    memcpy(line, data + strlen(V1_BEGIN), used);
    line[used] = 0;
    /* What may follow that word means nothing. */
    if (strcmp(line, "UNKNOWN") != 0 && !str_starts(line, "UNKNOWN ") && read_words(line, ret) < 0)
        return -EBADMSG;
    return cr + 2 - data;
}

/* Version 2 --------------------------------------------------------------------------------------
 */

static ssize_t parse_v2(const uint8_t *data, size_t len, struct proxy_header *ret)
{
    if (len < V2_HEAD)
        return 0;
    size_t body = (size_t)data[14] << 8 | data[15], need = 0;
    unsigned command = data[12] & 15;
    const uint8_t *at = data + V2_HEAD;

    if (data[12] >> 4 != 2 || command > 1 || V2_HEAD + body > PROXY_HEADER_MAX)
        return -EBADMSG;
    switch (data[13]) {
    case 0x00: /* unspecified */
    case 0x31: /* a unix stream */
        break;
    case 0x11:
        need = 12;
        break;
    case 0x21:
        need = 36;
        break;
    default:
        return -EBADMSG;
    }
    if (command == 1 && body < need)
        return -EBADMSG;
    if (len < V2_HEAD + body)
        return 0;
    /* LOCAL: the balancer itself, whatever the addresses say. */
    if (command == 1 && need) {
        if (put_address(need == 12 ? AF_INET : AF_INET6, at, ret) < 0)
            return -EBADMSG;
        at += need - 4;
        ret->port = (uint16_t)(at[0] << 8 | at[1]);
    }
    return (ssize_t)(V2_HEAD + body);
}

/* Whether the bytes, as far as there are any, are those. */
static bool begins(const uint8_t *data, size_t len, const void *with, size_t n)
{
    return memcmp(data, with, len < n ? len : n) == 0;
}

ssize_t proxy_header_parse(const uint8_t *data, size_t len, struct proxy_header *ret)
{
    *ret = (struct proxy_header){0};
    if (len == 0)
        return 0;
    if (begins(data, len, v2_signature, sizeof v2_signature))
        return parse_v2(data, len, ret);
    if (!begins(data, len, V1_BEGIN, strlen(V1_BEGIN)))
        return -EBADMSG;
    return len < strlen(V1_BEGIN) ? 0 : parse_v1(data, len, ret);
}
