// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* How store's functions look; nothing here but the rules and what several of them need.
 *
 * - One function a business step, one file a business; a function is one statement, one batch or
 * one db_txn. It is called with the loop's db and answers through its done callback, once, never
 *   inside the call; the request it returns may be given to db_cancel() until then (NULL: out of
 *   memory, done is not called).
 * - done gets the status first. Rows are given as plain structs that live during the call.
 * - A change of state is one conditional UPDATE ... WHERE <state as I know it> RETURNING: zero rows
 *   means that another was faster, and is no error.
 * - Row locks in the order vm, host, user. Lists by id.
 * - DB_REPEAT where repeating does no harm: reads, and changes that carry a session or command id.
 * - After the commit, in the callback, the function tells whom it concerns by db_notify_id();
 *   channels and payloads stand in migrations/0001, "Notifications". */

#include "db/db.h"

/* Channels. host and instance are ids. */
#define STORE_CHANNEL_API "api"
#define STORE_CHANNEL_CONFIG "config"
#define STORE_CHANNEL_HOSTS "hosts"
enum { STORE_CHANNEL_SIZE = 32 };
void store_channel_host(char dst[STORE_CHANNEL_SIZE], int64_t host);
void store_channel_l7r(char dst[STORE_CHANNEL_SIZE], int64_t instance);

/* Tells the node, the L7R (0: nobody) that something is new about "vm 42", "session 7". */
void store_tell_host(struct db *db, int64_t host, const char *kind, int64_t id);
void store_tell_l7r(struct db *db, int64_t instance, const char *kind, int64_t id);
void store_tell_api(struct db *db, const char *kind, int64_t id);
/* Of what nobody waits for but people who look on: a moment later, with whatever else is told. */
void store_tell_api_later(struct db *db, const char *kind, int64_t id);

/* What a notification says: its kind ("vm", "session", "host", "config") and id. Never trusted: the
 * receiver reads the row. false: not one of ours. */
bool store_payload(const char *payload, char *kind, size_t size, int64_t *ret_id);

/* Is the database's schema the one that this program knows? r: 0; -EPROTO (older or newer; err says
 * which and the mend); -EAGAIN (not reachable). */
typedef void store_schema_done(void *arg, int r, const struct qvd_error *err);
must_check struct db_request *store_schema_check(struct db *db, store_schema_done *done, void *arg);
