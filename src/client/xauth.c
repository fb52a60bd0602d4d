// SPDX-License-Identifier: GPL-3.0-or-later
#include "client/xauth.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define NAME "MIT-MAGIC-COOKIE-1"
#define FAMILY_LOCAL 256
#define FAMILY_WILD 65535
#define FAMILY_IPV4 0
#define FAMILY_IPV6 6

int x_display_parse(const char *name, struct x_display *ret)
{
    const char *colon = strrchr(name, ':'), *host = name;
    char number[16];
    uint64_t value;

    if (!colon)
        return -EINVAL;
    size_t host_len = colon - name, digits = strcspn(colon + 1, ".");
    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    }
    if (host_len == 4 && strncmp(host, "unix", 4) == 0)
        host_len = 0;
    if (memchr(host, '/', host_len) ||
        str_copy_n(ret->host, sizeof ret->host, host, host_len) < 0 ||
        str_copy_n(number, sizeof number, colon + 1, digits) < 0 ||
        str_to_u64(number, 59535, &value) < 0)
        return -EINVAL;
    ret->number = value;
    return 0;
}

struct field {
    const uint8_t *data;
    size_t len;
};

static bool take_u16(const uint8_t **at, const uint8_t *end, unsigned *ret)
{
    if (end - *at < 2)
        return false;
    *ret = (*at)[0] << 8 | (*at)[1];
    *at += 2;
    return true;
}

static bool take_field(const uint8_t **at, const uint8_t *end, struct field *ret)
{
    unsigned len;

    if (!take_u16(at, end, &len) || (size_t)(end - *at) < len)
        return false;
    *ret = (struct field){*at, len};
    *at += len;
    return true;
}

static bool equals(const struct field *f, const char *s)
{
    return f->len == strlen(s) && memcmp(f->data, s, f->len) == 0;
}

static bool address_matches(unsigned family, const struct field *address,
                            const struct x_display *display, const char *hostname)
{
    uint8_t bytes[16];
    bool local = !display->host[0] || strcasecmp(display->host, "localhost") == 0 ||
                 strcasecmp(display->host, hostname) == 0;

    switch (family) {
    case FAMILY_WILD:
        return true;
    case FAMILY_LOCAL:
        return local && equals(address, hostname);
    case FAMILY_IPV4:
        return inet_pton(AF_INET, display->host, bytes) == 1 && address->len == 4 &&
               memcmp(address->data, bytes, 4) == 0;
    case FAMILY_IPV6:
        return inet_pton(AF_INET6, display->host, bytes) == 1 && address->len == 16 &&
               memcmp(address->data, bytes, 16) == 0;
    default:
        return false;
    }
}

bool x_cookie_find(const uint8_t *file, size_t len, const struct x_display *display,
                   const char *hostname, uint8_t ret_cookie[X_COOKIE_LEN])
{
    const uint8_t *at = file, *end = file + len;
    struct field address, number, name, data;
    char wanted[16];
    unsigned family;

    snprintf(wanted, sizeof wanted, "%u", display->number);
    while (take_u16(&at, end, &family) && take_field(&at, end, &address) &&
           take_field(&at, end, &number) && take_field(&at, end, &name) &&
           take_field(&at, end, &data)) {
        if (equals(&name, NAME) && data.len == X_COOKIE_LEN &&
            (number.len == 0 || equals(&number, wanted)) &&
            address_matches(family, &address, display, hostname)) {
            memcpy(ret_cookie, data.data, X_COOKIE_LEN);
            return true;
        }
    }
    return false;
}

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

static void put_u16(char order, uint8_t *dst, unsigned value)
{
    dst[order == 'B'] = value & 0xff;
    dst[order != 'B'] = value >> 8;
}

static unsigned get_u16(char order, const uint8_t *src)
{
    return order == 'B' ? src[0] << 8 | src[1] : src[1] << 8 | src[0];
}

/* X11 protocol, "Connection Setup": order, pad, major, minor, lengths of name and data, pad. */
size_t x_setup_make(char order, const uint8_t *cookie, uint8_t *dst)
{
    size_t name = cookie ? strlen(NAME) : 0, data = cookie ? X_COOKIE_LEN : 0;

    memset(dst, 0, 12 + padded(name) + padded(data));
    dst[0] = order;
    put_u16(order, dst + 2, 11);
    put_u16(order, dst + 6, name);
    put_u16(order, dst + 8, data);
    if (cookie) {
        memcpy(dst + 12, NAME, name);
        memcpy(dst + 12 + padded(name), cookie, data);
    }
    return 12 + padded(name) + padded(data);
}

ssize_t x_setup_length(const uint8_t *data, size_t len)
{
    if (len >= 1 && data[0] != 'l' && data[0] != 'B')
        return -EBADMSG;
    if (len < 12)
        return 0;
    size_t all = 12 + padded(get_u16(data[0], data + 6)) + padded(get_u16(data[0], data + 8));
    if (all > X_SETUP_MAX)
        return -EBADMSG;
    return len < all ? 0 : (ssize_t)all;
}
