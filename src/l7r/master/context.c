// SPDX-License-Identifier: GPL-3.0-or-later
/* What the children are told: certificate, keys and limits for workers, settings for the broker. */
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/master/master-internal.h"

#define REQUEST_MS 120000u

int context_new_ticket(struct master *m)
{
    memcpy(m->tickets[1], m->tickets[0], sizeof m->tickets[0]);
    return random_bytes(m->tickets[0], sizeof m->tickets[0]);
}

/* To a worker -----------------------------------------------------------------------------------
 */

static uint32_t setting_ms(const struct master *m, const char *key)
{
    return (uint32_t)conf_ms(m->conf, key);
}

/* A node's limit, divided among the workers. */
static uint32_t share(const struct master *m, const char *key)
{
    int64_t all = conf_int(m->conf, key), n = (int64_t)m->n_slots;

    return (uint32_t)((all + n - 1) / n);
}

static uint32_t at_most(uint32_t value, uint32_t max)
{
    return value < max ? value : max;
}

/* Cut it would name others than were meant. */
static const char *proxies(const struct master *m)
{
    const char *list = conf_str(m->conf, "l7r.trusted_proxies");

    if (strlen(list) <= L7R_PROXIES_MAX)
        return list;
    log_error("l7r.trusted_proxies is longer than %d bytes: no balancer is trusted",
              L7R_PROXIES_MAX);
    return "";
}

int context_send(struct master *m, struct proc *p)
{
    static char no_ciphers[] = "";
    static const struct tls_plan plain = {.ciphers = no_ciphers};
    const struct tls_plan *tls = m->use_ssl ? &m->plan : &plain;
    const struct pem *c = &tls->pem;
    const struct l7r_context x = {
        .slot = p->slot,
        .generation = p->generation,
        .cert_len = (uint32_t)c->len[PEM_CERT],
        .key_len = (uint32_t)c->len[PEM_KEY],
        .ca_len = (uint32_t)c->len[PEM_CA],
        .crl_len = (uint32_t)c->len[PEM_CRL],
        .handshake_ms = setting_ms(m, "l7r.limit.handshake"),
        .head_ms = setting_ms(m, "l7r.limit.head"),
        .unauth_ms = setting_ms(m, "l7r.limit.unauthenticated"),
        .idle_ms = setting_ms(m, "l7r.limit.idle"),
        .send_ms = setting_ms(m, "l7r.limit.send"),
        .half_close_ms = setting_ms(m, "l7r.relay.half_close"),
        .head_max = (uint32_t)conf_int(m->conf, "l7r.limit.head.size"),
        .progress_ms = setting_ms(m, "l7r.progress.interval"),
 /* More than all steps of the longest way together. */
        .request_ms = setting_ms(m, "l7r.timeout.vm_start") + setting_ms(m, "l7r.timeout.vm_stop") +
                      setting_ms(m, "l7r.timeout.x_start") + REQUEST_MS,
        .per_source = (uint32_t)conf_int(m->conf, "l7r.limit.connections.per_source"),
        .unauth = share(m, "l7r.limit.connections.unauthenticated"),
        .connections = at_most(share(m, "l7r.limit.connections"), 1000000),
        .log_level = (uint32_t)log_get_level(),
        .min_version = tls->v13 ? "TLSv1.3" : "TLSv1.2",
        .ciphers = tls->ciphers,
        .proxies = proxies(m),
        .ticket_keys = {m->tickets, sizeof m->tickets},
    };
    const struct ipc_bytes parts[PEM_PARTS] = {
        {c->text[PEM_CERT], c->len[PEM_CERT]},
        {c->text[PEM_KEY],  c->len[PEM_KEY] },
        {c->text[PEM_CA],   c->len[PEM_CA]  },
        {c->text[PEM_CRL],  c->len[PEM_CRL] }
    };
    _cleanup_(close_p) int fd = l7r_memory_new(parts, PEM_PARTS);

    return fd < 0 ? fd : ipc_send(p->channel, &l7r_context_msg, &x, fd);
}

/* To and from the broker ------------------------------------------------------------------------
 */

/* What concerns it; other programs' passwords do not. */
static bool for_broker(const struct conf_key *k)
{
    static const char *const names[] = {
        "log.level",
        "database.host",
        "database.port",
        "database.name",
        "database.user",
        "database.password",
        "database.l7r.password",
        "database.sslmode",
        "database.sslrootcert",
        "l7r.auth.remember",
        "l7r.auth.token.expiration",
    };

    if (k->type == CONF_OBSOLETE || str_ends(k->key, ".*"))
        return false;
    if (str_starts(k->key, "l7r.") && !str_starts(k->key, "l7r.auth."))
        return true;
    if (str_starts(k->key, "l7r.auth.env."))
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(k->key, names[i]) == 0)
            return true;
    return false;
}

static must_check int settings_text(const struct master *m, struct buf *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        if (for_broker(&keys[i]) && conf_is_set(m->conf, keys[i].key))
            r = buf_printf(out, "%s = %s\n", keys[i].key, conf_str(m->conf, keys[i].key));
    return r;
}

int context_send_broker(struct master *m)
{
    struct buf text;
    struct l7r_broker_context x = {.nodename = conf_str(m->conf, "nodename"),
                                   .instance = m->instance,
                                   .log_level = (uint32_t)log_get_level()};

    buf_init(&text, L7R_SETTINGS_MAX);
    int r = settings_text(m, &text);
    x.settings_len = (uint32_t)text.len;
    _cleanup_(close_p) int fd = r;
    const struct ipc_bytes all = {text.data, text.len};

    if (r == 0)
        fd = l7r_memory_new(&all, 1);
    if (text.len)
        explicit_bzero(text.data, text.len);
    buf_done(&text);
    return fd < 0 ? fd : ipc_send(m->broker, &l7r_broker_context_msg, &x, fd);
}

int context_take_settings(struct master *m, const struct l7r_settings *s, int fd)
{
    _cleanup_(free_p) char *text = NULL;
    int r = l7r_memory_read(fd, s->len, L7R_SETTINGS_MAX, &text);
    size_t nuls = 0, n = 0;

    if (r < 0)
        return r;
    for (size_t i = 0; i < s->len; i++)
        nuls += text[i] == 0;
    if (nuls % 2 != 0 || (s->len && text[s->len - 1] != 0))
        return -EBADMSG;
    _cleanup_(free_p) struct conf_row *rows = calloc(nuls / 2 + 1, sizeof *rows);
    if (!rows)
        return -ENOMEM;
    for (const char *at = text; at < text + s->len; n++) {
        rows[n] = (struct conf_row){.tenant = -1, .key = at, .value = at + strlen(at) + 1};
        at = rows[n].value + strlen(rows[n].value) + 1;
    }
    return conf_set_rows(m->conf, rows, n);
}
