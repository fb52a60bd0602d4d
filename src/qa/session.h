// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A conversation with the API: login, one request at a time, logout. */

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

struct session;

struct session_settings {
    const char *url; /* https://HOST[:PORT][/] */
    const char *login, *tenant;
    char *password; /* wiped by session_open() */
    const char *ca; /* file; "" none beside the system's */
    bool insecure;  /* accepts any certificate, with a warning */
};

/* How a request ended, beside -errno for "no answer". */
enum session_result {
    SESSION_OK,        /* 2xx */
    SESSION_BAD,       /* 400, 405, 413, 422: the request has a fault; our settings have one */
    SESSION_NOT_FOUND, /* 404 */
    SESSION_REFUSED,   /* 401, 403, 409, 429 */
    SESSION_FAILED,    /* 5xx */
};

/* Connects and logs in. 0 and *ret_session; -errno: the server cannot be reached; a positive
 * session_result: it refused. err tells. */
must_check int session_open(const struct session_settings *settings, struct session **ret_session,
                            struct qvd_error *err);
/* Logs out and frees. NULL-safe, always NULL. */
struct session *session_close(struct session *s);

/* One request below /api/1/. body: NULL, or an object (not taken over). 0 (SESSION_OK) with
 * *ret_answer, a new reference (may be NULL when not wanted); else as above. */
must_check int session_call(struct session *s, const char *method, const char *target,
                            const json_t *body, json_t **ret_answer, struct qvd_error *err);
