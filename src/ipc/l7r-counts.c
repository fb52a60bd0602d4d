// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/l7r-counts.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/str.h"

#define CELLS 16384u

struct shared {
    uint64_t key[2];
    /* By the master. What is not used is passed over, and its page stays untouched. */
    _Atomic uint8_t used[L7R_COUNTS_REGIONS];
    _Atomic uint32_t cells[L7R_COUNTS_REGIONS][CELLS];
};

struct l7r_counts {
    struct shared *shared;
};

static must_check int map(int fd, struct l7r_counts **ret_counts)
{
    struct l7r_counts *c = calloc(1, sizeof *c);

    if (!c)
        return -ENOMEM;
    void *at = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        free(c);
        return -errno;
    }
    c->shared = at;
    *ret_counts = c;
    return 0;
}

int l7r_counts_new(struct l7r_counts **ret_counts, int *ret_fd)
{
    _cleanup_(close_p) int fd = memfd_create("qvd-l7r-counts", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct l7r_counts *c = NULL;

    if (fd < 0 || ftruncate(fd, sizeof(struct shared)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return -errno;
    int r = map(fd, &c);
    if (r == 0)
        r = random_bytes(c->shared->key, sizeof c->shared->key);
    if (r < 0) {
        c = l7r_counts_free(c);
        return r;
    }
    *ret_counts = c;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int l7r_counts_open(int fd, struct l7r_counts **ret_counts)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    return st.st_size == (off_t)sizeof(struct shared) ? map(fd, ret_counts) : -EBADMSG;
}

struct l7r_counts *l7r_counts_free(struct l7r_counts *c)
{
    if (c) {
        (void)munmap(c->shared, sizeof(struct shared));
        free(c);
    }
    return NULL;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Two cells for an address. The key is random: nobody can choose addresses that meet in both. */
static void cells_of(const struct shared *s, const char *address, unsigned ret[2])
{
    uint64_t h = s->key[0];

    for (const char *at = address; *at; at++)
        h = mix(h ^ (uint8_t)*at) + s->key[1];
    ret[0] = (unsigned)(h % CELLS);
    ret[1] = (unsigned)((h >> 32) % CELLS);
}

static unsigned sum(struct shared *s, unsigned cell)
{
    unsigned total = 0;

    for (unsigned i = 0; i < L7R_COUNTS_REGIONS; i++)
        if (atomic_load_explicit(&s->used[i], memory_order_relaxed))
            total += atomic_load_explicit(&s->cells[i][cell], memory_order_relaxed);
    return total;
}

unsigned l7r_counts_enter(struct l7r_counts *c, unsigned region, const char *address)
{
    unsigned cells[2];

    cells_of(c->shared, address, cells);
    /* One after the other: two workers that take the last place at once both see it taken. */
    for (int i = 0; i < 2; i++)
        atomic_fetch_add(&c->shared->cells[region][cells[i]], 1);
    unsigned a = sum(c->shared, cells[0]), b = sum(c->shared, cells[1]);
    /* Both cells may be the same one. */
    if (cells[0] == cells[1])
        return a / 2;
    return a < b ? a : b;
}

void l7r_counts_leave(struct l7r_counts *c, unsigned region, const char *address)
{
    unsigned cells[2];

    cells_of(c->shared, address, cells);
    for (int i = 0; i < 2; i++)
        atomic_fetch_sub(&c->shared->cells[region][cells[i]], 1);
}

int l7r_counts_take_region(struct l7r_counts *c)
{
    for (int i = 0; i < L7R_COUNTS_REGIONS; i++)
        if (!atomic_load(&c->shared->used[i])) {
            atomic_store(&c->shared->used[i], 1);
            return i;
        }
    return -ENOSPC;
}

void l7r_counts_give_region(struct l7r_counts *c, unsigned region)
{
    atomic_store(&c->shared->used[region], 0);
    memset((void *)c->shared->cells[region], 0, sizeof c->shared->cells[region]);
}
