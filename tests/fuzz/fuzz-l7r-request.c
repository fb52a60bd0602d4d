// SPDX-License-Identifier: GPL-3.0-or-later
/* What a client's head becomes: each request that is taken fits into the broker's message. */
#include <stdlib.h>
#include <string.h>

#include "ipc/auth-msg.h"
#include "l7r/worker/worker-internal.h"

static void check(const struct l7r_request *q)
{
    struct buf out;

    buf_init(&out, 0);
    if (ipc_encode(&l7r_request_msg, q, &out) < 0)
        abort();
    buf_done(&out);
    if (q->credentials == L7R_NONE && (q->login || q->secret))
        abort();
    if (q->flaw && !q->flaw_text)
        abort();
    const char *p = q->params.data;
    size_t nuls = 0;
    for (size_t i = 0; i < q->params.len; i++)
        nuls += p[i] == 0;
    /* The broker closes the channel of a worker that sends half a pair. */
    if (nuls % 2 != 0 || (q->params.len && p[q->params.len - 1] != 0))
        abort();
    if (!auth_env_valid(q->env))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct http_head *head = NULL;
    struct request_memory memory;
    struct l7r_request q;
    const char *why = NULL;
    ssize_t n = http_head_length(data, len, HTTP_HEAD_MAX);

    if (n <= 0 || http_head_parse(HTTP_REQUEST, data, (size_t)n, &head, NULL) != 0)
        return 0;
    int status = request_read(head, &memory, &q, &why);
    if (status == 0)
        check(&q);
    else if (!why)
        abort();
    request_done(&memory);
    (void)http_head_free(head);
    return 0;
}
