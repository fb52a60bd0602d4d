// SPDX-License-Identifier: GPL-3.0-or-later
/* What is an image's own: its file is copied by a process of its own, then it is published with its
 * tags; its file goes with it. */
#include <string.h>

#include "api/api-internal.h"
#include "api/process.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "ipc/api-msg.h"
#include "model/di.h"
#include "store/admin-di.h"

#define PROGRESS_MS 500

/* An image on its way in. */
struct copy {
    struct api *api;
    int64_t di;
    char name[API_FILE_MAX + 32];
    struct ipc_channel *channel;
    int64_t told;
    bool ended;
};

static void copy_free(struct copy *c)
{
    (void)map_take_u64(c->api->copies, (uint64_t)c->di);
    ipc_channel_free(c->channel);
    free(c);
}

static void on_settled(void *arg, const struct admin_done *done)
{
    struct copy *c = arg;

    if (done->status != ADMIN_OK) {
        log_error("[di:%lld] not noted: %s", (long long)c->di, done->err.text);
        const struct api_remove m = {.name = c->name};
        if (ipc_send(c->api->master, &api_remove_msg, &m, -EBADF) < 0)
            log_warning("[di:%lld] %s stays without use", (long long)c->di, c->name);
    }
    copy_free(c);
}

static void on_failed(void *arg, const struct admin_done *done)
{
    struct copy *c = arg;

    if (done->status != ADMIN_OK)
        log_error("[di:%lld] its failure is not noted: %s", (long long)c->di, done->err.text);
    copy_free(c);
}

static void copy_failed(struct copy *c, const char *why)
{
    struct qvd_error err;

    c->ended = true;
    log_error("[di:%lld] not copied: %s", (long long)c->di, why);
    if (store_admin_di_fail(c->api->db, c->di, why, on_failed, c, &err) != ADMIN_OK)
        copy_free(c);
}

static int on_progress(void *owner, const void *msg, int *fd)
{
    struct copy *c = owner;
    const struct api_progress *m = msg;

    if (m->total && clock_ms() - c->told >= PROGRESS_MS) {
        c->told = clock_ms();
        double percent = (double)m->done * 100 / (double)m->total;
        store_admin_di_progress(c->api->db, c->di, percent > 99 ? 99 : percent);
    }
    return 0;
}

static int on_copied(void *owner, const void *msg, int *fd)
{
    struct copy *c = owner;
    const struct api_copied *m = msg;
    struct qvd_error err;

    if (c->ended)
        return -EBADMSG;
    if (!m->ok) {
        copy_failed(c, m->text);
        return 0;
    }
    c->ended = true;
    log_info("[di:%lld] %s copied, %llu bytes", (long long)c->di, c->name,
             (unsigned long long)m->size);
    if (store_admin_di_publish(c->api->db, c->di, c->name, (int64_t)m->size, m->sha256, on_settled,
                               c, &err) != ADMIN_OK)
        copy_free(c);
    return 0;
}

static void on_closed(void *owner, int reason)
{
    struct copy *c = owner;

    c->channel = ipc_channel_free(c->channel);
    if (!c->ended)
        copy_failed(c, "its copier ended; see the log of qvd-api");
}

static const struct ipc_handler handlers[] = {
    {&api_progress_msg, ~0u, on_progress},
    {&api_copied_msg,   ~0u, on_copied  },
};

int api_di_copier(struct api *api, uint64_t di, int *fd)
{
    struct copy *c = map_get_u64(api->copies, di);
    const char *dash;

    if (!c || c->channel)
        return -EBADMSG;
    dash = strchr(c->name, '-');
    const struct api_copy m = {.di = di, .file = dash + 1, .name = c->name};
    int r = ipc_channel_new(api->loop, TAKE_FD(*fd), handlers, ARRAY_SIZE(handlers), on_closed, c,
                            &c->channel);
    if (r < 0)
        copy_failed(c, "out of memory");
    else if (ipc_send(c->channel, &api_copy_msg, &m, -EBADF) < 0)
        log_debug("the copier of %lld has gone", (long long)di);
    return 0;
}

void api_di_forget(struct api *api)
{
    struct copy *c;
    size_t at;

    while ((at = 0, c = map_next(api->copies, &at, NULL)))
        copy_free(c);
    api->copies = map_free(api->copies);
}

static void begin_copy(struct api *api, int64_t di, const char *file)
{
    struct copy *c = calloc(1, sizeof *c);

    if (!c) {
        log_error("[di:%lld] not copied: out of memory", (long long)di);
        return;
    }
    c->api = api;
    c->di = di;
    snprintf(c->name, sizeof c->name, "%lld-%s", (long long)di, file);
    const struct api_copy m = {.di = (uint64_t)di, .file = file, .name = c->name};
    if (map_put_u64(api->copies, (uint64_t)di, c) < 0 ||
        ipc_send(api->master, &api_copy_msg, &m, -EBADF) < 0)
        copy_failed(c, "no copier can be started");
}

