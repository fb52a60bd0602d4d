// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Who listens on a TCP port, as far as we may see it, and how to learn more, as the end of a
 * sentence: "nginx (pid 12) has it: stop it or choose another port". dst is returned. */
const char *port_holder(uint16_t port, char *dst, size_t size);
