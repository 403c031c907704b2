/* A hash index of 32-bit references in buckets of one cache line, which grows a segment at a time.
 *
 * A bucket holds 12 references, a tag byte for each (0: empty), and a count of the references that
 * found it full and went on, with a trace of their hashes. A lookup compares 12 tags at once and stops at the first bucket
 * that nobody like it passed, so a deletion leaves no tombstone and a table does not decay (the idea of F14,
 * Bronson and Shi 2019; theirs has the count alone, and every miss goes on from a bucket that overflowed). What a reference names, and when keys are equal, is the caller's business.
 *
 * Probing: bucket i, i + d, i + 2d, ... with d = 2 * tag + 1; d is odd, so all buckets of the segment are reached.
 *
 * Buckets come in segments of up to 256, which a directory of pointers names by further bits of the hash. A segment that
 * is three quarters full is split in two by one bit more (extendible hashing: Fagin and others, TODS 1979), which takes
 * some 30 us; so no insertion waits longer, and lookups never have two places to look at. The first segment begins
 * small and doubles.
 */
#ifndef KF_BUCKET_H
#define KF_BUCKET_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "slab.h"
#if defined(__SSE2__) && !defined(KF_SCALAR)
#include <emmintrin.h>
#endif

enum { KF_SLOTS = 12, KF_SLOT_MASK = 0xFFF, KF_BUCKETS = 256, KF_FILL = 75, KF_DIRECTORY_BITS = 24 };
enum { KF_SINGLE = 32 };                                /* so many segments are allocated one by one */
enum { KF_STRAY = 192 };                                /* four standard deviations of a full segment's references */

typedef struct {
    uint8_t tag[KF_SLOTS];
    uint16_t passed;            /* references that found this bucket full; a segment has room for 3,072 */
    uint16_t trace;             /* a bit for each of 16 parts of their hashes, until none of them is left */
    uint32_t ref[KF_SLOTS];
} kf_bucket;

typedef struct {
    uint32_t used;              /* references held */
    uint32_t bits;              /* of the directory's index that all of these have in common */
    uint8_t unused[56];
    kf_bucket bucket[];
} kf_segment;

typedef struct {
    kf_segment **segment;       /* 1 << bits of them */
    uint64_t mask;              /* a segment has mask + 1 buckets */
    uint64_t used;              /* references held */
    uint32_t bits;
    uint32_t segments;
    uint32_t bytes;             /* of a bucket and what else a segment has for each */
    kf_segment *single[KF_SINGLE];
    void **block;               /* memory of the others, KF_HUGE bytes each */
    uint32_t blocks;            /* in use */
    uint32_t taken;             /* and those that wait for their turn */
    uint32_t left;              /* segments that fit into the latest in use */
} kf_index;

/* The hash of what a reference names, and a request for the memory that this will read. */
typedef uint64_t (*kf_hash_of)(const void *table, uint32_t ref);
typedef void (*kf_ask_for)(const void *table, uint32_t ref);

static inline uint8_t kf_tag(uint64_t hash)
{
    uint8_t tag = (uint8_t)(hash >> 56);
    return tag ? tag : 1;
}

static inline kf_segment *kf_segment_of(const kf_index *x, uint64_t hash)
{
    return x->segment[hash >> 32 & (((uint64_t)1 << x->bits) - 1)];
}

/* The n-th bucket of a probe sequence. */
static inline kf_bucket *kf_probe(const kf_index *x, uint64_t hash, uint64_t n)
{
    return &kf_segment_of(x, hash)->bucket[(hash + n * (2 * (uint64_t)kf_tag(hash) + 1)) & x->mask];
}

static inline kf_bucket *kf_home(const kf_index *x, uint64_t hash)
{
    return &kf_segment_of(x, hash)->bucket[hash & x->mask];
}

static inline uint16_t kf_trace(uint64_t hash) { return (uint16_t)(1u << (hash >> 8 & 15)); }

/* Whether what has this hash may lie in a further bucket. */
static inline int kf_passed(const kf_bucket *b, uint64_t hash) { return b->trace & kf_trace(hash); }

/* The empty statement keeps gcc from finding that a function which only prefetches has no effect. */
static inline void kf_prefetch(const void *p)
{
    __builtin_prefetch(p);
    __asm__ volatile("");
}

