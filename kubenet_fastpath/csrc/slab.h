/* A large zeroed range of memory that never moves. Pages come as they are touched, behind the first 2 MiB in pieces of
 * that size where the system has them: with 4 KiB pages a random access to a large table misses the TLB too, but
 * of small tables there may be thousands. */
#ifndef KF_SLAB_H
#define KF_SLAB_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { KF_HUGE = 2 << 20, KF_LINE = 64 };

static inline size_t kf_slab_bytes(size_t bytes) { return (bytes + KF_HUGE - 1) & ~(size_t)(KF_HUGE - 1); }

/* At an address that is a multiple of 2 MiB. */
static inline void *kf_pages(size_t size)
{
    uint8_t *p = (uint8_t *)mmap(NULL, size + KF_HUGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t head = -(uintptr_t)p & (KF_HUGE - 1);
    if (head)
        munmap(p, head);
    munmap(p + head + size, KF_HUGE - head);
    return p + head;
}

static inline void *kf_slab_alloc(size_t bytes)
{
    size_t size = kf_slab_bytes(bytes);
    uint8_t *p = (uint8_t *)kf_pages(size);
    if (p && size > KF_HUGE)
        madvise(p + KF_HUGE, size - KF_HUGE, MADV_HUGEPAGE);
    return p;
}

/* Take the memory of all its pages now. It is zeroed already. */
static inline void kf_slab_touch(void *p, size_t bytes)
{
    for (size_t at = 0; at < kf_slab_bytes(bytes); at += 4096)
        ((volatile uint8_t *)p)[at] = 0;
}

static inline void kf_slab_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, kf_slab_bytes(bytes));
}

/* Zeroed cache lines, for free() to take back; from 2 MiB on in pieces of that size where the system has them. */
static inline void *kf_lines_alloc(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, bytes < KF_HUGE ? KF_LINE : KF_HUGE, bytes) != 0)
        return NULL;
    if (bytes >= KF_HUGE)
        madvise(p, bytes & ~(size_t)(KF_HUGE - 1), MADV_HUGEPAGE);
    return memset(p, 0, bytes);
}

#endif
