// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/buf.h"

#include <stdarg.h>
#include <string.h>

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_done(struct buf *b)
{
    free(b->base_);
    buf_init(b, b->limit);
}

/* Makes place for len bytes behind the content; does not look at the limit. */
static must_check int make_place(struct buf *b, size_t len)
{
    size_t offset = b->base_ ? (size_t)(b->data - b->base_) : 0;
    size_t need, size;

    if (__builtin_add_overflow(b->len, len, &need))
        return -ENOMEM;
    if (b->base_ && offset + need <= b->size_)
        return 0;
    if (offset > 0) {
        memmove(b->base_, b->data, b->len);
        b->data = b->base_;
        if (need <= b->size_)
            return 0;
    }
    size = b->size_ ? b->size_ : 256;
    while (size < need)
        if (__builtin_mul_overflow(size, 2, &size))
            return -ENOMEM;
    uint8_t *base = realloc(b->base_, size);
    if (!base)
        return -ENOMEM;
    b->base_ = b->data = base;
    b->size_ = size;
    return 0;
}

int buf_reserve(struct buf *b, size_t len, uint8_t **ret_at)
{
    if (b->limit && (len > b->limit || b->len > b->limit - len))
        return -ENOBUFS;
    int r = make_place(b, len);
    if (r < 0)
        return r;
    *ret_at = b->data + b->len;
    return 0;
}

void buf_commit(struct buf *b, size_t len)
{
    b->len += len;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    uint8_t *at;

    if (len == 0)
        return 0;
    int r = buf_reserve(b, len, &at);
    if (r < 0)
        return r;
    memcpy(at, data, len);
    buf_commit(b, len);
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    _cleanup_(free_p) char *s = NULL;
    va_list args;

    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    if (n < 0) {
        s = NULL;
        return -ENOMEM;
    }
    return buf_append(b, s, n);
}

void buf_consume(struct buf *b, size_t len)
{
    if (len >= b->len) {
        buf_done(b);
        return;
    }
    b->data += len;
    b->len -= len;
}

char *buf_cstr(struct buf *b)
{
    if (make_place(b, 1) < 0)
        return NULL;
    b->data[b->len] = '\0';
    return (char *)b->data;
}
