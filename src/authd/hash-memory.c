// SPDX-License-Identifier: GPL-3.0-or-later
/* Huge pages for libcrypt. It maps 16 MiB for each hash, touches all of it and unmaps it; with
 * small pages their 4,096 faults take a third of a login's time. It has no way to say how its
 * memory is to be, but its call of mmap() finds this program's own. Where the kernel gives huge
 * pages to everybody (transparent_hugepage/enabled is "always", as Debian sets it) this changes
 * nothing. */
#undef _FILE_OFFSET_BITS /* which gives mmap() another name */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LARGE (8 << 20)

/* The sanitizers bring an mmap() of their own. */
#ifndef __SANITIZE_ADDRESS__

__attribute__((visibility("default"))) void *mmap(void *addr, size_t len, int prot, int flags,
                                                  int fd, off_t offset)
{
    void *p = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);

    if (p != MAP_FAILED && len >= LARGE && (flags & MAP_ANONYMOUS))
        (void)madvise(p, len, MADV_HUGEPAGE);
    return p;
}

#endif
