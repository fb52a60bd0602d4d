// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Who is who, for qvd-authd: accounts with their hashes, tokens. Needs the role qvd_auth. */

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"

#define STORE_TOKEN_HASH_LEN 32

/* An account as the database has it. */
struct store_account {
    int64_t id;           /* 0: there is none */
    int64_t tenant_id;    /* known also when a user is not; 0: no such tenant */
    bool blocked;         /* it, or its tenant */
    const char *login;    /* as stored */
    const char *password; /* hash; NULL: none */
};
/* status DB_OK, else the account is empty. account lives until it returns. */
typedef void store_account_fn(void *arg, enum db_status status,
                              const struct store_account *account);

/* A user by tenant's name and login; an administrator by tenant's name and name. NULL when out of
 * memory. */
must_check struct db_request *store_auth_user(struct db *db, const char *tenant, const char *login,
                                              store_account_fn *fn, void *arg);
must_check struct db_request *store_auth_admin(struct db *db, const char *tenant, const char *name,
                                               store_account_fn *fn, void *arg);

/* Replaces a hash of an old scheme, unless it was changed meanwhile. done may look at the result.
 */
must_check struct db_request *store_auth_rehash(struct db *db, bool admin, int64_t id,
                                                const char *old, const char *hash, db_done_fn *done,
                                                void *arg);

struct store_token_use {
    int64_t user_id; /* 0: no such token, or it may not be used so */
    int64_t tenant_id;
    const char *login;
    const char *params; /* JSON object */
    int64_t vm_id;      /* that it is bound to; 0: none */
    int64_t until;      /* it is good for so long: ms of the database's clock */
};
typedef void store_token_use_fn(void *arg, enum db_status status,
                                const struct store_token_use *use);

/* Uses a token for a VM (0: for none in particular). One that is expired goes, one for a single use
 * goes when it was good; of two uses at once one wins. Users and tenants that are blocked, and
 * tokens of another VM, are refused and use nothing up. */
must_check struct db_request *store_auth_token_use(struct db *db,
                                                   const uint8_t hash[STORE_TOKEN_HASH_LEN],
                                                   int64_t vm_id, store_token_use_fn *fn,
                                                   void *arg);

struct store_token_new {
    const uint8_t *hash;
    int64_t user_id, vm_id;
    int64_t ttl;   /* seconds */
    int64_t until; /* no longer than that: ms of the database's clock; 0: no limit */
    unsigned max;  /* so many that are good may he have */
    bool multi_use;
    const char *params; /* JSON object; NULL: "{}" */
};
/* params_id: where params are kept, 0: he has too many. status DB_CONSTRAINT: no such user or VM of
 * his, or until is over. */
typedef void store_token_new_fn(void *arg, enum db_status status, int64_t params_id);
must_check struct db_request *store_auth_token_new(struct db *db, const struct store_token_new *t,
                                                   store_token_new_fn *fn, void *arg);
/* Removes expired tokens, and parameters of no token. */
must_check struct db_request *store_auth_sweep(struct db *db, db_done_fn *done, void *arg);
