// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The migrations (migrations/NNNN_name.sql), embedded when the program is built. */

#include <stddef.h>

struct migration {
    int version; /* NNNN */
    const char *name;
    const char *sql;
    const char *sha256; /* hex, of the file */
};

/* In their order; versions rise. */
const struct migration *migrations(size_t *ret_n);
/* The version of the newest. */
int migrations_last(void);