/* Ask for what an insertion of this hash will touch. */
static inline void kf_prefetch_insert(const kf_index *x, uint64_t hash)
{
    const kf_segment *segment = kf_segment_of(x, hash);
    kf_prefetch(segment);
    kf_prefetch(&segment->bucket[hash & x->mask]);
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

static inline size_t kf_segment_bytes(const kf_index *x, uint64_t buckets)
{
    return (sizeof(kf_segment) + buckets * x->bytes + 63) & ~(size_t)63;
}

static inline int kf_block_take(kf_index *x)
{
    void **block = (void **)realloc(x->block, (x->taken + 1) * sizeof *block);
    if (!block)
        return -1;
    x->block = block;
    block[x->taken] = kf_pages(KF_HUGE);
    if (!block[x->taken])
        return -1;
    madvise(block[x->taken++], KF_HUGE, MADV_HUGEPAGE);
    return 0;
}

/* A zeroed segment, or NULL. The first few by themselves; then many in one piece of memory with large pages. */
static inline kf_segment *kf_segment_new(kf_index *x, uint64_t buckets)
{
    const size_t bytes = kf_segment_bytes(x, buckets);
    kf_segment *s;
    if (x->segments < KF_SINGLE) {
        s = x->single[x->segments] = (kf_segment *)aligned_alloc(64, bytes);
        if (!s)
            return NULL;
    } else {
        if (!x->left) {
            if (x->blocks == x->taken && kf_block_take(x))
                return NULL;
            x->blocks++;
            x->left = (uint32_t)(KF_HUGE / bytes);
        }
        s = (kf_segment *)((char *)x->block[x->blocks - 1] + --x->left * bytes);
    }
    memset(s, 0, bytes);
    x->segments++;
    return s;
}

/* Take memory for so many references now. 0, or -1 without memory. */
static inline int kf_index_reserve(kf_index *x, uint64_t references)
{
    const uint64_t full = KF_BUCKETS * KF_SLOTS * KF_FILL / 100, in_block = KF_HUGE / kf_segment_bytes(x, KF_BUCKETS);
    uint64_t segments = 1, blocks;
    while (segments * (full + KF_STRAY) < references)
        segments *= 2;
    if (segments * (full - KF_STRAY) < references)      /* they divide one after the other: who has most, first */
        segments += (references - segments * (full - KF_STRAY)) / (2 * KF_STRAY);
    segments -= segments < KF_SINGLE ? segments : KF_SINGLE;
    blocks = (segments + in_block - 1) / in_block;
    while (x->taken < blocks) {
        if (kf_block_take(x))
            return -1;
        memset(x->block[x->taken - 1], 0, KF_HUGE);
    }
    return 0;
}

static inline void kf_index_free(kf_index *x)
{
    uint32_t i;
    for (i = 0; i < x->segments && i < KF_SINGLE; i++)
        free(x->single[i]);
    for (i = 0; i < x->taken; i++)
        munmap(x->block[i], KF_HUGE);
    free(x->block);
    free(x->segment);
    memset(x, 0, sizeof *x);
}

/* An empty index with so many buckets, a power of two up to KF_BUCKETS, each of so many bytes. 0, or -1 without memory. */
static inline int kf_index_make(kf_index *x, uint64_t buckets, uint32_t bytes)
{
    memset(x, 0, sizeof *x);
    x->mask = buckets - 1;
    x->bytes = bytes;
    x->segment = (kf_segment **)malloc(sizeof *x->segment);
    if (x->segment && (x->segment[0] = kf_segment_new(x, buckets)))
        return 0;
    kf_index_free(x);
    return -1;
}

/* An empty index with room for some references before it grows. 0, or -1 without memory. */
static inline int kf_index_init(kf_index *x, uint64_t references)
{
    uint64_t buckets = 1;
    while (buckets < KF_BUCKETS && buckets * KF_SLOTS * KF_FILL / 100 < references)
        buckets *= 2;
    return kf_index_make(x, buckets, sizeof(kf_bucket));
}

/* Bytes of memory that it has taken, used or not. */
static inline uint64_t kf_index_bytes(const kf_index *x)
{
    const uint64_t single = x->segments < KF_SINGLE ? x->segments : KF_SINGLE;
    return ((uint64_t)sizeof *x->segment << x->bits) + single * kf_segment_bytes(x, x->mask + 1) +
           x->taken * ((uint64_t)KF_HUGE + sizeof *x->block);
}

static inline void kf_segment_insert(kf_index *x, kf_segment *segment, uint64_t hash, uint32_t ref)
{
    uint8_t tag = kf_tag(hash);
    uint64_t i = hash, step = 2 * (uint64_t)tag + 1;
    for (;; i += step) {
        kf_bucket *b = &segment->bucket[i & x->mask];
        uint32_t empty = kf_match(b, 0);
        if (empty) {
            int s = kf_first(empty);
            b->tag[s] = tag;
            b->ref[s] = ref;
            segment->used++;
            return;
        }
        b->passed++;
        b->trace |= kf_trace(hash);
    }
}

/* The caller has made sure that the reference is not there, and that there is room (kf_index_room). */
static inline void kf_index_insert(kf_index *x, uint64_t hash, uint32_t ref)
{
    kf_segment_insert(x, kf_segment_of(x, hash), hash, ref);
    x->used++;
}

/* Twice the directory. */
static inline int kf_index_widen(kf_index *x)
{
    size_t n = (size_t)1 << x->bits;
    kf_segment **segment;
    if (x->bits == KF_DIRECTORY_BITS || n / 256 > x->segments)     /* the tag's bits follow; or hashes are chosen */
        return -1;
    segment = (kf_segment **)realloc(x->segment, 2 * n * sizeof *segment);
    if (!segment)
        return -1;
    memcpy(segment + n, segment, n * sizeof *segment);
    x->segment = segment;
    x->bits++;
    return 0;
}

/* Take all references out of a segment, with their hashes, in the order of their slots; how many. */
static inline uint32_t kf_segment_take(const kf_index *x, const kf_segment *segment, const void *table,
                                       kf_hash_of hash_of, kf_ask_for ask, uint64_t *hash, uint32_t *ref)
{
    uint32_t n = 0, i;
    uint64_t b;
    for (b = 0; b <= x->mask; b++) {
        uint32_t m = ~kf_match(&segment->bucket[b], 0) & KF_SLOT_MASK;
        for (; m; m &= m - 1) {
            ref[n] = segment->bucket[b].ref[kf_first(m)];
            ask(table, ref[n++]);
        }
    }
    for (i = 0; i < n; i++)
        hash[i] = hash_of(table, ref[i]);
    return n;
}

/* Divide a full segment, or double the first one; 0, or -1 without memory: nothing has changed then. */
static inline int kf_index_grow(kf_index *x, uint64_t place, const void *table, kf_hash_of hash_of, kf_ask_for ask)
{
    uint64_t hash[KF_BUCKETS * KF_SLOTS];
    uint32_t ref[KF_BUCKETS * KF_SLOTS], n, i;
    uint64_t to, step, buckets = x->mask + 1;
    kf_segment *old, *new;
    if (buckets < KF_BUCKETS) {
        old = x->segment[0];
        n = kf_segment_take(x, old, table, hash_of, ask, hash, ref);
        x->segments = 0;
        new = kf_segment_new(x, 2 * buckets);
        x->segments = 1;
        if (!new) {
            x->single[0] = old;
            return -1;
        }
        free(old);
        x->segment[0] = new;
        x->mask = 2 * buckets - 1;
        for (i = 0; i < n; i++)
            kf_segment_insert(x, new, hash[i], ref[i]);
        return 0;
    }
    old = x->segment[place];
    if ((old->bits == x->bits && kf_index_widen(x)) || !(new = kf_segment_new(x, buckets)))
        return -1;
    n = kf_segment_take(x, old, table, hash_of, ask, hash, ref);
    step = (uint64_t)1 << old->bits;
    new->bits = old->bits + 1;
    memset(old->bucket, 0, buckets * sizeof(kf_bucket));
    old->used = 0;
    old->bits++;
    for (to = (place & (step - 1)) | step; to >> x->bits == 0; to += 2 * step)
        x->segment[to] = new;
    for (i = 0; i < n; i++)
        kf_segment_insert(x, hash[i] >> 32 & step ? new : old, hash[i], ref[i]);
    return 0;
}

/* Make room for one more reference of this hash; 0, or -1 without memory. */
static inline int kf_index_room(kf_index *x, uint64_t hash, const void *table, kf_hash_of hash_of, kf_ask_for ask)
{
    if (kf_segment_of(x, hash)->used < (x->mask + 1) * KF_SLOTS * KF_FILL / 100)
        return 0;
    kf_index_grow(x, hash >> 32 & (((uint64_t)1 << x->bits) - 1), table, hash_of, ask);
    return kf_segment_of(x, hash)->used < (x->mask + 1) * KF_SLOTS - 1 ? 0 : -1;
}

/* 1 if the reference was there. */
static inline int kf_index_erase(kf_index *x, uint64_t hash, uint32_t ref)
{
    kf_segment *segment = kf_segment_of(x, hash);
    uint8_t tag = kf_tag(hash);
    uint64_t i = hash, step = 2 * (uint64_t)tag + 1, n = 0;
    for (;; i += step, n++) {
        kf_bucket *b = &segment->bucket[i & x->mask];
        for (uint32_t m = kf_match(b, tag); m; m &= m - 1) {
            int s = kf_first(m);
            if (b->ref[s] != ref)
                continue;
            b->tag[s] = 0;
            segment->used--;
            x->used--;
            for (i = hash; n--; i += step) {
                b = &segment->bucket[i & x->mask];
                if (!--b->passed)
                    b->trace = 0;
            }
            return 1;
        }
        if (!kf_passed(b, hash) || n > x->mask)
            return 0;
    }
}

#endif
