// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/codec.h"

#include <string.h>

#define HEAD_LEN 4

static must_check int put_counted(struct buf *out, const void *data, size_t len, size_t max,
                                  bool terminated)
{
    uint32_t count = len;

    if (len > max || len > IPC_MAX)
        return -EMSGSIZE;
    int r = buf_append(out, &count, sizeof count);
    if (r == 0)
        r = buf_append(out, data, len);
    if (r == 0 && terminated)
        r = buf_append(out, "", 1);
    return r;
}

static must_check int put_field(const struct ipc_field *f, const char *at, struct buf *out)
{
    switch (f->type) {
    case IPC_BOOL: {
        uint8_t byte = *(const bool *)at;
        return buf_append(out, &byte, 1);
    }
    case IPC_U32:
        if (f->max && *(const uint32_t *)at > f->max)
            return -EMSGSIZE;
        return buf_append(out, at, sizeof(uint32_t));
    case IPC_U64:
        if (f->max && *(const uint64_t *)at > f->max)
            return -EMSGSIZE;
        return buf_append(out, at, sizeof(uint64_t));
    case IPC_I64:
        return buf_append(out, at, sizeof(int64_t));
    case IPC_STR: {
        const char *s = *(const char *const *)at;
        return put_counted(out, s ? s : "", s ? strlen(s) : 0, f->max, true);
    }
    case IPC_BYTES: {
        const struct ipc_bytes *b = (const struct ipc_bytes *)at;
        return put_counted(out, b->data, b->len, f->max, false);
    }
    }
    return -EINVAL;
}

int ipc_encode(const struct ipc_message *m, const void *msg, struct buf *out)
{
    uint16_t head[2] = {IPC_VERSION, m->type};
    size_t before = out->len;

    int r = buf_append(out, head, sizeof head);
    for (size_t i = 0; r == 0 && i < m->n_fields; i++)
        r = put_field(&m->fields[i], (const char *)msg + m->fields[i].offset, out);
    if (r == 0 && out->len - before > IPC_MAX)
        r = -EMSGSIZE;
    return r == -ENOBUFS ? -EMSGSIZE : r;
}

int ipc_peek(const void *data, size_t len, uint16_t *ret_type)
{
    uint16_t head[2];

    if (len < HEAD_LEN)
        return -EBADMSG;
    memcpy(head, data, sizeof head);
    if (head[0] != IPC_VERSION)
        return -EBADMSG;
    *ret_type = head[1];
    return 0;
}

struct reader {
    const char *at, *end;
};

static must_check int get_raw(struct reader *r, void *dst, size_t len)
{
    if ((size_t)(r->end - r->at) < len)
        return -EBADMSG;
    memcpy(dst, r->at, len);
    r->at += len;
    return 0;
}

static must_check int get_counted(struct reader *r, size_t max, bool terminated,
                                  const char **ret_data, size_t *ret_len)
{
    uint32_t count;

    if (get_raw(r, &count, sizeof count) < 0 || count > max)
        return -EBADMSG;
    if ((size_t)(r->end - r->at) < (size_t)count + terminated)
        return -EBADMSG;
    if (terminated && (r->at[count] != '\0' || memchr(r->at, '\0', count)))
        return -EBADMSG;
    *ret_data = r->at;
    *ret_len = count;
    r->at += count + terminated;
    return 0;
}

static must_check int get_field(const struct ipc_field *f, struct reader *r, char *at)
{
    const char *data;
    size_t len;

    switch (f->type) {
    case IPC_BOOL: {
        uint8_t byte;
        if (get_raw(r, &byte, 1) < 0 || byte > 1)
            return -EBADMSG;
        *(bool *)at = byte;
        return 0;
    }
    case IPC_U32:
        if (get_raw(r, at, sizeof(uint32_t)) < 0)
            return -EBADMSG;
        return f->max && *(const uint32_t *)at > f->max ? -EBADMSG : 0;
    case IPC_U64:
        if (get_raw(r, at, sizeof(uint64_t)) < 0)
            return -EBADMSG;
        return f->max && *(const uint64_t *)at > f->max ? -EBADMSG : 0;
    case IPC_I64:
        return get_raw(r, at, sizeof(int64_t));
    case IPC_STR:
        if (get_counted(r, f->max, true, &data, &len) < 0)
            return -EBADMSG;
        *(const char **)at = data;
        return 0;
    case IPC_BYTES:
        if (get_counted(r, f->max, false, &data, &len) < 0)
            return -EBADMSG;
        *(struct ipc_bytes *)at = (struct ipc_bytes){data, len};
        return 0;
    }
    return -EBADMSG;
}

int ipc_decode(const struct ipc_message *m, const void *data, size_t len, void *ret_msg)
{
    struct reader r = {data, (const char *)data + len};
    uint16_t type;

    if (len > IPC_MAX || ipc_peek(data, len, &type) < 0 || type != m->type)
        return -EBADMSG;
    r.at += HEAD_LEN;
    memset(ret_msg, 0, m->size);
    for (size_t i = 0; i < m->n_fields; i++)
        if (get_field(&m->fields[i], &r, (char *)ret_msg + m->fields[i].offset) < 0)
            return -EBADMSG;
    return r.at == r.end ? 0 : -EBADMSG;
}
