// SPDX-License-Identifier: GPL-3.0-or-later

/* The names of database.host, looked up anew whenever a connection is lost: the database may have
 * moved. libpq is given addresses only, as it would look names up inside the loop. */

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "conf/conf.h"
#include "db/db-internal.h"
#include "ev/resolve.h"

bool names_any(const struct db_target *t)
{
    const char *at = NULL;
    char host[256], address[16];

    while (conf_list_next(t->host, &at, host, sizeof host))
        if (*host != '/' && inet_pton(AF_INET, host, address) != 1 &&
            inet_pton(AF_INET6, host, address) != 1)
            return true;
    return false;
}

static void finish(struct db *db)
{
    struct names *n = &db->names;

    if (!n->too_long && strcmp(n->found, db->target.hostaddr) != 0) {
        log_debug("database: %s is at %s now", db->target.host, n->found);
        memcpy(db->target.hostaddr, n->found, sizeof db->target.hostaddr);
    }
    n->host = NULL;
    if (n->waited_for && ev_timer_armed(db->retry))
        ev_timer_arm(db->retry, 0);
    n->waited_for = false;
}

static void add(struct names *n, const char *address)
{
    if (target_add(n->found, sizeof n->found, address) < 0)
        n->too_long = true;
}

static void look_up_next(struct db *db);

static void on_address(void *arg, struct addrinfo *list, const char *why)
{
    struct db *db = arg;
    struct names *n = &db->names;
    char address[INET6_ADDRSTRLEN];
    bool known = list && target_address(list, address, sizeof address) == 0;

    n->lookup = ev_resolve_free(n->lookup);
    if (!known)
        log_debug("database: a name of %s: %s", db->target.host, why ? why : "no address");
    add(n, known ? address : n->former);
    if (list)
        freeaddrinfo(list);
    look_up_next(db);
}

/* One after the other: there are as many addresses as hosts, in their order. */
static void look_up_next(struct db *db)
{
    struct names *n = &db->names;
    char host[256];

    while (conf_list_next(db->target.host, &n->host, host, sizeof host) &&
           conf_list_next(db->target.hostaddr, &n->address, n->former, sizeof n->former)) {
        if (ev_resolve_new(db->loop, host, NULL, on_address, db, &n->lookup) == 0)
            return;
        add(n, n->former);
    }
    finish(db);
}

void names_look_up(struct db *db)
{
    struct names *n = &db->names;

    if (!n->any || n->lookup)
        return;
    n->host = n->address = NULL;
    n->found[0] = 0;
    n->too_long = false;
    look_up_next(db);
}

bool names_wait(struct db *db)
{
    struct names *n = &db->names;

    if (!n->lookup || n->waited_for)
        return false;
    n->waited_for = true;
    return true;
}

void names_done(struct db *db)
{
    db->names.lookup = ev_resolve_free(db->names.lookup);
}