static void on_created(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;
    const char *path = json_string_value(json_object_get(q->body, "path"));

    if (done->status != ADMIN_OK) {
        api_log(q, "create", 0, done->err.text);
        api_answer_error(q, done->status, &done->err);
        return;
    }
    api_log(q, "create", done->id, "copy begins");
    begin_copy(q->api, done->id, path);
    api_answer_id(q, 202, done->id);
}

static must_check int add_tag(struct buf *out, const char *tag)
{
    int r = buf_append_str(out, out->len > 1 ? ",\"" : "\"");

    for (; r == 0 && *tag; tag++) {
        if (*tag == '"' || *tag == '\\')
            r = buf_append(out, "\\", 1);
        if (r == 0)
            r = buf_append(out, tag, 1);
    }
    return r == 0 ? buf_append(out, "\"", 1) : r;
}

/* tags: an array, or words with commas between; as PostgreSQL's text of an array. */
static enum admin_status take_tags(struct api_request *q, const char **ret, struct qvd_error *err)
{
    const json_t *v = json_object_get(q->body, "tags"), *one;
    _cleanup_(buf_done_p) struct buf out = {0};
    char word[DI_TAG_MAX + 1];
    const char *at = NULL;
    size_t i;
    int r;

    buf_init(&out, 65536);
    *ret = NULL;
    if (!v)
        return ADMIN_OK;
    r = buf_append_str(&out, "{");
    if (json_is_string(v)) {
        while (r == 0 && conf_list_next(json_string_value(v), &at, word, sizeof word))
            r = di_tag_valid(word) && !di_tag_reserved(word) ? add_tag(&out, word) : -EINVAL;
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, one)
        {
            const char *tag = json_string_value(one);
            r = r == 0 && tag && di_tag_valid(tag) && !di_tag_reserved(tag) ? add_tag(&out, tag)
                                                                            : -EINVAL;
            if (r < 0)
                break;
        }
    } else {
        r = -EINVAL;
    }
    if (r == 0)
        r = buf_append_str(&out, "}");
    *ret = r == 0 ? api_keep(q, buf_cstr(&out) ? strdup((const char *)out.data) : NULL) : NULL;
    if (*ret)
        return ADMIN_OK;
    qvd_error_set(err, ADMIN_INVALID,
                  "tags: words of 1 to %d characters, neither head nor dates as YYYY-MM-DD-NNN",
                  DI_TAG_MAX);
    return ADMIN_INVALID;
}

void api_di_create(struct api_request *q)
{
    struct admin_di_new di = {.tenant = q->tenant};
    const char *path;
    struct qvd_error err;
    enum admin_status st = api_member(q, "path", true, &path, &err);

    for (size_t i = 0; i < q->n_values; i++) {
        const char *name = q->values[i].field->name, *text = q->values[i].text;
        if (strcmp(name, "osf") == 0)
            di.osf = text;
        else if (strcmp(name, "osf_id") == 0 && str_to_i64(text, 1, INT64_MAX, &di.osf_id) < 0)
            st = ADMIN_INVALID;
        else if (strcmp(name, "version") == 0)
            di.version = text;
        else if (strcmp(name, "description") == 0)
            di.description = text;
    }
    if (st == ADMIN_OK && !api_file_name_ok(path)) {
        qvd_error_set(&err, ADMIN_INVALID,
                      "path = %.100s: the name of a file in the staging folder"
                      " %s expected, without folders",
                      path, conf_str(q->api->conf, "path.storage.staging"));
        st = ADMIN_INVALID;
    }
    if (st == ADMIN_OK && di.version && !di_version_valid(di.version)) {
        qvd_error_set(&err, ADMIN_INVALID, "version: letters, digits, \".\", \"_\" and \"-\" only");
        st = ADMIN_INVALID;
    }
    if (st == ADMIN_OK)
        st = take_tags(q, &di.tags, &err);
    if (st == ADMIN_OK)
        st = store_admin_di_new(q->api->db, &q->who, &di, on_created, q, &err);
    (void)api_began(q, st, &err);
}

static void on_deleted(void *arg, const struct admin_done *done, const char *path)
{
    struct api_request *q = arg;
    const struct api_remove m = {.name = path};

    if (done->status == ADMIN_OK && *path && ipc_send(q->api->master, &api_remove_msg, &m, -EBADF))
        log_warning("[di:%lld] %s stays without use", (long long)q->id, path);
    api_answer_done(q, done);
}

void api_di_delete(struct api_request *q)
{
    struct qvd_error err;

    (void)api_began(q, store_admin_di_delete(q->api->db, &q->who, q->id, on_deleted, q, &err),
                    &err);
}

void api_di_tag(struct api_request *q)
{
    const char *tag;
    struct qvd_error err;
    enum admin_status st = api_member(q, "tag", true, &tag, &err);

    if (st == ADMIN_OK)
        st = store_admin_di_tag(q->api->db, &q->who, q->id, tag, api_answer_done, q, &err);
    (void)api_began(q, st, &err);
}

void api_di_untag(struct api_request *q)
{
    const char *tag;
    struct qvd_error err;
    enum admin_status st = api_member(q, "tag", true, &tag, &err);

    if (st == ADMIN_OK)
        st = store_admin_di_untag(q->api->db, &q->who, q->id, tag, api_answer_done, q, &err);
    (void)api_began(q, st, &err);
}
