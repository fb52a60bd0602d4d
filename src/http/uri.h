// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What stands inside a head: target, query, percent-encoding, credentials. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct http_param {
    const char *key, *value; /* decoded; value "" when there was no '=' */
};

/* A request's target, decoded. Free by http_target_free(). */
struct http_target {
    const char *path; /* decoded, begins with '/' */
    const struct http_param *params;
    size_t n_params;
};

#define HTTP_PARAMS_MAX 200

/* Origin form ("/path?a=b&c"); '+' means blank in the query; "%00", bad escapes and what is not
 * UTF-8 after decoding are refused. 0, -EINVAL, -E2BIG (params), -ENOMEM. */
must_check int http_target_parse(const char *target, struct http_target **ret_target);
struct http_target *http_target_free(struct http_target *t);
static inline void http_target_free_p(struct http_target **t)
{
    http_target_free(*t);
}
/* The first of that key; NULL when absent. */
const char *http_target_get(const struct http_target *t, const char *key);

/* Appends s with everything but unreserved characters as %XX. 0, -ENOMEM, -ENOBUFS. */
must_check int http_encode(struct buf *out, const char *s);

enum http_auth_scheme { HTTP_AUTH_NONE, HTTP_AUTH_BASIC, HTTP_AUTH_BEARER };

struct http_auth {
    enum http_auth_scheme scheme;
    char *user;     /* Basic; not "" */
    char *password; /* Basic; may hold ':' */
    char *token;    /* Bearer: the token68 as sent */
};
/* Value of Authorization (NULL gives NONE). 0; -EINVAL: neither, or broken; -ENOMEM. What it
 * allocates is wiped and freed by http_auth_done(). */
must_check int http_auth_parse(const char *value, struct http_auth *ret_auth);
void http_auth_done(struct http_auth *a);
/* "Basic ..." as a new string (wipe and free it); NULL when out of memory. */
must_check char *http_auth_basic(const char *user, const char *password);
