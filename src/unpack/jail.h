// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The unpacker's cage: the new tree is its root, and of root's power it keeps what files of many
 * owners need. */

#include <stdint.h>

#include "base/error.h"

/* Makes dir the root; keeps CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID and SETFCAP; allows system
 * calls on files and memory only. After it there is no way back. 0, or -errno with err. */
must_check int jail_enter(const char *dir, uint64_t max_bytes, struct qvd_error *err);
