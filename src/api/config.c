// SPDX-License-Identifier: GPL-3.0-or-later
/* Settings: those of the table that may stand in the database, and custom ones. */
#include <string.h>

#include "api/api-internal.h"
#include "base/log.h"
#include "base/str.h"
#include "store/admin-config.h"
#include "store/config.h"

#define ALL_TENANTS (-1)

/* ?tenant=NAME, then q->tenant and then(). Without: all tenants (superadministrators), or one's
 * own. */
static void on_tenant(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_answer_error(q, done->status, &done->err);
        return;
    }
    q->tenant = done->id;
    q->then(q);
}

static void tenant_then(struct api_request *q, void (*then)(struct api_request *q))
{
    const char *name = http_target_get(q->target, "tenant");
    struct qvd_error err;

    q->then = then;
    if (q->who.tenant_id != 0) {
        q->tenant = q->who.tenant_id;
        then(q);
    } else if (!name || !*name) {
        q->tenant = ALL_TENANTS;
        then(q);
    } else {
        (void)api_began(q, store_admin_tenant(q->api->db, name, on_tenant, q, &err), &err);
    }
}

static bool hidden(const char *key)
{
    return str_starts(key, "internal.") || str_starts(key, "database.");
}

static bool wanted(const struct api_request *q, const char *key)
{
    const char *keys = http_target_get(q->target, "key"), *at = NULL;
    char word[256];

    if (!keys || !*keys)
        return !hidden(key);
    while (conf_list_next(keys, &at, word, sizeof word))
        if (strcmp(word, key) == 0)
            return true;
    return false;
}

static must_check int add_row(json_t *rows, const struct conf_key *k, const char *key,
                              const char *value, bool set)
{
    bool secret = k && k->type == CONF_SECRET;

    return json_array_append_new(
        rows, json_pack("{s:s,s:s,s:s?,s:b,s:s,s:s,s:s,s:s}", "key", key, "value",
                        secret && *value ? "***" : value, "default", k && !secret ? k->def : NULL,
                        "is_set", set, "type", k ? conf_type_name(k->type) : "custom", "scope",
                        k ? conf_scope_name(k->scope) : "tenant", "change",
                        k ? conf_when_name(k->when) : "live", "text", k ? k->text : ""));
}

/* The database's value of a key, NULL: none. */
static const char *row_value(const struct admin_list *list, const char *key)
{
    for (int i = 0; i < list->n_rows; i++)
        if (strcmp(db_str(list->rows, i, 0), key) == 0)
            return db_str(list->rows, i, 1);
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    json_t *const *x = a, *const *y = b;

    return strcmp(json_string_value(json_object_get(*x, "key")),
                  json_string_value(json_object_get(*y, "key")));
}

static must_check json_t *sorted(json_t *rows)
{
    size_t n = json_array_size(rows);
    _cleanup_(free_p) json_t **all = calloc(n + 1, sizeof *all);
    json_t *out = json_array();

    for (size_t i = 0; all && i < n; i++)
        all[i] = json_array_get(rows, i);
    if (all)
        qsort(all, n, sizeof(json_t *), by_key);
    for (size_t i = 0; all && i < n; i++)
        if (json_array_append(out, all[i]) < 0)
            break;
    json_decref(rows);
    return out;
}

static void on_rows(void *arg, const struct admin_list *list)
{
    struct api_request *q = arg;
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    json_t *rows = json_array();
    int r = 0;

    if (list->status != ADMIN_OK) {
        json_decref(rows);
        api_answer_error(q, list->status, &list->err);
        return;
    }
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct conf_key *k = &keys[i];
        bool tenants = q->tenant != ALL_TENANTS;
        if (k->scope == CONF_FILE || k->type == CONF_OBSOLETE || str_ends(k->key, "*") ||
            (tenants && k->scope != CONF_TENANT) || !wanted(q, k->key))
            continue;
        const char *value = row_value(list, k->key);
        r = add_row(rows, k, k->key,
                    value     ? value
                    : tenants ? conf_tenant_str(q->api->conf, q->tenant, k->key)
                              : conf_str(q->api->conf, k->key),
                    value);
    }
    for (int i = 0; r == 0 && i < list->n_rows; i++) {
        const char *key = db_str(list->rows, i, 0);
        const struct conf_key *k = conf_find(key);
        if ((!k || str_ends(k->key, "*")) && wanted(q, key))
            r = add_row(rows, k, key, db_str(list->rows, i, 1), true);
    }
    rows = sorted(rows);
    api_answer_json(
        q, 200, json_pack("{s:I,s:o}", "total", (json_int_t)json_array_size(rows), "rows", rows));
}

