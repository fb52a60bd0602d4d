// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A growing byte buffer with a limit, consumed from the front. Memory exists only while bytes do.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buf {
    uint8_t *data; /* first unread byte: valid for len bytes */
    size_t len;
    size_t limit; /* 0: none */
    uint8_t *base_;
    size_t size_;
};

/* On the caller's memory; limit in bytes, 0 none. */
void buf_init(struct buf *b, size_t limit);
/* Frees the bytes; the buffer may be used again. */
void buf_done(struct buf *b);
static inline void buf_done_p(struct buf *b)
{
    buf_done(b);
}

/* 0, -ENOBUFS (over the limit: nothing was added), -ENOMEM. */
must_check int buf_append(struct buf *b, const void *data, size_t len);
must_check int buf_append_str(struct buf *b, const char *s);
must_check int buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
/* Room for len bytes at *ret_at, to be made part of it by buf_commit(); same results. */
must_check int buf_reserve(struct buf *b, size_t len, uint8_t **ret_at);
void buf_commit(struct buf *b, size_t len);
/* Drops len bytes from the front; frees the memory when none is left. */
void buf_consume(struct buf *b, size_t len);
/* Ends the content with a NUL that is not counted, and returns it; NULL when out of memory. */
must_check char *buf_cstr(struct buf *b);
