// SPDX-License-Identifier: GPL-3.0-or-later
/* PROXY headers, whole and in all their beginnings. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "http/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct proxy_header whole, part;
    uint8_t address[16];
    ssize_t n = proxy_header_parse(data, len, &whole);

    if (n > (ssize_t)len || n > PROXY_HEADER_MAX || (n < 0 && n != -EBADMSG))
        abort();
    if (n > 0 && whole.source[0] && inet_pton(AF_INET, whole.source, address) != 1 &&
        inet_pton(AF_INET6, whole.source, address) != 1)
        abort();
    /* What is whole is so in no shorter a piece, and what begins right is not refused earlier. */
    for (size_t i = 0; n > 0 && i < (size_t)n; i++)
        if (proxy_header_parse(data, i, &part) != 0)
            abort();
    if (n > 0 &&
        (proxy_header_parse(data, (size_t)n, &part) != n || strcmp(part.source, whole.source) != 0))
        abort();
    return 0;
}
