/* Lookups in the trie of 16, 8 and 8 bits, or of 24 and 8: int16 slots, first the root's, then chunks of 256.
 *
 * On a full table what counts is how many loads are under way at once. Slots are asked for AHEAD keys before
 * their turn, unless samples of the keys show that they stay within few lines: then asking costs more than it saves. 
 */
#ifndef KF_DENSE_H
#define KF_DENSE_H

#include "lpm.h"

enum { KF_DENSE_AHEAD = 256, KF_DENSE_SPAN = 4096, KF_DENSE_SEEN = 4096, KF_DENSE_SAMPLES = 32, KF_DENSE_FEW = 6 };

KF_INLINE uint32_t kf_dense_answer(const int16_t *slot, int root_bits, uint32_t key)
{
    int32_t v = slot[key >> (32 - root_bits)];
    if (root_bits == 16 && __builtin_expect(v < -1, 0))
        v = slot[(1 << 16) + ((v & 0x7FFF) << 8) + (key >> 8 & 255)];
    if (__builtin_expect(v < -1, 0))    /* apart: then most keys take no jump */
        v = slot[(1 << root_bits) + ((v & 0x7FFF) << 8) + (key & 255)];
    return (uint32_t)v;
}

/* One pass over the keys of a span; `ahead` keys lie behind it. Unrolled loops with branches beat what a compiler
 * makes of vectors whose elements it then takes apart again. */
KF_INLINE void kf_dense_scalar(const int16_t *slot, int root_bits, const uint32_t *key, size_t n, uint32_t *hop)
{
    size_t i;
#pragma GCC unroll 8
    for (i = 0; i < n; i++)
        hop[i] = kf_dense_answer(slot, root_bits, key[i]);
}

/* The same, asking for the slots of the keys AHEAD; `first`: nobody has asked for those before. */
KF_INLINE void kf_dense_ask(const int16_t *slot, int root_bits, const uint32_t *key, size_t n, size_t ahead, int first,
                            uint32_t *hop)
{
    size_t i, j;
    if (first)
        for (i = 0; i < n && i < KF_DENSE_AHEAD; i++)
            __builtin_prefetch(&slot[key[i] >> (32 - root_bits)]);
    for (i = 0; n - i >= 16; i += 16) {
        if (i + KF_DENSE_AHEAD + 16 <= n + ahead)
#pragma GCC unroll 16
            for (j = i; j < i + 16; j++)
                __builtin_prefetch(&slot[key[j + KF_DENSE_AHEAD] >> (32 - root_bits)]);
#pragma GCC unroll 16
        for (j = i; j < i + 16; j++)
            hop[j] = kf_dense_answer(slot, root_bits, key[j]);
    }
    kf_dense_scalar(slot, root_bits, key + i, n - i, hop + i);
}

#if KF_X86
#include <immintrin.h>

/* Sixteen slots; the gather reads two bytes past each. */
KF_TARGET_AVX512 static inline __m512i kf_dense_load(const int16_t *slot, __m512i at)
{
    return _mm512_srai_epi32(_mm512_slli_epi32(_mm512_i32gather_epi32(at, slot, 2), 16), 16);
}

KF_TARGET_AVX512 static inline __m512i kf_dense_child(const int16_t *slot, int first, __mmask16 deeper, __m512i v,
                                                      __m512i low)
{
    __m512i at = _mm512_slli_epi32(_mm512_and_si512(v, _mm512_set1_epi32(0x7FFF)), 8);
    at = _mm512_add_epi32(_mm512_add_epi32(at, low), _mm512_set1_epi32(first));
    at = _mm512_mask_i32gather_epi32(v, deeper, at, slot, 2);
    return _mm512_mask_srai_epi32(v, deeper, _mm512_slli_epi32(at, 16), 16);
}

