// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The idioms for things that must be given back: _cleanup_ attributes, TAKE_*, must_check.
 *
 *     _cleanup_(free_p) char *name = NULL;
 *     _cleanup_(close_p) int fd = -EBADF;
 *     *ret_name = TAKE_PTR(name);
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check __attribute__((warn_unused_result))
/* What plugins of a program may call; all else is hidden from them. */
#define for_plugins __attribute__((visibility("default")))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))

/* The value; the variable is empty afterwards, so that its cleanup does nothing. */
#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) *take_at_ = &(p);                                                            \
        __typeof__(p) take_value_ = *take_at_;                                                     \
        *take_at_ = NULL;                                                                          \
        take_value_;                                                                               \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int *take_at_ = &(fd);                                                                     \
        int take_value_ = *take_at_;                                                               \
        *take_at_ = -EBADF;                                                                        \
        take_value_;                                                                               \
    })

static inline void free_p(void *p)
{
    free(*(void **)p);
}

static inline void close_p(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void fclose_p(FILE **f)
{
    if (*f)
        fclose(*f);
}

/* Closes when open; always -EBADF, so that fd = fd_close(fd). Keeps errno. */
static inline int fd_close(int fd)
{
    int saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
    return -EBADF;
}
