// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/log-msg.h"

#include <string.h>

#include "base/log.h"

static const struct ipc_field fields[] = {
    IPC_FIELD(struct ipc_log, level, IPC_U32, LOG_LEVEL_MAX - 1),
    IPC_FIELD(struct ipc_log, facility, IPC_U32, 23),
};
const struct ipc_message ipc_log_msg = {.type = 1,
                                        .fd = true,
                                        .name = "ipc_log",
                                        .size = sizeof(struct ipc_log),
                                        .fields = fields,
                                        .n_fields = ARRAY_SIZE(fields)};

void ipc_log_send(struct ipc_channel *c)
{
    const struct ipc_log m = {(uint32_t)log_get_level(), (uint32_t)log_get_facility()};
    int r = c ? ipc_send(c, &ipc_log_msg, &m, log_fd()) : 0;

    if (r < 0)
        log_warning("a child does not take the new target of its log: %s", strerror(-r));
}

int ipc_on_log(void *owner, const void *msg, int *fd)
{
    const struct ipc_log *m = msg;

    log_take(TAKE_FD(*fd), (enum log_level)m->level, (int)m->facility);
    return 0;
}
