// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/states.h"

static const char *const host_table[HOST_STATE_MAX] = {
    [HOST_STOPPED] = "stopped",   [HOST_STARTING] = "starting", [HOST_RUNNING] = "running",
    [HOST_STOPPING] = "stopping", [HOST_LOST] = "lost",
};
static const char *const user_table[USER_STATE_MAX] = {
    [USER_DISCONNECTED] = "disconnected",
    [USER_CONNECTING] = "connecting",
    [USER_CONNECTED] = "connected",
};
static const char *const cmd_table[VM_CMD_MAX] = {
    [VM_CMD_START] = "start",
    [VM_CMD_STOP] = "stop",
};
static const char *const di_table[DI_STATE_MAX] = {
    [DI_NEW] = "new",
    [DI_GENERATING] = "generating",
    [DI_FAIL] = "fail",
    [DI_UPLOADING] = "uploading",
    [DI_UPLOAD_STALLED] = "upload_stalled",
    [DI_VERIFYING] = "verifying",
    [DI_READY] = "ready",
    [DI_PUBLISHED] = "published",
    [DI_RETIRED] = "retired",
};

QVD_STRING_TABLE_DEFINE(host_state, enum host_state, host_table, HOST_STATE_INVALID)
QVD_STRING_TABLE_DEFINE(user_state, enum user_state, user_table, USER_STATE_INVALID)
QVD_STRING_TABLE_DEFINE(vm_cmd, enum vm_cmd, cmd_table, VM_CMD_INVALID)
QVD_STRING_TABLE_DEFINE(di_state, enum di_state, di_table, DI_STATE_INVALID)