/* Four vectors at a time: one gather takes some 60 clocks, but four of them little longer. */
KF_TARGET_AVX512 KF_INLINE void kf_dense_avx512(const int16_t *slot, int root_bits, const uint32_t *key, size_t n,
                                                uint32_t *hop)
{
    enum { VECTORS = 4, KEYS = 16 * VECTORS };
    const __m512i miss = _mm512_set1_epi32(-1), octet = _mm512_set1_epi32(255);
    size_t i, j;
    for (i = 0; n - i >= KEYS; i += KEYS) {
        __m512i k[VECTORS], v[VECTORS];
        __mmask16 deeper[VECTORS], any = 0;
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++) {
            k[j] = _mm512_loadu_si512(&key[i + 16 * j]);
            v[j] = kf_dense_load(slot, _mm512_srli_epi32(k[j], 32 - root_bits));
            deeper[j] = _mm512_cmplt_epi32_mask(v[j], miss);
            any |= deeper[j];
        }
        if (any && root_bits == 16) {
            any = 0;
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++) {
                v[j] = kf_dense_child(slot, 1 << 16, deeper[j], v[j],
                                      _mm512_and_si512(_mm512_srli_epi32(k[j], 8), octet));
                deeper[j] = _mm512_cmplt_epi32_mask(v[j], miss);
                any |= deeper[j];
            }
        }
        if (any) {
            uint32_t few = 0;
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++)
                few += (uint32_t)__builtin_popcount(deeper[j]);
            if (few > KF_DENSE_FEW)
#pragma GCC unroll 4
                for (j = 0; j < VECTORS; j++)
                    v[j] = kf_dense_child(slot, 1 << root_bits, deeper[j], v[j], _mm512_and_si512(k[j], octet));
            else
#pragma GCC unroll 4
                for (j = 0; j < VECTORS; j++)
                    for (; deeper[j]; deeper[j] &= deeper[j] - 1) {
                        uint32_t lane = (uint32_t)__builtin_ctz(deeper[j]);
                        const __m512i at = _mm512_set1_epi32((int)lane);
                        uint32_t from = (uint32_t)_mm512_cvtsi512_si32(_mm512_permutexvar_epi32(at, v[j])) & 0x7FFF;
                        uint32_t low = (uint32_t)_mm512_cvtsi512_si32(_mm512_permutexvar_epi32(at, k[j])) & 255;
                        v[j] = _mm512_mask_set1_epi32(v[j], (__mmask16)(1u << lane),
                                                      slot[((size_t)1 << root_bits) + (from << 8) + low]);
                    }
        }
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++)
            _mm512_storeu_si512(&hop[i + 16 * j], v[j]);
    }
    kf_dense_scalar(slot, root_bits, key + i, n - i, hop + i);
}
#endif

/* Whether most of some keys lead to lines that such samples have led to before. Neighbours, for the keys themselves
 * come from memory: reading one here and there ahead of the hardware's prefetcher would cost more than it tells. */
static inline int kf_dense_stays(uint16_t *seen, const uint32_t *key)
{
    size_t i, known = 0;
    for (i = 0; i < KF_DENSE_SAMPLES; i++) {
        uint32_t line = (key[i] >> 13) * 0x9E3779B1u;
        uint16_t *place = &seen[line >> 20], tag = (uint16_t)(line >> 4 | 1);
        known += *place == tag;
        *place = tag;
    }
    return known > KF_DENSE_SAMPLES * 3 / 4;
}

#define KF_DENSE_LOOKUP(NAME, PASS)                                                               \
    static inline void NAME(const kf_lpm *t, const uint32_t *key, size_t n, uint32_t *hop)        \
    {                                                                                             \
        const int16_t *slot = (const int16_t *)kf_at(t, t->root);                                 \
        uint16_t seen[KF_DENSE_SEEN];                                                             \
        size_t done, size;                                                                        \
        if (t->engine == KF_DENSE16) {                                                            \
            PASS(slot, 16, key, n, hop);                                                          \
            return;                                                                               \
        }                                                                                         \
        if (n < 4 * KF_DENSE_SPAN) {                                                              \
            kf_dense_ask(slot, 24, key, n, 0, 1, hop);                                            \
            return;                                                                               \
        }                                                                                         \
        __builtin_memset(seen, 0, sizeof seen);                                                   \
        for (done = 0; done < n; done += size) {                                                  \
            size = n - done < KF_DENSE_SPAN ? n - done : KF_DENSE_SPAN;                           \
            if (size == KF_DENSE_SPAN && kf_dense_stays(seen, key + done))                        \
                PASS(slot, 24, key + done, size, hop + done);                                     \
            else                                                                                  \
                kf_dense_ask(slot, 24, key + done, size, n - done - size, done == 0, hop + done); \
        }                                                                                         \
    }

KF_DENSE_LOOKUP(kf_dense_lookup_scalar, kf_dense_scalar)
#if KF_X86
KF_TARGET_AVX512 KF_DENSE_LOOKUP(kf_dense_lookup_avx512, kf_dense_avx512)
#endif

#endif
