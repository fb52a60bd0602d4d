// SPDX-License-Identifier: GPL-3.0-or-later
/* Our own messages: what a process of ours takes from another. A datagram that is taken must be
 * exactly what the same message gives when it is sent again. */
#include <stdlib.h>
#include <string.h>

#include "ipc/auth-msg.h"
#include "ipc/l7r-msg.h"
#include "ipc/rpc-msg.h"

static const struct ipc_message *const others[] = {
    &auth_verify_user_msg, &auth_verify_token_msg, &auth_user_msg,  &auth_make_token_msg,
    &auth_token_msg,       &auth_verify_admin_msg, &auth_admin_msg, &auth_hash_msg,
    &auth_hashed_msg,      &rpc_call_msg,          &rpc_result_msg,
};

static void try_as(const struct ipc_message *m, uint16_t type, const uint8_t *data, size_t len)
{
    _Alignas(16) char msg[1024];
    struct buf again;

    if (m->size > sizeof msg)
        abort();
    if (ipc_decode(m, data, len, msg) < 0)
        return;
    if (type != m->type)
        abort();
    buf_init(&again, 0);
    if (ipc_encode(m, msg, &again) < 0 || again.len != len || memcmp(again.data, data, len) != 0)
        abort();
    buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint16_t type = 0;

    if (ipc_peek(data, len, &type) < 0)
        return 0;
    for (size_t i = 0; l7r_messages[i]; i++)
        try_as(l7r_messages[i], type, data, len);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        try_as(others[i], type, data, len);
    return 0;
}
