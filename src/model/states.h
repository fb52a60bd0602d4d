// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The words of the other states and commands, as database, API and clients spell them. */

#include "base/table.h"

enum host_state {
    HOST_STOPPED,
    HOST_STARTING,
    HOST_RUNNING,
    HOST_STOPPING,
    HOST_LOST, /* set by other nodes */
    HOST_STATE_MAX,
    HOST_STATE_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(host_state, enum host_state);

enum user_state {
    USER_DISCONNECTED,
    USER_CONNECTING,
    USER_CONNECTED,
    USER_STATE_MAX,
    USER_STATE_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(user_state, enum user_state);

/* VM_CMD_NONE is SQL's NULL and has no word. */
enum vm_cmd { VM_CMD_NONE, VM_CMD_START, VM_CMD_STOP, VM_CMD_MAX, VM_CMD_INVALID = -1 };
QVD_STRING_TABLE_DECLARE(vm_cmd, enum vm_cmd);

enum di_state {
    DI_NEW,
    DI_GENERATING,
    DI_FAIL,
    DI_UPLOADING,
    DI_UPLOAD_STALLED,
    DI_VERIFYING,
    DI_READY,
    DI_PUBLISHED,
    DI_RETIRED,
    DI_STATE_MAX,
    DI_STATE_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(di_state, enum di_state);
