// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What people type as their login: name and tenant in one word. */

#include <stdbool.h>

#include "base/cleanup.h"

#define LOGIN_NAME_MAX 256

struct login {
    char name[LOGIN_NAME_MAX];
    char tenant[LOGIN_NAME_MAX];
};

/* Cuts text at the first character of separators ("ann@lab", "ann#lab"); without one the tenant is
 * fallback. Both are trimmed, and lower-cased (ASCII) unless keep_case. 0, or -EINVAL: empty, too
 * long, not UTF-8, a control character. */
must_check int login_parse(const char *text, const char *separators, const char *fallback,
                           bool keep_case, struct login *ret);
/* One part alone, in place of dst of LOGIN_NAME_MAX: the same rules. */
must_check int login_normalize(const char *text, bool keep_case, char dst[LOGIN_NAME_MAX]);
