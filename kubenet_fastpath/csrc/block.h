/* Memory of a block of lookup arrays, and the stores by which readers of other threads learn of changes. */
#ifndef KF_BLOCK_H
#define KF_BLOCK_H

#include <stdlib.h>
#include <sys/mman.h>

#include "lpm.h"

#define kf_publish(place, value) __atomic_store_n((place), (value), __ATOMIC_RELEASE)

/* Large memory lies on pages of 2 MiB: with 4 KiB pages a lookup misses the TLB too. Pages come as they are touched. */
static inline void *kf_memory(uint64_t size)
{
    enum { HUGE_PAGE = 2 << 20 };
    size_t page = size >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *memory;
    if (size > SIZE_MAX / 2)
        return NULL;
    memory = aligned_alloc(page, (size + page - 1) / page * page);
    if (memory && page == HUGE_PAGE)
        madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static inline kf_lpm *kf_block_alloc(uint64_t size) { return (kf_lpm *)kf_memory(size); }
static inline void kf_block_free(kf_lpm *block) { free(block); }

#endif
