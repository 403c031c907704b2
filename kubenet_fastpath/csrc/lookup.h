/* Lookups whatever the engine: one key, and many by the variant for the instructions at hand. */
#ifndef KF_LOOKUP_H
#define KF_LOOKUP_H

#include "btree_find.h"
#include "dense.h"
#include "rank.h"

enum { KF_POOL_BLOCK = 8192 };

static inline uint32_t kf_lpm_answer4(const kf_lpm *t, uint32_t key)
{
    const int16_t *slot = (const int16_t *)kf_at(t, t->root);
    uint32_t v;
    if (t->engine == KF_DENSE16)
        v = kf_dense_answer(slot, 16, key);
    else if (t->engine == KF_DENSE24)
        v = kf_dense_answer(slot, 24, key);
    else
        v = kf_rank_answer(t, t->width, key);
    return t->pool_size ? kf_hop_of(t, v) : v;
}

static inline uint32_t kf_lpm_answer6(const kf_lpm *t, uint64_t hi, uint64_t lo)
{
    uint32_t v = kf_btree_answer(t, t->width, hi, lo);
    return t->pool_size ? kf_hop_of(t, v) : v;
}

/* Ask for the first line that a lookup of a key reads. */
static inline void kf_lpm_prefetch4(const kf_lpm *t, uint32_t key)
{
    const char *root = (const char *)kf_at(t, t->root);
    __builtin_prefetch(t->engine == KF_DENSE16   ? root + 2 * (size_t)(key >> 16)
                       : t->engine == KF_DENSE24 ? root + 2 * (size_t)(key >> 8)
                                                 : root + 8 * (size_t)(key >> 13));
    __asm__ volatile("");
}

static inline void kf_lpm_pass4(const kf_lpm *t, int isa, const uint32_t *key, size_t n, uint32_t *hop)
{
    if (t->engine != KF_RANK)
#if KF_X86
        (isa >= KF_AVX512 ? kf_dense_lookup_avx512 : kf_dense_lookup_scalar)(t, key, n, hop);
    else if (isa >= KF_AVX512)
        kf_rank_lookup_avx512(t, key, n, hop);
    else if (isa >= KF_AVX2)
        kf_rank_lookup_avx2(t, key, n, hop);
#else
        kf_dense_lookup_scalar(t, key, n, hop);
#endif
    else
        kf_rank_lookup_scalar(t, key, n, hop);
}

/* hop[i] = next hop of key[i]; IPv4 in host order. The arrays may be one and the same. */
static inline void kf_lpm_lookup4(const kf_lpm *t, int isa, const uint32_t *key, size_t n, uint32_t *hop)
{
    size_t size;
    if (!t->pool_size) {
        kf_lpm_pass4(t, isa, key, n, hop);
        return;
    }
    for (; n; n -= size, key += size, hop += size) {
        size = n < KF_POOL_BLOCK ? n : KF_POOL_BLOCK;
        kf_lpm_pass4(t, isa, key, size, hop);
        kf_hops_of(t, hop, size);
    }
}

/* IPv6: pairs of uint64 in host order, or 16 octets each. */
static inline void kf_lpm_lookup6(const kf_lpm *t, int isa, int octets, const char *key, size_t n, uint32_t *hop)
{
    size_t size;
    for (; n; n -= size, key += 16 * size, hop += size) {
        size = t->pool_size && n > KF_POOL_BLOCK ? KF_POOL_BLOCK : n;
#if KF_X86
        if (isa >= KF_AVX512)
            kf_btree_lookup_avx512(t, octets, key, size, hop);
        else if (isa >= KF_AVX2)
            kf_btree_lookup_avx2(t, octets, key, size, hop);
        else
#endif
            kf_btree_lookup_scalar(t, octets, key, size, hop);
        if (t->pool_size)
            kf_hops_of(t, hop, size);
    }
}

/* The variant that runs on a table. */
static inline int kf_lpm_isa(const kf_lpm *t, int isa)
{
    return t->engine <= KF_DENSE24 && isa < KF_AVX512 ? KF_SCALAR : isa;
}

#endif