static void list_now(struct api_request *q)
{
    struct qvd_error err;

    (void)api_began(q, store_admin_config_list(q->api->db, q->tenant, on_rows, q, &err), &err);
}

void api_config_list(struct api_request *q)
{
    tenant_then(q, list_now);
}

/* Setting and taking away. */

/* Which programs a restart means. */
static const char *programs_of(const struct conf_key *k)
{
    if (str_starts(k->key, "l7r.") || str_starts(k->key, "path.l7r."))
        return "qvd-l7r on each node";
    if (str_starts(k->key, "api.") || str_starts(k->key, "path.api."))
        return "qvd-api";
    return "qvd-hkd on each node";
}

/* What the administrator should know of a change: "note" when it is in force, "warning" what is odd
 * about the key. */
static void add_words(json_t *out, const char *key, const struct conf_key *k, bool set)
{
    const char *near = k || !set ? NULL : conf_nearest(key);
    char text[400] = "", note[200] = "";

    if (k && k->type >= CONF_OBSOLETE)
        snprintf(text, sizeof text, "%.150s %s%s", key, conf_idle_note(k),
                 k->type == CONF_OBSOLETE ? k->text : "");
    else if (!k && set)
        snprintf(text, sizeof text, "%.150s is no setting of QVD and kept as a custom one%s%s%s",
                 key, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    else if (k && k->when == CONF_RESTART)
        snprintf(note, sizeof note, "%.100s: in force after a restart of %s", key, programs_of(k));
    else if (k && k->when == CONF_RELOAD && k->type == CONF_PATH)
        snprintf(note, sizeof note,
                 "%.100s: the file is read when the program is reloaded (SIGHUP)", key);
    if (*text)
        (void)!json_object_set_new(out, "warning", json_string(text));
    if (*note)
        (void)!json_object_set_new(out, "note", json_string(note));
}

/* The change is in use here too, so that a list that follows shows it. */
static void on_reloaded(void *arg, int r, const struct qvd_error *err)
{
    struct api_request *q = arg;
    const char *key = q->path[1];
    const struct conf_key *k = conf_find(key);
    json_t *out = json_pack("{s:s,s:I}", "key", key, "changed", (json_int_t)q->id);

    if (r < 0)
        log_warning("settings not read from the database, ignoring: %s", err->text);
    log_info("[admin:%lld %s@%s] config %s %s", (long long)q->who.id, q->admin_name,
             q->admin_tenant, key, q->body ? "set" : "deleted");
    if (out && k)
        (void)!json_object_set_new(out, "change", json_string(conf_when_name(k->when)));
    if (out)
        add_words(out, key, k, q->body);
    api_answer_json(q, 200, out);
}

static void on_changed(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_answer_error(q, done->status, &done->err);
        return;
    }
    q->id = done->id;
    if (!store_config_load(q->api->db, q->api->conf, on_reloaded, q))
        on_reloaded(q, 0, NULL);
}

static enum admin_status check_setting(const struct api_request *q, const char *value,
                                       struct qvd_error *err)
{
    const char *key = q->path[1];
    const struct conf_key *k = conf_find(key);

