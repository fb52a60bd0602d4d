// SPDX-License-Identifier: GPL-3.0-or-later
#include <string.h>

#include "http/body-internal.h"

#define LINE_MAX_LEN 256
#define OVERHEAD_MAX 4096

void http_body_init(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){.state = BODY_LENGTH};
    if (h->chunked)
        b->state = BODY_CHUNK_SIZE;
    else if (h->content_length > 0)
        b->left = h->content_length;
    else
        b->state = BODY_DONE;
}

/* A line ended by CRLF: its length without the end, 0 with *ret_more when it is not all there. */
static ssize_t find_line(struct http_body *b, const struct buf *in, bool *ret_more)
{
    const uint8_t *lf = in->len ? memchr(in->data, '\n', in->len) : NULL;

    *ret_more = !lf;
    if (!lf)
        return in->len > LINE_MAX_LEN ? -EBADMSG : 0;
    size_t len = lf - in->data;
    b->overhead += len + 1;
    if (len == 0 || lf[-1] != '\r' || len > LINE_MAX_LEN || b->overhead > OVERHEAD_MAX)
        return -EBADMSG;
    return len - 1;
}

/* chunk-size [ ";" extensions ]; extensions are ignored. */
static must_check int parse_size(struct http_body *b, const uint8_t *line, size_t len)
{
    uint64_t size = 0;
    size_t i = 0;

    for (; i < len && i < 15; i++) {
        int c = line[i] | 0x20;
        if (line[i] >= '0' && line[i] <= '9')
            size = size * 16 + (line[i] - '0');
        else if (c >= 'a' && c <= 'f')
            size = size * 16 + (c - 'a' + 10);
        else
            break;
    }
    if (i == 0 || (i < len && line[i] != ';'))
        return -EBADMSG;
    for (; i < len; i++)
        if ((line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return -EBADMSG;
    b->left = size;
    b->state = size ? BODY_CHUNK : BODY_TRAILER;
    return 0;
}

static must_check int take_line(struct http_body *b, struct buf *in)
{
    bool more;
    ssize_t len = find_line(b, in, &more);
    int r = 1;

    if (len < 0 || more)
        return len < 0 ? len : 0;
    if (b->state == BODY_CHUNK_SIZE)
        r = parse_size(b, in->data, len) < 0 ? -EBADMSG : 1;
    else if (b->state == BODY_CHUNK_END && len > 0)
        r = -EBADMSG;
    else if (b->state == BODY_CHUNK_END)
        b->state = BODY_CHUNK_SIZE;
    else if (len == 0) /* trailers are passed over */
        b->state = BODY_DONE;
    buf_consume(in, len + 2);
    return r;
}

int http_body_next(struct http_body *b, struct buf *in, size_t *ret_len)
{
    for (;;) {
        if (b->state == BODY_DONE)
            return 2;
        if (b->state == BODY_LENGTH || b->state == BODY_CHUNK) {
            size_t n = b->left < in->len ? b->left : in->len;
            if (n == 0)
                return 0;
            b->left -= n;
            b->overhead = 0;
            if (b->left == 0)
                b->state = b->state == BODY_LENGTH ? BODY_DONE : BODY_CHUNK_END;
            *ret_len = n;
            return 1;
        }
        int r = take_line(b, in);
        if (r <= 0)
            return r;
    }
}

bool http_value_ok(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return false;
    return true;
}

int http_put_headers(struct buf *out, const struct http_header *headers, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r >= 0; i++) {
        if (!*headers[i].name || strpbrk(headers[i].name, ": \t") ||
            !http_value_ok(headers[i].name) || !http_value_ok(headers[i].value))
            return -EINVAL;
        r = buf_printf(out, "%s: %s\r\n", headers[i].name, headers[i].value);
    }
    return r;
}
