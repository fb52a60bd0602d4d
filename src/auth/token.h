// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Tokens of users: random, shown once, stored as their SHA-256. */

#include <stdint.h>

#include "base/cleanup.h"

#define TOKEN_LEN 43 /* letters and digits: 256 bits */
#define TOKEN_HASH_LEN 32

/* 0 or -errno. */
must_check int token_new(char dst[TOKEN_LEN + 1]);
void token_hash(const char *token, uint8_t dst[TOKEN_HASH_LEN]);
