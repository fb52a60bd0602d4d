// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* llhttp's view of a request's head. In a file of its own, as its names clash with ours. */

#include "base/buf.h"

#include <stdbool.h>

struct oracle {
    struct buf text; /* target, names and values, a line each */
    bool complete, chunked;
    uint64_t content_length;
    const char *reason; /* of a refusal */
};

bool oracle_takes(const uint8_t *data, size_t len, struct oracle *ret);
