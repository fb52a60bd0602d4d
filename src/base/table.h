// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* String tables of enums: one array, a name for each value, both ways. */

#include <string.h>

#include "base/cleanup.h"

/* Declares const char *PREFIX_to_string(enum) (NULL for the unknown) and
 * enum PREFIX_from_string(const char *) (INVALID for the unknown; s may be NULL). */
#define QVD_STRING_TABLE_DECLARE(prefix, type)                                                     \
    const char *prefix##_to_string(type value);                                                    \
    type prefix##_from_string(const char *s)

/* Defines both over an array of strings indexed by the enum; holes are allowed. */
#define QVD_STRING_TABLE_DEFINE(prefix, type, table, invalid)                                      \
    const char *prefix##_to_string(type value)                                                     \
    {                                                                                              \
        return (int)value >= 0 && (size_t)value < ARRAY_SIZE(table) ? table[value] : NULL;         \
    }                                                                                              \
    type prefix##_from_string(const char *s)                                                       \
    {                                                                                              \
        for (size_t i = 0; s && i < ARRAY_SIZE(table); i++)                                        \
            if (table[i] && strcmp(table[i], s) == 0)                                              \
                return (type)i;                                                                    \
        return invalid;                                                                            \
    }
