// SPDX-License-Identifier: GPL-3.0-or-later

/* Where the database is, from the settings. Names are resolved here, before there is a loop, and
 * later by names.c: libpq would do it with a blocking call at each connect. */

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "base/str.h"
#include "conf/conf.h"
#include "db/db-internal.h"

int target_add(char *dst, size_t size, const char *word)
{
    size_t n = strlen(dst);

    return str_format(dst + n, size - n, "%s%s", n ? "," : "", word);
}

int target_address(const struct addrinfo *list, char *dst, size_t size)
{
    return getnameinfo(list->ai_addr, list->ai_addrlen, dst, (socklen_t)size, NULL, 0,
                       NI_NUMERICHOST);
}

static int resolve(const char *host, char *dst, size_t size, struct qvd_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int r = getaddrinfo(host, NULL, &hints, &found);

    if (r == 0)
        r = target_address(found, dst, size);
    if (found)
        freeaddrinfo(found);
    if (r != 0)
        return qvd_error_set(err, -EHOSTUNREACH, "database.host = %s: %s", host, gai_strerror(r));
    return 0;
}

/* Fills host and hostaddr: as many of the one as of the other, none for unix sockets. */
static int set_hosts(const struct conf *c, struct db_target *t, struct qvd_error *err)
{
    const char *hosts = conf_str(c, "database.host"), *at = NULL;
    char host[256], address[64];
    int n = 0, sockets = 0;

    while (conf_list_next(hosts, &at, host, sizeof host)) {
        int r;

        n++;
        if (target_add(t->host, sizeof t->host, host) < 0)
            return qvd_error_set(err, -EINVAL, "database.host: too long");
        if (*host == '/') {
            sockets++;
            continue;
        }
        r = resolve(host, address, sizeof address, err);
        if (r < 0)
            return r;
        if (target_add(t->hostaddr, sizeof t->hostaddr, address) < 0)
            return qvd_error_set(err, -EINVAL, "database.host: too long");
    }
    if (n == 0)
        return qvd_error_set(err, -EINVAL, "database.host must be set");
    if (sockets > 0 && n > 1)
        return qvd_error_set(err, -EINVAL, "database.host: a folder stands alone");
    return 0;
}

static int set(char *dst, size_t size, const char *key, const char *value, struct qvd_error *err)
{
    if (str_copy(dst, size, value) < 0)
        return qvd_error_set(err, -EINVAL, "%s: longer than %zu bytes", key, size - 1);
    return 0;
}

int db_target_from_conf(const struct conf *c, const char *part, struct db_target *ret,
                        struct qvd_error *err)
{
    struct db_target t = {0};
    char key[64], role[64];
    int r = set_hosts(c, &t, err);

    (void)snprintf(key, sizeof key, "database.%s.password", part);
    (void)snprintf(role, sizeof role, "qvd_%s", part);
    if (r == 0)
        r = set(t.port, sizeof t.port, "database.port", conf_str(c, "database.port"), err);
    if (r == 0)
        r = set(t.name, sizeof t.name, "database.name", conf_str(c, "database.name"), err);
    if (r == 0)
        r = set(t.sslmode, sizeof t.sslmode, "database.sslmode", conf_str(c, "database.sslmode"),
                err);
    if (r == 0)
        r = set(t.sslrootcert, sizeof t.sslrootcert, "database.sslrootcert",
                conf_str(c, "database.sslrootcert"), err);
    if (r < 0)
        return r;
    if (*conf_str(c, "database.user")) {
        r = set(t.user, sizeof t.user, "database.user", conf_str(c, "database.user"), err);
        if (r == 0)
            r = set(t.password, sizeof t.password, "database.password",
                    conf_str(c, "database.password"), err);
    } else {
        r = set(t.user, sizeof t.user, "role", role, err);
        if (r == 0)
            r = set(t.password, sizeof t.password, key, conf_str(c, key), err);
    }
    if (r == 0)
        *ret = t;
    return r;
}
