// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Numbers in messages of the X protocol, little-endian, as we open our connections. */

#include <stdint.h>

static inline uint32_t x_get_u16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static inline uint32_t x_get_u32(const uint8_t *p)
{
    return x_get_u16(p) | x_get_u16(p + 2) << 16;
}

static inline void x_put_u16(uint8_t *p, uint32_t value)
{
    p[0] = value & 0xff;
    p[1] = value >> 8 & 0xff;
}

static inline void x_put_u32(uint8_t *p, uint32_t value)
{
    x_put_u16(p, value & 0xffff);
    x_put_u16(p + 2, value >> 16);
}
