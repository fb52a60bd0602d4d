// SPDX-License-Identifier: GPL-3.0-or-later
/* What all resources have in common: list, show, create, edit, delete, block. Everything about
 * fields stands in store's tables. */
#include <string.h>

#include "api/api-internal.h"
#include "base/log.h"
#include "base/str.h"
#include "store/store.h"

#define ANSWER_MAX (64u << 20)

static void on_list(void *arg, const struct admin_list *list)
{
    struct api_request *q = arg;
    _cleanup_(buf_done_p) struct buf out = {0};
    int r;

    buf_init(&out, ANSWER_MAX);
    if (list->status != ADMIN_OK) {
        api_answer_error(q, list->status, &list->err);
        return;
    }
    r = buf_printf(&out, "{\"total\":%lld,\"rows\":[", (long long)list->total);
    for (int i = 0; r == 0 && i < list->n_rows; i++) {
        r = i ? buf_append(&out, ",", 1) : 0;
        if (r == 0)
            r = buf_append(&out, db_str(list->rows, i, 1), db_len(list->rows, i, 1));
    }
    if (r == 0)
        r = buf_append_str(&out, "]}");
    if (r < 0)
        api_answer_text_error(q, 503, "unavailable", "the list is too long; ask for less of it");
    else
        api_answer_raw(q, 200, (const char *)out.data, out.len);
}

static enum admin_status number_param(const struct api_request *q, const char *name, int64_t max,
                                      int64_t *value, struct qvd_error *err)
{
    const char *text = http_target_get(q->target, name);

    if (text && str_to_i64(text, 0, INT64_MAX, value) < 0) {
        qvd_error_set(err, ADMIN_BAD, "%s = %.40s: a number expected", name, text);
        return ADMIN_BAD;
    }
    if (max && *value > max)
        *value = max;
    return ADMIN_OK;
}

void api_list(struct api_request *q)
{
    int64_t rows = conf_int(q->api->conf, "api.limit.rows");
    struct admin_query ask = {.fields = http_target_get(q->target, "fields"),
                              .sort = http_target_get(q->target, "sort"),
                              .limit = rows};
    const char *filter = http_target_get(q->target, "filter");
    struct qvd_error err;
    enum admin_status st = number_param(q, "limit", rows, &ask.limit, &err);

    if (st == ADMIN_OK)
        st = number_param(q, "offset", 0, &ask.offset, &err);
    if (st == ADMIN_OK && filter && filter_parse(filter, &q->filter, &err) < 0)
        st = ADMIN_BAD;
    ask.filter = q->filter;
    if (st == ADMIN_OK)
        st = store_admin_list(q->api->db, q->resource, &q->who, &ask, on_list, q, &err);
    (void)api_began(q, st, &err);
}

static void on_show(void *arg, const struct admin_list *list)
{
    struct api_request *q = arg;
    struct qvd_error err;

    if (list->status != ADMIN_OK) {
        api_answer_error(q, list->status, &list->err);
    } else if (list->n_rows == 0) {
        qvd_error_set(&err, 0, "there is no %s %lld", q->resource->name, (long long)q->id);
        api_answer_error(q, ADMIN_NOT_FOUND, &err);
    } else {
        api_answer_raw(q, 200, db_str(list->rows, 0, 1), db_len(list->rows, 0, 1));
    }
}

void api_show(struct api_request *q)
{
    const struct admin_query ask = {
        .fields = http_target_get(q->target, "fields"), .id = q->id, .limit = 1};
    struct qvd_error err;

    (void)api_began(q, store_admin_list(q->api->db, q->resource, &q->who, &ask, on_show, q, &err),
                    &err);
}

/* A password among the values is hashed first; then q->then goes on. */

static void on_hash(void *arg, const struct auth_answer *a)
{
    struct api_request *q = arg;

    if (a->status != AUTH_OK) {
        api_answer_text_error(q, 503, "unavailable",
                              "the password cannot be hashed now; try again");
        return;
    }
    q->hash = strdup(a->hashed.hash);
    for (size_t i = 0; i < q->n_values; i++)
        if (q->values[i].field->type == ADMIN_SECRET)
            q->values[i].text = q->hash;
    if (q->hash)
        q->then(q);
    else
        api_answer_text_error(q, 503, "unavailable", "out of memory");
}

static void hash_then(struct api_request *q, void (*then)(struct api_request *q))
{
    q->then = then;
    for (size_t i = 0; i < q->n_values; i++) {
        if (q->values[i].field->type != ADMIN_SECRET || !q->values[i].text)
            continue;
        if (!auth_client_hash(q->api->auth, (struct auth_hash){.password = q->values[i].text},
                              on_hash, q))
            api_answer_text_error(q, 503, "unavailable", "out of memory");
        return;
    }
    then(q);
}

/* What waits elsewhere for news of such an object. */
static void tell_others(const struct api_request *q, int64_t id)
{
    store_tell_api(q->api->db, q->resource->name, id);
    if (q->resource == &admin_host)
        db_notify_id(q->api->db, STORE_CHANNEL_HOSTS, "host", id);
}

static void on_created(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_log(q, "create", 0, done->err.text);
        api_answer_error(q, done->status, &done->err);
        return;
    }
    tell_others(q, done->id);
    api_log(q, "create", done->id, "done");
    api_answer_id(q, 201, done->id);
}

