// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The person's time zone and language in this system. */

#include <stdbool.h>

/* The desktop's system takes the client's zone, so that programs that run already and those that
 * start at a resume show it too: /etc/localtime, /etc/timezone. What is no name of a zone that the
 * image has is logged and changes nothing; NULL and "" change nothing. */
void region_set_timezone(const char *zone);
/* A zone of the image that could not be made the system's (a read-only root): TZ must tell it. */
bool region_zone_needs_env(const char *zone);
/* "Europe/Madrid", by its characters only. */
bool region_zone_is_good(const char *zone);
/* A locale that the image has ("es_ES.UTF-8"). */
bool region_has_locale(const char *name);
