// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Settings in the database, sessions of administrators. Needs the role qvd_api. */

#include "store/admin.h"

/* Sets or (value NULL) removes one; tells all daemons. done.id: 1 when something changed. */
must_check enum admin_status store_admin_config_set(struct db *db, int64_t tenant, const char *key,
                                                    const char *value, admin_done_fn *fn, void *arg,
                                                    struct qvd_error *err);
/* The rows of a tenant: key, value. */
must_check enum admin_status store_admin_config_list(struct db *db, int64_t tenant,
                                                     admin_list_fn *fn, void *arg,
                                                     struct qvd_error *err);
/* The L7Rs' certificate and key, and authorities and revocations of clients' (NULL: removed). */
must_check enum admin_status store_admin_config_ssl(struct db *db, const char *cert,
                                                    const char *key, const char *ca,
                                                    const char *crl, admin_done_fn *fn, void *arg,
                                                    struct qvd_error *err);

#define STORE_TICKET_HASH_LEN 32
must_check enum admin_status store_admin_session_new(struct db *db, const uint8_t *hash,
                                                     int64_t admin, const char *ip, int64_t ttl_ms,
                                                     admin_done_fn *fn, void *arg,
                                                     struct qvd_error *err);
/* Who has that ticket: id 0: nobody (any more). Strings live until it returns. Prolongs it. */
typedef void admin_session_fn(void *arg, enum admin_status status, const struct admin_who *who);
must_check enum admin_status store_admin_session_use(struct db *db, const uint8_t *hash,
                                                     int64_t ttl_ms, admin_session_fn *fn,
                                                     void *arg, struct qvd_error *err);
must_check enum admin_status store_admin_session_end(struct db *db, const uint8_t *hash,
                                                     admin_done_fn *fn, void *arg,
                                                     struct qvd_error *err);
/* An administrator's own new password (hash); all his other sessions end. */
must_check enum admin_status store_admin_password(struct db *db, int64_t admin, const char *hash,
                                                  const uint8_t *but, admin_done_fn *fn, void *arg,
                                                  struct qvd_error *err);
