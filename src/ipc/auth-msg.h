// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What qvd-l7r's broker and qvd-api ask qvd-authd, and its answers. Types 100 to 119.
 *
 * Each request carries an id of the asker's own, which comes back with the answer. authd answers
 * every request once, in any order; AUTH_BUSY when its queue is full or the wait over its limit. */

#include "ipc/codec.h"

enum auth_status {
    AUTH_OK,
    AUTH_DENIED,      /* wrong, unknown, blocked or expired: the asker tells no more than "no" */
    AUTH_BUSY,        /* try again later: 503 */
    AUTH_UNAVAILABLE, /* database or directory away: 503 */
    AUTH_THROTTLED, /* too many failures of this account or source: 429 for admins, 401 for users */
    AUTH_STATUS_MAX
};

/* A user's login (Basic). login as the client sent it, tenant still inside. */
struct auth_verify_user {
    uint64_t id;
    const char *login;
    const char *password;
    const char *source;    /* the client's address, for throttling */
    const char *file_name; /* of list_of_vm */
    struct ipc_bytes env;  /* shared by the client, for plugins: "name NUL value NUL" */
};
#define AUTH_ENV_MAX 4096 /* bytes of env */
/* Whether it has that shape. */
bool auth_env_valid(struct ipc_bytes env);

/* A user's bearer token, decoded from base64. vm_id: 0, or the VM it is used for. */
struct auth_verify_token {
    uint64_t id;
    const char *token;
    uint64_t vm_id;
    const char *source;
    const char *file_name;
    struct ipc_bytes env;
};
/* Who he is. params: JSON object of the plugins' parameters for the VMA (may be "{}"). token_vm_id:
 * the VM that the token is bound to, 0: any of his. token_until: how long it is good, in ms of the
 * database's clock, for auth_make_token; 0: no token of ours. */
struct auth_user {
    uint64_t id;
    uint32_t status; /* enum auth_status */
    uint64_t user_id;
    int64_t tenant_id;
    const char *login; /* as stored, without tenant */
    const char *params;
    uint64_t token_vm_id;
    int64_t token_until;
    bool asks; /* his plugins want to be asked at each request (auth_ask) */
};
/* A request of one who is known: what do his plugins say? */
enum auth_ask_kind {
    AUTH_ASK_LIST,    /* lists, authenticate_user, create_auth_token */
    AUTH_ASK_CONNECT, /* connect_to_vm */
    AUTH_ASK_ACCESS,  /* stop_vm */
    AUTH_ASK_MAX
};
struct auth_ask {
    uint64_t id;
    uint32_t kind;
    uint64_t user_id;
    int64_t tenant_id;
    const char *login; /* as stored */
    uint64_t vm_id;
    const char *source;
    const char *file_name;
    struct ipc_bytes env;
};
/* allowed: he may have the VM though it is another's. lists: vms (u64 each) are to be shown in
 * place of his own. params: for the VMA, over those of the login. */
struct auth_asked {
    uint64_t id;
    uint32_t status;
    bool allowed, lists;
    struct ipc_bytes vms;
    const char *params;
};
#define AUTH_ASKED_VMS_MAX 500
/* Makes a token: ttl in seconds, but no longer than until (0: no such limit; a token that makes
 * another gives its own); vm_id 0: for any VM of the user. store_only: keeps params in
 * user_auth_parameters for so long and tells no token (authenticate_user?store_auth=1). */
struct auth_make_token {
    uint64_t id;
    uint64_t user_id;
    uint64_t vm_id;
    uint32_t ttl;
    int64_t until;
    bool multi_use;
    bool store_only;
    const char *params;
};
struct auth_token {
    uint64_t id;
    uint32_t status;
    uint64_t auth_params_id;
    const char *token; /* plain, not base64; empty with store_only */
};
/* An administrator's login; tenant "" when he gave none. */
struct auth_verify_admin {
    uint64_t id;
    const char *name;
    const char *tenant;
    const char *password;
    const char *source;
};
struct auth_admin {
    uint64_t id;
    uint32_t status;
    uint64_t admin_id;
    int64_t tenant_id;
};
/* The hash to store for a new password. */
struct auth_hash {
    uint64_t id;
    const char *password;
};
struct auth_hashed {
    uint64_t id;
    uint32_t status;
    const char *hash;
};

extern const struct ipc_message auth_verify_user_msg;  /* -> auth_user */
extern const struct ipc_message auth_verify_token_msg; /* -> auth_user */
extern const struct ipc_message auth_user_msg;
extern const struct ipc_message auth_ask_msg; /* -> auth_asked */
extern const struct ipc_message auth_asked_msg;
extern const struct ipc_message auth_make_token_msg; /* -> auth_token */
extern const struct ipc_message auth_token_msg;
extern const struct ipc_message auth_verify_admin_msg; /* -> auth_admin */
extern const struct ipc_message auth_admin_msg;
extern const struct ipc_message auth_hash_msg; /* -> auth_hashed */
extern const struct ipc_message auth_hashed_msg;
