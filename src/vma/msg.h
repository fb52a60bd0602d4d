// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What qvd-vma's monitor (root) and its listener (no rights, parses) tell each other. Types 170 to
 * 179. */

#include "ipc/codec.h"
#include "wire/vma.h"

/* Monitor -> listener, first and once: the key, and what is answered without asking. */
struct vma_hello {
    struct ipc_bytes secret; /* WIRE_VMA_SECRET_LEN bytes */
};
/* Listener -> monitor: an authenticated request. */
struct vma_order {
    uint64_t id;
    uint32_t function;       /* enum wire_vma_function */
    uint64_t serial;         /* 0 for ping and x_state */
    struct ipc_bytes params; /* vma_params_pack() */
};
/* Monitor -> listener, once for each order. */
struct vma_result {
    uint64_t id;
    uint32_t status; /* of HTTP */
    uint32_t state;  /* enum wire_x_state */
    const char *text;
};

/* Listener -> monitor: the answer to that order has left the process. */
struct vma_sent {
    uint64_t id;
};

extern const struct ipc_message vma_hello_msg;
extern const struct ipc_message vma_order_msg;
extern const struct ipc_message vma_result_msg;
extern const struct ipc_message vma_sent_msg;

/* name NUL value NUL ... : 0, -ENOBUFS (over the limit of a message), -ENOMEM. */
must_check int vma_params_pack(const struct wire_params *p, struct buf *out);
/* 0; -EBADMSG: not of this form, or what wire_params_set() refuses; -ENOMEM. */
must_check int vma_params_unpack(const void *data, size_t len, struct wire_params *p);
