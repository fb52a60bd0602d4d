// SPDX-License-Identifier: GPL-3.0-or-later
/* The words of the agent's wire. */
#include "wire/vma.h"

static const char *const function_table[WIRE_VMA_FUNCTION_MAX] = {
    [WIRE_VMA_PING] = "ping",           [WIRE_VMA_X_STATE] = "x_state",
    [WIRE_VMA_X_START] = "x_start",     [WIRE_VMA_X_RESET] = "x_reset",
    [WIRE_VMA_X_SUSPEND] = "x_suspend", [WIRE_VMA_X_STOP] = "x_stop",
    [WIRE_VMA_POWEROFF] = "poweroff",   [WIRE_VMA_EXPIRE] = "expire",
};
QVD_STRING_TABLE_DEFINE(wire_vma_function, enum wire_vma_function, function_table,
                        WIRE_VMA_FUNCTION_INVALID)

static const char *const state_table[WIRE_X_STATE_MAX] = {
    [WIRE_X_STOPPED] = "stopped",           [WIRE_X_STARTING] = "starting",
    [WIRE_X_PROVISIONING] = "provisioning", [WIRE_X_LISTENING] = "listening",
    [WIRE_X_CONNECTED] = "connected",       [WIRE_X_SUSPENDING] = "suspending",
    [WIRE_X_SUSPENDED] = "suspended",       [WIRE_X_STOPPING] = "stopping",
};
QVD_STRING_TABLE_DEFINE(wire_x_state, enum wire_x_state, state_table, WIRE_X_STATE_INVALID)

bool wire_vma_is_order(enum wire_vma_function f)
{
    return f != WIRE_VMA_PING && f != WIRE_VMA_X_STATE;
}
