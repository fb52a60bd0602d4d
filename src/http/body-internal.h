// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Where a body ends: by Content-Length, by chunks, or at once. And heads put together. */

#include "base/buf.h"
#include "http/head.h"

struct http_body {
    uint64_t left; /* of the body, or of the present chunk */
    enum {
        BODY_LENGTH,
        BODY_CHUNK_SIZE,
        BODY_CHUNK,
        BODY_CHUNK_END,
        BODY_TRAILER,
        BODY_DONE
    } state;
    uint32_t overhead; /* bytes of chunk lines and trailers since the last data: limited */
};

void http_body_init(struct http_body *b, const struct http_head *h);
/* Looks at what is in front of in: 1: *ret_len bytes of the body are at in->data (the caller takes
 * and consumes them); 0: more is needed; 2: the end; -EBADMSG. Consumes chunk lines itself. */
must_check int http_body_next(struct http_body *b, struct buf *in, size_t *ret_len);

/* Visible text without control characters: fit for a header's value. */
bool http_value_ok(const char *s);
/* "Name: value" lines; -EINVAL for names and values that are not fit. */
must_check int http_put_headers(struct buf *out, const struct http_header *headers, size_t n);
