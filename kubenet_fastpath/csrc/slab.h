/* A large zeroed range of memory that never moves. Pages come as they are touched, in pieces of 2 MiB
 * where the system has them: with 4 KiB pages a random access to a large table misses the TLB too. */
#ifndef KF_SLAB_H
#define KF_SLAB_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { KF_HUGE = 2 << 20, KF_LINE = 64 };

static inline size_t kf_slab_bytes(size_t bytes) { return (bytes + KF_HUGE - 1) & ~(size_t)(KF_HUGE - 1); }

static inline void *kf_slab_alloc(size_t bytes)
{
    size_t size = kf_slab_bytes(bytes);
    uint8_t *p = (uint8_t *)mmap(NULL, size + KF_HUGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t head = -(uintptr_t)p & (KF_HUGE - 1);
    if (head)
        munmap(p, head);
    munmap(p + head + size, KF_HUGE - head);
    madvise(p + head, size, MADV_HUGEPAGE);
    return p + head;
}

static inline void kf_slab_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, kf_slab_bytes(bytes));
}

/* The same for a range that may be small; it begins at a cache line. */
static inline void *kf_zeroed_alloc(size_t bytes)
{
    if (bytes >= KF_HUGE)
        return kf_slab_alloc(bytes);
    void *p = NULL;
    if (posix_memalign(&p, KF_LINE, bytes) != 0)
        return NULL;
    return memset(p, 0, bytes);
}

static inline void kf_zeroed_free(void *p, size_t bytes)
{
    if (bytes < KF_HUGE)
        free(p);
    else
        kf_slab_free(p, bytes);
}

#endif
