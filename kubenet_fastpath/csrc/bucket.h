/* A hash index of 32-bit references in buckets of one cache line.
 *
 * A bucket holds 12 references, a tag byte for each (0: empty), and a count of the references that
 * found it full and went on. A lookup compares 12 tags at once and stops at the first bucket that
 * nobody passed, so a deletion leaves no tombstone and a table does not decay (the idea of F14,
 * Bronson and Shi 2019). What a reference names, and when keys are equal, is the caller's business.
 *
 * Probing: bucket i, i + d, i + 2d, ... with d = 2 * tag + 1; d is odd, so all buckets are reached.
 */
#ifndef KF_BUCKET_H
#define KF_BUCKET_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__SSE2__) && !defined(KF_SCALAR)
#include <emmintrin.h>
#endif

enum { KF_SLOTS = 12, KF_SLOT_MASK = 0xFFF };

typedef struct {
    uint8_t tag[KF_SLOTS];
    uint32_t passed;            /* references that found this bucket full */
    uint32_t ref[KF_SLOTS];
} kf_bucket;

typedef struct {
    kf_bucket *bucket;          /* mask + 1 of them, 64-byte aligned */
    uint64_t mask;
    uint64_t used;              /* references held */
} kf_index;

static inline uint8_t kf_tag(uint64_t hash)
{
    uint8_t tag = (uint8_t)(hash >> 56);
    return tag ? tag : 1;
}

static inline kf_bucket *kf_home(const kf_index *x, uint64_t hash) { return &x->bucket[hash & x->mask]; }

/* The empty statement keeps gcc from finding that a function which only prefetches has no effect. */
static inline void kf_prefetch(const void *p)
{
    __builtin_prefetch(p);
    __asm__ volatile("");
}

/* Bit s is set where slot s carries the tag. */
static inline uint32_t kf_match(const kf_bucket *b, uint8_t tag)
{
#if defined(__SSE2__) && !defined(KF_SCALAR)
    __m128i tags = _mm_load_si128((const __m128i *)b);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag))) & KF_SLOT_MASK;
#else
    uint32_t mask = 0;
    for (int s = 0; s < KF_SLOTS; s++)
        mask |= (uint32_t)(b->tag[s] == tag) << s;
    return mask;
#endif
}

static inline int kf_first(uint32_t mask) { return __builtin_ctz(mask); }

/* Room for at least `references` at 85 % load, a large index in huge pages. 0, or -1 without memory. */
static inline int kf_index_init(kf_index *x, uint64_t references)
{
    uint64_t buckets = 1, huge = 2 << 20;
    while (buckets * KF_SLOTS * 85 / 100 < references)
        buckets *= 2;
    int large = buckets * sizeof(kf_bucket) >= huge;
    x->bucket = (kf_bucket *)aligned_alloc(large ? huge : 64, buckets * sizeof(kf_bucket));
    if (!x->bucket)
        return -1;
    if (large)
        madvise(x->bucket, buckets * sizeof(kf_bucket), MADV_HUGEPAGE);
    memset(x->bucket, 0, buckets * sizeof(kf_bucket));
    x->mask = buckets - 1;
    x->used = 0;
    return 0;
}

static inline void kf_index_free(kf_index *x)
{
    free(x->bucket);
    x->bucket = NULL;
}

static inline int kf_index_full(const kf_index *x)
{
    return x->used >= (x->mask + 1) * KF_SLOTS * 85 / 100;
}

/* The caller has made sure that the reference is not there and that the index is not full. */
static inline void kf_index_insert(kf_index *x, uint64_t hash, uint32_t ref)
{
    uint8_t tag = kf_tag(hash);
    uint64_t i = hash, step = 2 * (uint64_t)tag + 1;
    for (;; i += step) {
        kf_bucket *b = &x->bucket[i & x->mask];
        uint32_t empty = kf_match(b, 0);
        if (empty) {
            int s = kf_first(empty);
            b->tag[s] = tag;
            b->ref[s] = ref;
            x->used++;
            return;
        }
        b->passed++;
    }
}

/* 1 if the reference was there. */
static inline int kf_index_erase(kf_index *x, uint64_t hash, uint32_t ref)
{
    uint8_t tag = kf_tag(hash);
    uint64_t i = hash, step = 2 * (uint64_t)tag + 1, n = 0;
    for (;; i += step, n++) {
        kf_bucket *b = &x->bucket[i & x->mask];
        for (uint32_t m = kf_match(b, tag); m; m &= m - 1) {
            int s = kf_first(m);
            if (b->ref[s] != ref)
                continue;
            b->tag[s] = 0;
            x->used--;
            for (i = hash; n--; i += step)
                x->bucket[i & x->mask].passed--;
            return 1;
        }
        if (!b->passed || n > x->mask)
            return 0;
    }
}

#endif
