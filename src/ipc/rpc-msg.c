// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/rpc-msg.h"

static const struct ipc_field rpc_call_fields[] = {
    IPC_FIELD(struct rpc_call, id, IPC_U64, 0),
    IPC_FIELD(struct rpc_call, function, IPC_STR, 32),
    IPC_FIELD(struct rpc_call, serial, IPC_U64, 0),
    IPC_FIELD(struct rpc_call, timeout_ms, IPC_U32, 3660000),
    IPC_FIELD(struct rpc_call, secret, IPC_BYTES, RPC_SECRET_LEN),
    IPC_FIELD(struct rpc_call, body, IPC_STR, 15000),
};
static const struct ipc_field rpc_result_fields[] = {
    IPC_FIELD(struct rpc_result, id, IPC_U64, 0),
    IPC_FIELD(struct rpc_result, status, IPC_U32, RPC_STATUS_MAX - 1),
    IPC_FIELD(struct rpc_result, http_status, IPC_U32, 999),
    IPC_FIELD(struct rpc_result, state, IPC_STR, 32),
    IPC_FIELD(struct rpc_result, text, IPC_STR, 512),
};

const struct ipc_message rpc_call_msg = {.type = 120,
                                         .fd = true,
                                         .name = "rpc_call",
                                         .size = sizeof(struct rpc_call),
                                         .fields = rpc_call_fields,
                                         .n_fields = ARRAY_SIZE(rpc_call_fields)};
const struct ipc_message rpc_result_msg = {.type = 121,
                                           .name = "rpc_result",
                                           .size = sizeof(struct rpc_result),
                                           .fields = rpc_result_fields,
                                           .n_fields = ARRAY_SIZE(rpc_result_fields)};
