// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The head of an HTTP/1.1 message: found, checked against RFC 9112 more strictly than it asks, and
 * cut into strings. Refuses what two parsers could read differently. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

#define HTTP_HEAD_MAX 16384
#define HTTP_HEADERS_MAX 100

struct http_header {
    const char *name, *value;
};

struct http_head {
    /* of a request */
    const char *method, *target;
    /* of an answer */
    int status;
    const char *reason; /* may be empty */
    /* of both */
    const struct http_header *headers;
    size_t n_headers;
    int64_t content_length; /* -1: none told */
    bool chunked;
    bool close;   /* Connection: close */
    bool upgrade; /* Connection: upgrade and an Upgrade header */
    bool expect_continue;
};

enum http_kind { HTTP_REQUEST, HTTP_ANSWER };

/* Looks for the empty line: 0 not yet there; its length with the empty line and with blank lines
 * before it; -E2BIG: longer than max; -EBADMSG: a CR that no LF follows will never be right. */
must_check ssize_t http_head_length(const uint8_t *data, size_t len, size_t max);

/* Takes exactly that many bytes. 0 and *ret_head (free it by http_head_free()); else the status to
 * answer with: 400 (grammar), 431 (too many headers), 501 (transfer coding), 505 (not HTTP/1.1);
 * -ENOMEM. *ret_why (may be NULL) tells the fault. */
must_check int http_head_parse(enum http_kind kind, const uint8_t *data, size_t len,
                               struct http_head **ret_head, const char **ret_why);
struct http_head *http_head_free(struct http_head *h);
static inline void http_head_free_p(struct http_head **h)
{
    http_head_free(*h);
}

/* The value of the first header of that name (in any case); NULL when absent. */
const char *http_head_get(const struct http_head *h, const char *name);
/* Whether a comma-separated header has that word (in any case). */
bool http_head_has(const struct http_head *h, const char *name, const char *word);

/* "Not Found"; "Unknown" for others. */
const char *http_reason(int status);
