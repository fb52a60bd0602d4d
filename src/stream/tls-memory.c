// SPDX-License-Identifier: GPL-3.0-or-later
/* The large blocks of OpenSSL's memory (buffers of a handshake and of records) in a program of many
 * connections. Once thousands of sessions have left their holes in the heap, malloc searches long
 * for each of them: a sixth of a handshake. Here what was given back last is given out next. Only
 * addresses are kept: nothing is written into free blocks, and what is in them OpenSSL has cleansed
 * where it holds a secret, as with malloc. */
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "stream/tls.h"

#define LARGE_MIN 1033 /* below, malloc itself keeps some of each size at hand */
#define LARGE_MAX (24 * 1024)
#define KEPT_MAX 64

/* The newest is the last. */
static _Thread_local size_t n_kept;
static _Thread_local struct kept {
    size_t size;
    void *block;
} kept[KEPT_MAX];

static void forget(size_t i)
{
    n_kept--;
    memmove(kept + i, kept + i + 1, (n_kept - i) * sizeof *kept);
}

/* None much larger than what is asked for: it may stay with an idle session. */
static void *take(size_t size, const char *file, int line)
{
    bool large = size >= LARGE_MIN && size <= LARGE_MAX;

    for (size_t i = large ? n_kept : 0; i-- > 0;) {
        if (kept[i].size < size || kept[i].size > size + size / 32)
            continue;
        void *block = kept[i].block;
        forget(i);
        return block;
    }
    return size ? malloc(size) : NULL;
}

static void give_back(void *block, const char *file, int line)
{
    size_t size = block ? malloc_usable_size(block) : 0;

    if (size < LARGE_MIN || size > LARGE_MAX) {
        free(block);
        return;
    }
    if (n_kept == KEPT_MAX) {
        free(kept[0].block);
        forget(0);
    }
    kept[n_kept++] = (struct kept){size, block};
}

static void *change(void *block, size_t size, const char *file, int line)
{
    return block ? realloc(block, size) : take(size, file, line);
}

void tls_keep_memory(void)
{
#ifndef __SANITIZE_ADDRESS__ /* which finds out who uses what was given back */
    (void)CRYPTO_set_mem_functions(take, change, give_back);
#endif
}
