// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Copies what lies in one folder into another that is there, as `cp -rT` does: modes by the umask,
 * links as links, nothing overwritten. Blocking: for a process of its own (qvd-vma --fill-home).
 * 0, or -errno with *err naming what could not be copied; the rest is then left out. */

#include "base/error.h"

must_check int skel_copy(const char *from, const char *to, struct qvd_error *err);