static void create_now(struct api_request *q)
{
    struct db_param extra[3];
    struct qvd_error err;
    bool has_extra = false;
    enum admin_status st =
        q->resource == &admin_vm ? api_vm_address(q, extra, &has_extra, &err) : ADMIN_OK;

    if (st == ADMIN_OK)
        st = store_admin_create(q->api->db, q->resource, &q->who, q->tenant, q->values, q->n_values,
                                has_extra ? extra : NULL, on_created, q, &err);
    (void)api_began(q, st, &err);
}

/* What is not told, as the tenant's settings have it. */
static void add_default(struct api_request *q, const char *field, const char *setting)
{
    if (!json_object_get(q->body, field) && q->n_values < API_VALUES_MAX)
        q->values[q->n_values++] =
            (struct admin_value){admin_field_find(q->resource, field),
                                 conf_tenant_str(q->api->conf, q->tenant, setting)};
}

static void create_in_tenant(struct api_request *q)
{
    if (q->resource == &admin_osf) {
        add_default(q, "memory", "osf.default.memory");
        add_default(q, "use_overlay", "osf.default.overlay");
    }
    if (q->resource == &admin_di)
        api_di_create(q);
    else
        hash_then(q, create_now);
}

static void on_tenant(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_answer_error(q, done->status, &done->err);
        return;
    }
    q->tenant = done->id;
    create_in_tenant(q);
}

/* An OSF of one's installation runs on its hypervisor. */
static void add_hypervisor(struct api_request *q)
{
    const struct admin_field *f = admin_field_find(q->resource, "hypervisor");

    if (q->resource == &admin_osf && !json_object_get(q->body, "hypervisor") &&
        q->n_values < API_VALUES_MAX)
        q->values[q->n_values++] = (struct admin_value){f, conf_str(q->api->conf, "vm.hypervisor")};
}

static must_check enum admin_status needs(const struct api_request *q, const char *a, const char *b,
                                          struct qvd_error *err)
{
    if (json_object_get(q->body, a) || json_object_get(q->body, b))
        return ADMIN_OK;
    qvd_error_set(err, ADMIN_INVALID, "%s needs %s (or %s)", q->resource->name, a, b);
    return ADMIN_INVALID;
}

void api_create(struct api_request *q)
{
    const char *tenant = NULL;
    struct qvd_error err;
    enum admin_status st;

    if (!q->body) {
        api_answer_text_error(q, 400, "bad-request", "a JSON object with the fields expected");
        return;
    }
    st = api_values(q, 'c', &err);
    if (st == ADMIN_OK && (q->resource == &admin_vm || q->resource == &admin_di))
        st = needs(q, "osf", "osf_id", &err);
    if (st == ADMIN_OK && q->resource == &admin_vm)
        st = needs(q, "user", "user_id", &err);
    if (st == ADMIN_OK)
        st = api_member(q, "tenant", false, &tenant, &err);
    if (!api_began(q, st, &err))
        return;
    add_hypervisor(q);
    if (q->who.tenant_id != 0) {
        q->tenant = q->who.tenant_id;
        if (tenant && strcmp(tenant, q->admin_tenant) != 0)
            api_answer_text_error(q, 403, "forbidden",
                                  "only superadministrators may name another tenant");
        else
            create_in_tenant(q);
        return;
    }
    const char *name =
        tenant && *tenant ? tenant : conf_str(q->api->conf, "l7r.auth.plugin.default.tenant");
    (void)api_began(q, store_admin_tenant(q->api->db, name, on_tenant, q, &err), &err);
}

static void on_edited(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status == ADMIN_OK)
        tell_others(q, done->id);
    api_answer_done(q, done);
}

static void edit_now(struct api_request *q)
{
    struct qvd_error err;

    (void)api_began(q,
                    store_admin_edit(q->api->db, q->resource, &q->who, q->id, q->values,
                                     q->n_values, on_edited, q, &err),
                    &err);
}

void api_edit(struct api_request *q)
{
    struct qvd_error err;
    enum admin_status st = api_values(q, 'e', &err);

    if (st == ADMIN_OK && q->n_values == 0) {
        qvd_error_set(&err, ADMIN_BAD, "nothing to change: give at least one field");
        st = ADMIN_BAD;
    }
    if (api_began(q, st, &err))
        hash_then(q, edit_now);
}

static void on_deleted(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status == ADMIN_OK)
        tell_others(q, done->id);
    api_answer_done(q, done);
}

void api_delete(struct api_request *q)
{
    struct qvd_error err;

    if (q->resource == &admin_di)
        api_di_delete(q);
    else
        (void)api_began(
            q, store_admin_delete(q->api->db, q->resource, &q->who, q->id, on_deleted, q, &err),
            &err);
}

static void set_blocked(struct api_request *q, const char *text)
{
    const struct admin_field *f = admin_field_find(q->resource, "blocked");

    if (!f) {
        api_answer_text_error(q, 405, "method", "this cannot be blocked");
        return;
    }
    q->values[q->n_values++] = (struct admin_value){f, text};
    edit_now(q);
}

void api_block(struct api_request *q)
{
    set_blocked(q, "t");
}

void api_unblock(struct api_request *q)
{
    set_blocked(q, "f");
}
