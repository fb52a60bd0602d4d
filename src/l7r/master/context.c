// SPDX-License-Identifier: GPL-3.0-or-later
/* What the children are told: certificate, keys and limits for workers, settings for the broker. */
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/master/master-internal.h"

#define REQUEST_MS 120000u

void pem_done(struct pem *p)
{
    if (p->key)
        explicit_bzero(p->key, p->key_len);
    free(p->key);
    free(p->cert);
    *p = (struct pem){0};
}

/* The certificate -------------------------------------------------------------------------------
 */

int context_read_files(struct master *m, struct qvd_error *err)
{
    struct pem p = {0};
    const char *cert = conf_str(m->conf, "path.l7r.ssl.cert");
    const char *key = conf_str(m->conf, "path.l7r.ssl.key");
    int r = fs_read(cert, L7R_CERTIFICATE_MAX, &p.cert, &p.cert_len);

    if (r == -ENOENT) {
        pem_done(&m->files);
        return 0;
    }
    if (r < 0)
        return qvd_error_errno(err, r, "path.l7r.ssl.cert = %s", cert);
    r = fs_read(key, L7R_CERTIFICATE_MAX, &p.key, &p.key_len);
    if (r < 0) {
        pem_done(&p);
        return qvd_error_errno(err, r, "path.l7r.ssl.key = %s", key);
    }
    pem_done(&m->files);
    m->files = p;
    return 0;
}

static const struct pem *certificate(const struct master *m)
{
    return m->database.cert_len && m->database.key_len ? &m->database : &m->files;
}

bool context_has_certificate(const struct master *m)
{
    return !conf_bool(m->conf, "l7r.use_ssl") ||
           (certificate(m)->cert_len && certificate(m)->key_len);
}

int context_take_certificate(struct master *m, const struct l7r_certificate *c, int fd)
{
    char *all = NULL;
    size_t len = (size_t)c->cert_len + c->key_len;
    struct pem p = {.cert_len = c->cert_len, .key_len = c->key_len};
    int r = l7r_memory_read(fd, len, 2 * L7R_CERTIFICATE_MAX, &all);

    if (r < 0)
        return r;
    bool same = p.cert_len == m->database.cert_len && p.key_len == m->database.key_len &&
                (!p.cert_len || memcmp(all, m->database.cert, p.cert_len) == 0) &&
                (!p.key_len || memcmp(all + p.cert_len, m->database.key, p.key_len) == 0);
    p.cert = same ? NULL : strndup(all, p.cert_len);
    p.key = same ? NULL : strndup(all + p.cert_len, p.key_len);
    explicit_bzero(all, len);
    free(all);
    if (same)
        return 0;
    if (!p.cert || !p.key) {
        pem_done(&p);
        return -ENOMEM;
    }
    pem_done(&m->database);
    m->database = p;
    return 1;
}

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

int context_send(struct master *m, struct proc *p)
{
    static char nothing[1];
    static const struct pem none = {.cert = nothing, .key = nothing};
    const struct pem *c = conf_bool(m->conf, "l7r.use_ssl") ? certificate(m) : &none;
    bool v13 = strcmp(conf_str(m->conf, "l7r.ssl.version.min"), "1.3") == 0;
    const struct l7r_context x = {
        .slot = p->slot,
        .generation = p->generation,
        .cert_len = (uint32_t)c->cert_len,
        .key_len = (uint32_t)c->key_len,
        .handshake_ms = setting_ms(m, "l7r.limit.handshake"),
        .head_ms = setting_ms(m, "l7r.limit.head"),
        .unauth_ms = setting_ms(m, "l7r.limit.unauthenticated"),
        .idle_ms = setting_ms(m, "l7r.limit.idle"),
        .send_ms = setting_ms(m, "l7r.limit.send"),
        .half_close_ms = setting_ms(m, "l7r.relay.half_close"),
        .progress_ms = setting_ms(m, "l7r.progress.interval"),
 /* More than all steps of the longest way together. */
        .request_ms = setting_ms(m, "l7r.timeout.vm_start") + setting_ms(m, "l7r.timeout.vm_stop") +
                      setting_ms(m, "l7r.timeout.x_start") + REQUEST_MS,
        .per_source = (uint32_t)conf_int(m->conf, "l7r.limit.connections.per_source"),
        .unauth = share(m, "l7r.limit.connections.unauthenticated"),
        .connections = at_most(share(m, "l7r.limit.connections"), 1000000),
        .log_level = (uint32_t)log_get_level(),
        .min_version = v13 ? "TLSv1.3" : "TLSv1.2",
        .ciphers = conf_str(m->conf, "l7r.ssl.ciphers"),
        .ticket_keys = {m->tickets, sizeof m->tickets},
    };
    _cleanup_(close_p) int fd = l7r_memory_new(c->cert, c->cert_len, c->key, c->key_len);

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
    };

    if (k->type == CONF_OBSOLETE || str_ends(k->key, ".*"))
        return false;
    if (str_starts(k->key, "l7r.") && !str_starts(k->key, "l7r.auth."))
        return true;
    if (strcmp(k->key, "l7r.auth.token.expiration") == 0)
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
    _cleanup_(close_p) int fd = r < 0 ? r : l7r_memory_new(text.data, text.len, NULL, 0);
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
