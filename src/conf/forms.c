// SPDX-License-Identifier: GPL-3.0-or-later

/* The syntax of texts and lists that have one: what a row of the table names in the place of
 * choices. Knows of no setting. */

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/addrs.h"
#include "base/str.h"
#include "conf/conf-internal.h"

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define WORD_MAX 256

/* Whether s is 1 to max of these characters. */
static bool only(const char *s, const char *chars, size_t max)
{
    size_t n = strspn(s, chars);

    return n > 0 && n <= max && !s[n];
}

static bool is_port(const char *s)
{
    int64_t port;

    return str_to_i64(s, 1, 65535, &port) == 0;
}

static bool is_ip(const char *s)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, s, bytes) == 1 || inet_pton(AF_INET6, s, bytes) == 1;
}

static bool is_network(const char *s)
{
    struct addrs one = {.n = 0};

    return addrs_add(&one, s) == 0;
}

/* As the kernel's, of whom a VM's is one. */
static bool is_interface(const char *s)
{
    return only(s, LETTERS DIGITS "_.:@-", 15) && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

/* qvd-hkd asks for one, with words of its own. */
static bool is_bridge(const char *s)
{
    return !*s || is_interface(s);
}

static bool is_plugin(const char *s)
{
    return only(s, LETTERS DIGITS "_-", 63);
}

static bool is_netmask(const char *s)
{
    struct in_addr a;
    int64_t bits;

    if (str_to_i64(s, 1, 30, &bits) == 0)
        return true;
    if (inet_pton(AF_INET, s, &a) != 1)
        return false;
    uint32_t hosts = ~ntohl(a.s_addr);
    return hosts >= 3 && hosts != UINT32_MAX && !(hosts & (hosts + 1));
}

/* Three pairs; a group's is no station's. */
static bool is_mac_prefix(const char *s)
{
    for (size_t i = 0; i < 8; i++)
        if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
            return false;
    return !s[8] && strchr("02468aceACE", s[1]);
}

static bool is_domain(const char *s)
{
    return only(s, LETTERS DIGITS ".-", 253);
}

/* wire_l7r_link() is who reads it. */
static bool is_link(const char *s)
{
    static const char *const words[] = {"modem", "isdn", "adsl", "wan", "lan", "local"};
    size_t n = strspn(s, DIGITS);

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(s, words[i]) == 0)
            return true;
    return n > strspn(s, "0") && n <= 12 && (!s[n] || (strchr("kmKM", s[n]) && !s[n + 1]));
}

static bool is_umask(const char *s)
{
    return only(s, "01234567", 4) && (strlen(s) < 4 || *s == '0');
}

static bool is_keyboard(const char *s)
{
    return only(s, LETTERS DIGITS "_+.%/-", 128);
}

static bool is_locale(const char *s)
{
    return only(s, LETTERS DIGITS "_.@-", 64);
}

static bool is_path(const char *s)
{
    return *s == '/';
}

static bool is_own_path(const char *s)
{
    return *s == '/' || str_starts(s, "~/");
}

/* HOST:PORT, [IPv6]:PORT; the port may be missing where may says so. Fills host; what follows both,
 * or NULL. */
static const char *host_port(const char *s, bool may, char host[WORD_MAX])
{
    bool bracket = *s == '[';
    size_t n = bracket ? strcspn(++s, "]") : strcspn(s, ":/");
    char digits[8];

    if (n == 0 || strcspn(s, " \t\n@?#") < n || str_copy_n(host, WORD_MAX, s, n) < 0 ||
        (bracket && s[n++] != ']'))
        return NULL;
    s += n;
    if (*s != ':')
        return may ? s : NULL;
    n = strspn(++s, DIGITS);
    return str_copy_n(digits, sizeof digits, s, n) == 0 && is_port(digits) ? s + n : NULL;
}

static bool is_syslog(const char *s)
{
    char host[WORD_MAX];

    if (*s == '/')
        return true;
    if (str_starts(s, "tcp://") || str_starts(s, "udp://"))
        s += strlen("tcp://");
    const char *rest = host_port(s, false, host);
    return rest && !*rest;
}

static bool is_listening_url(const char *s)
{
    static const char https[] = "https://";
    char host[WORD_MAX];
    const char *rest = str_starts(s, https) ? host_port(s + strlen(https), true, host) : NULL;

    return rest && (!*rest || strcmp(rest, "/") == 0) && (strcmp(host, "*") == 0 || is_ip(host));
}

static const struct form {
    const char *name;
    bool (*fits)(const char *s); /* of a list: each word */
    bool list;
    const char *text;
} forms[] = {
    {"port",       is_port,          true,  "ports from 1 to 65535, separated by commas"               },
    {"addresses",  is_ip,            true,  "IP addresses, separated by commas"                        },
    {"networks",   is_network,       true,  "addresses or networks (192.0.2.0/24), separated by commas"},
    {"interface",  is_interface,     false, "the name of a network interface"                          },
    {"bridge",     is_bridge,        false, "the name of a network interface"                          },
    {"interfaces", is_interface,     true,  "names of network interfaces, separated by commas"         },
    {"plugins",    is_plugin,        true,  "names of plugins, separated by commas"                    },
    {"netmask",    is_netmask,       false, "a mask as 255.255.0.0 or a number of bits from 1 to 30"   },
    {"mac",        is_mac_prefix,    false, "three pairs of hexadecimal digits as 54:52:00"            },
    {"domain",     is_domain,        false, "a domain of letters, digits, dots and hyphens"            },
    {"link",       is_link,          false, "modem, isdn, adsl, wan, lan, local or a rate as 56k, 1m"  },
    {"umask",      is_umask,         false, "octal digits as 0022"                                     },
    {"keyboard",   is_keyboard,      false, "a keyboard as pc105/us"                                   },
    {"locale",     is_locale,        false, "a locale as C.UTF-8"                                      },
    {"path",       is_path,          false, "a path that begins with /"                                },
    {"own-path",   is_own_path,      false, "a path that begins with / or ~/"                          },
    {"syslog",     is_syslog,        false, "a socket's path, HOST:PORT or tcp://HOST:PORT"            },
    {"https",      is_listening_url, false, "https://ADDRESS:PORT/, the address in digits or a star"   },
};

static const struct form *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
        if (strcmp(forms[i].name, name) == 0)
            return &forms[i];
    return NULL;
}

const char *form_text(const char *name)
{
    const struct form *f = find(name);

    return f ? f->text : NULL;
}

bool form_fits(const char *name, const char *text)
{
    const struct form *f = find(name);
    const char *at = NULL;
    char word[WORD_MAX];
    size_t n = 0;

    if (!f || !f->list)
        return f && f->fits(text);
    for (; conf_list_next(text, &at, word, sizeof word); n++)
        if (!f->fits(word))
            return false;
    return n > 0;
}