    if (k && k->type == CONF_OBSOLETE && value)
        return ADMIN_OK;
    if (hidden(key) || (k && k->scope == CONF_FILE)) {
        qvd_error_set(err, ADMIN_INVALID,
                      "%s belongs in the settings file (/etc/qvd/node.conf), not in the database",
                      key);
        return ADMIN_INVALID;
    }
    if (k && q->tenant != ALL_TENANTS && k->scope != CONF_TENANT) {
        qvd_error_set(err, ADMIN_FORBIDDEN,
                      "%s is one for the whole farm: superadministrators set it"
                      " without a tenant",
                      key);
        return ADMIN_FORBIDDEN;
    }
    if (!k && q->who.tenant_id != 0) {
        qvd_error_set(err, ADMIN_FORBIDDEN, "%s is no setting of a tenant", key);
        return ADMIN_FORBIDDEN;
    }
    return k && value && conf_check(k, value, err) < 0 ? ADMIN_INVALID : ADMIN_OK;
}

static void set_now(struct api_request *q)
{
    const struct conf_key *k = conf_find(q->path[1]);
    const char *value = NULL;
    struct qvd_error err;
    enum admin_status st = q->body ? api_member(q, "value", true, &value, &err) : ADMIN_OK;

    if (st == ADMIN_OK && value && !utf8_valid(value, strlen(value))) {
        qvd_error_set(&err, ADMIN_INVALID, "value: UTF-8 expected");
        st = ADMIN_INVALID;
    }
    if (st == ADMIN_OK)
        st = check_setting(q, value, &err);
    if (st == ADMIN_OK && value && k && k->type == CONF_OBSOLETE) {
        /* Taken, as the original's manual has it typed; nothing is kept. */
        json_t *out = json_pack("{s:s,s:i}", "key", q->path[1], "changed", 0);
        if (out)
            add_words(out, q->path[1], k, true);
        api_answer_json(q, 200, out);
        return;
    }
    if (st == ADMIN_OK)
        st = store_admin_config_set(q->api->db, q->tenant, q->path[1], value, on_changed, q, &err);
    (void)api_began(q, st, &err);
}

void api_config_set(struct api_request *q)
{
    if (q->body)
        tenant_then(q, set_now);
    else
        api_answer_text_error(q, 400, "bad-request", "{value} expected");
}

void api_config_delete(struct api_request *q)
{
    json_decref(q->body);
    q->body = NULL;
    tenant_then(q, set_now);
}

static void on_ssl(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_answer_error(q, done->status, &done->err);
        return;
    }
    log_info("[admin:%lld %s@%s] certificate and key of the L7Rs set", (long long)q->who.id,
             q->admin_name, q->admin_tenant);
    api_answer_json(q, 200, json_object());
}

void api_config_ssl(struct api_request *q)
{
    const char *cert, *key, *ca, *crl;
    struct qvd_error err;
    struct tls_context *tls;
    enum admin_status st = api_member(q, "cert", true, &cert, &err);

    if (q->who.tenant_id != 0) {
        api_answer_text_error(q, 403, "forbidden", "only superadministrators may");
        return;
    }
    if (st == ADMIN_OK)
        st = api_member(q, "key", true, &key, &err);
    if (st == ADMIN_OK)
        st = api_member(q, "ca", false, &ca, &err);
    if (st == ADMIN_OK)
        st = api_member(q, "crl", false, &crl, &err);
    if (st == ADMIN_OK) {
        const struct tls_server_spec spec = {.cert_pem = cert,
                                             .cert_len = strlen(cert),
                                             .key_pem = key,
                                             .key_len = strlen(key),
                                             .client_ca_pem = ca && *ca ? ca : NULL,
                                             .crl_pem = crl && *crl ? crl : NULL};
        if (tls_server_new(&spec, &tls, &err) < 0)
            st = ADMIN_INVALID;
        else
            tls_context_unref(tls);
    }
    if (st == ADMIN_OK)
        st = store_admin_config_ssl(q->api->db, cert, key, ca && *ca ? ca : NULL,
                                    crl && *crl ? crl : NULL, on_ssl, q, &err);
    (void)api_began(q, st, &err);
}
