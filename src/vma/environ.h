// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The environment of a session's programs: from nothing, not from the monitor's. */

#include "conf/conf.h"
#include "vma/user.h"
#include "wire/vma.h"

struct environ_list;

/* HOME, USER, DISPLAY, LANG and the like; the image's files /etc/environment, /etc/default/locale,
 * /etc/locale.conf come in between. NULL when out of memory. */
must_check struct environ_list *environ_new(const struct conf *conf, const struct user *user,
                                            const struct wire_params *params, unsigned display);
struct environ_list *environ_free(struct environ_list *e);
/* For exec; ended by NULL; lives as long as e. */
const char *const *environ_get(const struct environ_list *e);
/* One line of such a file, "NAME=value" with or without quotes and export: 0 (NULL texts for a
 * comment or an empty line) or -EINVAL. Texts point into line, which is changed. */
must_check int environ_parse_line(char *line, const char **ret_name, const char **ret_value);
