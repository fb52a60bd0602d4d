// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What hkd and the broker ask qvd-rpc, the only reader of VMAs' answers. Types 120 to 129.
 *
 * The asker has dialled the VM's VMA port (non-blocking, perhaps still connecting) and passes the
 * socket; qvd-rpc speaks one HTTP request on it as wire/vma.h tells, closes it, and answers once.
 */

#include "ipc/codec.h"

#define RPC_SECRET_LEN 32

enum rpc_status {
    RPC_OK,          /* authenticated answer, status 200 */
    RPC_REFUSED,     /* authenticated answer of another status: text tells the VMA's reason */
    RPC_UNREACHABLE, /* connection refused, reset or closed before an answer */
    RPC_TIMEOUT,
    RPC_BAD_ANSWER, /* not HTTP, too long, wrong MAC, wrong shape */
    RPC_BUSY,       /* too many calls at once */
    RPC_STATUS_MAX
};

struct rpc_call {
    uint64_t id;
    const char *function;    /* ping, x_start, ... */
    uint64_t serial;         /* 0 for ping and x_state */
    uint32_t timeout_ms;     /* of the whole call */
    struct ipc_bytes secret; /* RPC_SECRET_LEN bytes */
    const char *body;        /* JSON object */
};
struct rpc_result {
    uint64_t id;
    uint32_t status;      /* enum rpc_status */
    uint32_t http_status; /* 0 without an authenticated answer */
    const char *state;    /* the VMA's x state word, "" when none or unknown */
    const char *text;     /* printable UTF-8, one line: for logs and refusals */
};

extern const struct ipc_message rpc_call_msg; /* with the socket */
extern const struct ipc_message rpc_result_msg;
