// SPDX-License-Identifier: GPL-3.0-or-later
#include "auth/token.h"

#include <openssl/sha.h>
#include <string.h>

#include "base/str.h"

int token_new(char dst[TOKEN_LEN + 1])
{
    return random_alnum(dst, TOKEN_LEN);
}

void token_hash(const char *token, uint8_t dst[TOKEN_HASH_LEN])
{
    SHA256((const unsigned char *)token, strlen(token), dst);
}
