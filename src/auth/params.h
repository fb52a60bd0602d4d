// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What plugins have the VM's agent told with a session: names and texts, of which the later of two
 * of one name holds. */

#include <stddef.h>

#include "base/cleanup.h"

struct auth_params;

#define AUTH_PARAMS_MAX 8192 /* bytes of their JSON */

/* NULL: out of memory. */
must_check struct auth_params *auth_params_new(void);
struct auth_params *auth_params_free(struct auth_params *p);
/* 0; -EINVAL: not UTF-8, or an empty name; -E2BIG: they would be too long together; -ENOMEM. */
for_plugins must_check int auth_params_set(struct auth_params *p, const char *name,
                                           const char *value);
/* As a JSON object; free it. NULL: out of memory. */
must_check char *auth_params_json(const struct auth_params *p);
