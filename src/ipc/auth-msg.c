// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/auth-msg.h"

#define LOGIN_MAX 512
#define PASSWORD_MAX 1024
#define TOKEN_MAX 512
#define SOURCE_MAX 64
#define FILE_NAME_MAX 1024
#define PARAMS_MAX 12288
#define HASH_MAX 512

#define MESSAGE(name_, type_)                                                                      \
    const struct ipc_message name_##_msg = {.type = type_,                                         \
                                            .name = #name_,                                        \
                                            .size = sizeof(struct name_),                          \
                                            .fields = name_##_fields,                              \
                                            .n_fields = ARRAY_SIZE(name_##_fields)}

static const struct ipc_field auth_verify_user_fields[] = {
    IPC_FIELD(struct auth_verify_user, id, IPC_U64, 0),
    IPC_FIELD(struct auth_verify_user, login, IPC_STR, LOGIN_MAX),
    IPC_FIELD(struct auth_verify_user, password, IPC_STR, PASSWORD_MAX),
    IPC_FIELD(struct auth_verify_user, source, IPC_STR, SOURCE_MAX),
    IPC_FIELD(struct auth_verify_user, file_name, IPC_STR, FILE_NAME_MAX),
    IPC_FIELD(struct auth_verify_user, env, IPC_BYTES, AUTH_ENV_MAX),
};
static const struct ipc_field auth_verify_token_fields[] = {
    IPC_FIELD(struct auth_verify_token, id, IPC_U64, 0),
    IPC_FIELD(struct auth_verify_token, token, IPC_STR, TOKEN_MAX),
    IPC_FIELD(struct auth_verify_token, vm_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_verify_token, source, IPC_STR, SOURCE_MAX),
    IPC_FIELD(struct auth_verify_token, file_name, IPC_STR, FILE_NAME_MAX),
    IPC_FIELD(struct auth_verify_token, env, IPC_BYTES, AUTH_ENV_MAX),
};
static const struct ipc_field auth_user_fields[] = {
    IPC_FIELD(struct auth_user, id, IPC_U64, 0),
    IPC_FIELD(struct auth_user, status, IPC_U32, AUTH_STATUS_MAX - 1),
    IPC_FIELD(struct auth_user, user_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_user, tenant_id, IPC_I64, 0),
    IPC_FIELD(struct auth_user, login, IPC_STR, LOGIN_MAX),
    IPC_FIELD(struct auth_user, params, IPC_STR, PARAMS_MAX),
    IPC_FIELD(struct auth_user, token_vm_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_user, token_until, IPC_I64, 0),
    IPC_FIELD(struct auth_user, asks, IPC_BOOL, 0),
};
static const struct ipc_field auth_ask_fields[] = {
    IPC_FIELD(struct auth_ask, id, IPC_U64, 0),
    IPC_FIELD(struct auth_ask, kind, IPC_U32, AUTH_ASK_MAX - 1),
    IPC_FIELD(struct auth_ask, user_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_ask, tenant_id, IPC_I64, 0),
    IPC_FIELD(struct auth_ask, login, IPC_STR, LOGIN_MAX),
    IPC_FIELD(struct auth_ask, vm_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_ask, source, IPC_STR, SOURCE_MAX),
    IPC_FIELD(struct auth_ask, file_name, IPC_STR, FILE_NAME_MAX),
    IPC_FIELD(struct auth_ask, env, IPC_BYTES, AUTH_ENV_MAX),
};
static const struct ipc_field auth_asked_fields[] = {
    IPC_FIELD(struct auth_asked, id, IPC_U64, 0),
    IPC_FIELD(struct auth_asked, status, IPC_U32, AUTH_STATUS_MAX - 1),
    IPC_FIELD(struct auth_asked, allowed, IPC_BOOL, 0),
    IPC_FIELD(struct auth_asked, lists, IPC_BOOL, 0),
    IPC_FIELD(struct auth_asked, vms, IPC_BYTES, AUTH_ASKED_VMS_MAX * sizeof(uint64_t)),
    IPC_FIELD(struct auth_asked, params, IPC_STR, 8192),
};
static const struct ipc_field auth_make_token_fields[] = {
    IPC_FIELD(struct auth_make_token, id, IPC_U64, 0),
    IPC_FIELD(struct auth_make_token, user_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_make_token, vm_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_make_token, ttl, IPC_U32, 0),
    IPC_FIELD(struct auth_make_token, until, IPC_I64, 0),
    IPC_FIELD(struct auth_make_token, multi_use, IPC_BOOL, 0),
    IPC_FIELD(struct auth_make_token, store_only, IPC_BOOL, 0),
    IPC_FIELD(struct auth_make_token, params, IPC_STR, PARAMS_MAX),
};
static const struct ipc_field auth_token_fields[] = {
    IPC_FIELD(struct auth_token, id, IPC_U64, 0),
    IPC_FIELD(struct auth_token, status, IPC_U32, AUTH_STATUS_MAX - 1),
    IPC_FIELD(struct auth_token, auth_params_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_token, token, IPC_STR, TOKEN_MAX),
};
static const struct ipc_field auth_verify_admin_fields[] = {
    IPC_FIELD(struct auth_verify_admin, id, IPC_U64, 0),
    IPC_FIELD(struct auth_verify_admin, name, IPC_STR, LOGIN_MAX),
    IPC_FIELD(struct auth_verify_admin, tenant, IPC_STR, LOGIN_MAX),
    IPC_FIELD(struct auth_verify_admin, password, IPC_STR, PASSWORD_MAX),
    IPC_FIELD(struct auth_verify_admin, source, IPC_STR, SOURCE_MAX),
};
static const struct ipc_field auth_admin_fields[] = {
    IPC_FIELD(struct auth_admin, id, IPC_U64, 0),
    IPC_FIELD(struct auth_admin, status, IPC_U32, AUTH_STATUS_MAX - 1),
    IPC_FIELD(struct auth_admin, admin_id, IPC_U64, INT64_MAX),
    IPC_FIELD(struct auth_admin, tenant_id, IPC_I64, 0),
};
static const struct ipc_field auth_hash_fields[] = {
    IPC_FIELD(struct auth_hash, id, IPC_U64, 0),
    IPC_FIELD(struct auth_hash, password, IPC_STR, PASSWORD_MAX),
};
static const struct ipc_field auth_hashed_fields[] = {
    IPC_FIELD(struct auth_hashed, id, IPC_U64, 0),
    IPC_FIELD(struct auth_hashed, status, IPC_U32, AUTH_STATUS_MAX - 1),
    IPC_FIELD(struct auth_hashed, hash, IPC_STR, HASH_MAX),
};

MESSAGE(auth_verify_user, 100);
MESSAGE(auth_verify_token, 101);
MESSAGE(auth_user, 102);
MESSAGE(auth_make_token, 103);
MESSAGE(auth_token, 104);
MESSAGE(auth_verify_admin, 105);
MESSAGE(auth_admin, 106);
MESSAGE(auth_hash, 107);
MESSAGE(auth_hashed, 108);
MESSAGE(auth_ask, 109);
MESSAGE(auth_asked, 110);

bool auth_env_valid(struct ipc_bytes env)
{
    const char *p = env.data;
    size_t nuls = 0;

    for (size_t i = 0; i < env.len; i++)
        nuls += p[i] == 0;
    return nuls % 2 == 0 && (env.len == 0 || p[env.len - 1] == 0);
}
