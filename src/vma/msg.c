// SPDX-License-Identifier: GPL-3.0-or-later
#include "vma/msg.h"

#include <string.h>

#define PARAMS_MAX 16000

static const struct ipc_field hello_fields[] = {
    IPC_FIELD(struct vma_hello, secret, IPC_BYTES, WIRE_VMA_SECRET_LEN),
};
static const struct ipc_field order_fields[] = {
    IPC_FIELD(struct vma_order, id, IPC_U64, 0),
    IPC_FIELD(struct vma_order, function, IPC_U32, WIRE_VMA_FUNCTION_MAX - 1),
    IPC_FIELD(struct vma_order, serial, IPC_U64, 0),
    IPC_FIELD(struct vma_order, params, IPC_BYTES, PARAMS_MAX),
};
static const struct ipc_field result_fields[] = {
    IPC_FIELD(struct vma_result, id, IPC_U64, 0),
    IPC_FIELD(struct vma_result, status, IPC_U32, 999),
    IPC_FIELD(struct vma_result, state, IPC_U32, WIRE_X_STATE_MAX - 1),
    IPC_FIELD(struct vma_result, text, IPC_STR, WIRE_VMA_TEXT_MAX),
};

static const struct ipc_field sent_fields[] = {
    IPC_FIELD(struct vma_sent, id, IPC_U64, 0),
};

const struct ipc_message vma_hello_msg = {.type = 170,
                                          .name = "vma_hello",
                                          .size = sizeof(struct vma_hello),
                                          .fields = hello_fields,
                                          .n_fields = ARRAY_SIZE(hello_fields)};
const struct ipc_message vma_order_msg = {.type = 171,
                                          .name = "vma_order",
                                          .size = sizeof(struct vma_order),
                                          .fields = order_fields,
                                          .n_fields = ARRAY_SIZE(order_fields)};
const struct ipc_message vma_result_msg = {.type = 172,
                                           .name = "vma_result",
                                           .size = sizeof(struct vma_result),
                                           .fields = result_fields,
                                           .n_fields = ARRAY_SIZE(result_fields)};

const struct ipc_message vma_sent_msg = {.type = 173,
                                         .name = "vma_sent",
                                         .size = sizeof(struct vma_sent),
                                         .fields = sent_fields,
                                         .n_fields = ARRAY_SIZE(sent_fields)};

int vma_params_pack(const struct wire_params *p, struct buf *out)
{
    for (size_t i = 0; i < wire_params_count(p); i++) {
        const char *texts[] = {wire_params_name(p, i), wire_params_value(p, i)};
        for (int t = 0; t < 2; t++) {
            int r = buf_append(out, texts[t], strlen(texts[t]) + 1);
            if (r < 0)
                return r;
        }
    }
    return out->len > PARAMS_MAX ? -ENOBUFS : 0;
}

int vma_params_unpack(const void *data, size_t len, struct wire_params *p)
{
    if (len == 0) /* data may be NULL */
        return 0;
    const char *at = data, *end = at + len;
    while (at < end) {
        const char *name = at, *name_end = memchr(at, '\0', end - at);
        const char *value = name_end ? name_end + 1 : end;
        const char *value_end = value < end ? memchr(value, '\0', end - value) : NULL;
        if (!value_end)
            return -EBADMSG;
        int r = wire_params_set(p, name, value);
        if (r < 0)
            return r == -ENOMEM ? r : -EBADMSG;
        at = value_end + 1;
    }
    return 0;
}
