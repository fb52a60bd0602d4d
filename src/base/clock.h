// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Time that does not jump. Nothing decides by the wall clock. */

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t clock_ms(void);
/* Microseconds of CLOCK_MONOTONIC. */
int64_t clock_us(void);
/* Milliseconds of CLOCK_BOOTTIME: goes on while the machine is suspended. */
int64_t clock_boot_ms(void);
/* Wall clock in microseconds since 1970, for what people read; never compared. */
int64_t clock_wall_us(void);
