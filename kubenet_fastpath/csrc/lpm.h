/* The arrays that a longest-prefix lookup reads: one block without pointers, so that it can be copied, saved
 * and mapped as it is. Its head says which engine drew it; offsets are in bytes from the head.
 *
 * Slots are of two widths. A slot of two bytes is read as int16 and sign-extended, one of four as it is:
 *
 *     hop     narrow 0..0x7FFF             wide 0..0x7FFFFFFF, or KF_POOL | place in the pool
 *     child   narrow 0x8000 | number       wide KF_CHILD | what the engine needs to find it
 *     miss    narrow 0xFFFF                wide 0xFFFFFFFF
 *
 * The pool holds next hops that do not fit (all of them where `pooled`): a hash table, free places are KF_MISS.
 */
#ifndef KF_LPM_H
#define KF_LPM_H

#include <stddef.h>
#include <stdint.h>

#include "isa.h"

#define KF_LPM_MAGIC "KFROUTES"
enum { KF_LPM_VERSION = 2 };
enum { KF_DENSE16, KF_DENSE24, KF_RANK, KF_BTREE };
enum { KF_LPM_HEAD = 64, KF_LINE_BYTES = 64 };

#define KF_MISS 0xFFFFFFFFu
#define KF_CHILD 0x80000000u
#define KF_POOL 0xC0000000u
#define KF_PLACE 0x3FFFFFFFu

typedef struct {
    char magic[8];
    uint32_t version;
    uint8_t family, engine, width, pooled;
    uint64_t size;          /* in use, of the whole block */
    uint64_t pool;          /* offset of uint32 hops */
    uint64_t root;          /* offset of the first slots or entries */
    uint64_t arena;         /* offset that leaf indices count from */
    uint32_t pool_size;     /* a power of two, or 0 */
    uint32_t arena_size;    /* in lines of 64 bytes */
    uint32_t prefixes;      /* how many follow the block in a file, and the CRC-32 of all that; else 0 */
    uint32_t crc;
} kf_lpm;

_Static_assert(sizeof(kf_lpm) == KF_LPM_HEAD, "the head is one line");

#define KF_INLINE static inline __attribute__((always_inline))

static inline const void *kf_at(const kf_lpm *t, uint64_t offset) { return (const char *)t + offset; }

/* Neither a hop that stands for itself nor KF_MISS. */
static inline uint32_t kf_is_special(uint32_t v) { return (v + 1) >> 31; }

KF_INLINE uint32_t kf_slot_load(const char *p, int width)
{
    int16_t narrow;
    uint32_t wide;
    if (width == 2) {
        __builtin_memcpy(&narrow, p, 2);
        return (uint32_t)(int32_t)narrow;
    }
    __builtin_memcpy(&wide, p, 4);
    return wide;
}

KF_INLINE int kf_is_child(int width, uint32_t v)
{
    return width == 2 ? kf_is_special(v) : v >> 30 == KF_CHILD >> 30;
}

/* Replace what stands for a hop of the pool by that hop; only where there is a pool. Kept inside it whatever v is: it
 * may lie in a caller's array, into which another thread writes by mistake. */
static inline uint32_t kf_hop_of(const kf_lpm *t, uint32_t v)
{
    const uint32_t *pool = (const uint32_t *)kf_at(t, t->pool);
    if (t->width == 2)
        return t->pooled && v != KF_MISS ? pool[v & (t->pool_size - 1)] : v;
    return v >= KF_POOL && v != KF_MISS ? pool[v & (t->pool_size - 1)] : v;
}

static inline void kf_hops_of(const kf_lpm *t, uint32_t *hop, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        hop[i] = kf_hop_of(t, hop[i]);
}

#endif
