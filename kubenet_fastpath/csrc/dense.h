/* Lookups in the trie of 16, 8 and 8 bits, or of 24 and 8: int16 slots, first the root's, then chunks of 256.
 *
 * On a full table what counts is how many loads are under way at once. Slots are asked for AHEAD keys before
 * their turn, unless samples of the keys show that they stay within few lines: then asking costs more than it saves.
 * On a node's table all is in the cache, and what counts is instructions and jumps: vectors of 64 keys, of which
 * those that go another way than their neighbours are put off and answered together.
 */
#ifndef KF_DENSE_H
#define KF_DENSE_H

#include "lpm.h"

enum { KF_DENSE_AHEAD = 256, KF_DENSE_SPAN = 4096, KF_DENSE_SEEN = 4096, KF_DENSE_SAMPLES = 32, KF_DENSE_FEW = 6 };
enum { KF_DENSE_HINTS = 4, KF_DENSE_HINTED = 1024, KF_DENSE_LATE = 512, KF_DENSE_MANY = 24 };
enum { KF_DENSE_VECTORS = 4, KF_DENSE_KEYS = 16 * KF_DENSE_VECTORS };

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

/* The root's slots of a few /16s in which most keys of a span are: a node's traffic stays within its networks, and
 * comparing with four costs less than a gather. */
typedef struct {
    uint32_t top[KF_DENSE_HINTS];
    int32_t slot[KF_DENSE_HINTS];
} kf_dense_hints;

static inline int kf_dense_hint(kf_dense_hints *hints, const int16_t *slot, const uint32_t *key)
{
    uint32_t i, h, n = 0;
    for (h = 0; h < KF_DENSE_HINTS; h++)
        hints->top[h] = 0xFFFFFFFF;     /* no key's */
    for (i = 0; i < KF_DENSE_SAMPLES; i++) {
        for (h = 0; h < n && hints->top[h] != key[i] >> 16; h++)
            ;
        if (h < n)
            continue;
        if (n == KF_DENSE_HINTS)
            return 0;
        hints->top[n] = key[i] >> 16;
        hints->slot[n++] = slot[key[i] >> 16];
    }
    return 1;
}

/* The root's slots of sixteen keys; where no hint has them, a miss, and a bit in `late`. */
KF_TARGET_AVX512 KF_INLINE __m512i kf_dense_root(const int16_t *slot, int root_bits, const kf_dense_hints *hints,
                                                 __m512i key, __mmask16 *late)
{
    __m512i at = _mm512_srli_epi32(key, 32 - root_bits), v = _mm512_set1_epi32(-1);
    uint32_t h;
    *late = 0;
    if (!hints)
        return kf_dense_load(slot, at);
#pragma GCC unroll 4
    for (h = 0; h < KF_DENSE_HINTS; h++) {
        __mmask16 these = _mm512_cmpeq_epi32_mask(at, _mm512_set1_epi32((int)hints->top[h]));
        v = _mm512_mask_mov_epi32(v, these, _mm512_set1_epi32(hints->slot[h]));
        *late |= these;
    }
    *late = (__mmask16)~*late;
    return v;
}

/* The few keys that take another way than their neighbours, answered together: a jump for one would cost more than
 * sixteen others do. */
typedef struct {
    uint32_t n;
    uint16_t at[KF_DENSE_LATE + 32];        /* stored by whole vectors */
} kf_dense_late;

KF_TARGET_AVX512 KF_INLINE void kf_dense_put_off(kf_dense_late *late, __mmask32 these, size_t first)
{
    const __m512i lane = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12,
                                          11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i at = _mm512_add_epi16(lane, _mm512_set1_epi16((int16_t)first));
    _mm512_storeu_si512(&late->at[late->n], _mm512_maskz_compress_epi16(these, at));
    late->n += (uint32_t)__builtin_popcount(these);
}

/* Hops in place of keys; n is a multiple of 64. */
KF_TARGET_AVX512 static void kf_dense_in_place(const int16_t *slot, int root_bits, uint32_t *key, size_t n);

/* Many without a jump that depends on a key: it would cost a misprediction for each. */
KF_TARGET_AVX512 static inline void kf_dense_catch_up(kf_dense_late *late, const int16_t *slot, int root_bits,
                                                      const uint32_t *key, uint32_t *hop)
{
    uint32_t k[KF_DENSE_LATE + KF_DENSE_KEYS], i, n = (late->n + KF_DENSE_KEYS - 1) / KF_DENSE_KEYS * KF_DENSE_KEYS;
    if (late->n < KF_DENSE_MANY) {
        for (i = 0; i < late->n; i++)
            hop[late->at[i]] = kf_dense_answer(slot, root_bits, key[late->at[i]]);
    } else {
        for (i = n - KF_DENSE_KEYS; i < n; i += 16)
            _mm512_storeu_si512(&k[i], _mm512_setzero_si512());
#pragma GCC unroll 8
        for (i = 0; i < late->n; i++)
            k[i] = key[late->at[i]];
        kf_dense_in_place(slot, root_bits, k, n);
#pragma GCC unroll 8
        for (i = 0; i < late->n; i++)
            hop[late->at[i]] = k[i];
    }
    late->n = 0;
}

/* Four vectors at a time: one gather takes some 60 clocks, but four of them little longer. At most 2 SPANs of keys;
 * in place, where hops overwrite keys, none can be put off. */
KF_TARGET_AVX512 KF_INLINE void kf_dense_vectors(const int16_t *slot, int root_bits, const kf_dense_hints *hints,
                                                 int in_place, const uint32_t *key, size_t n, uint32_t *hop)
{
    enum { VECTORS = KF_DENSE_VECTORS, KEYS = KF_DENSE_KEYS };
    const __m512i miss = _mm512_set1_epi32(-1), octet = _mm512_set1_epi32(255);
    kf_dense_late late;
    size_t i, j;
    late.n = 0;
    for (i = 0; n - i >= KEYS; i += KEYS) {
        __m512i k[VECTORS], v[VECTORS];
        __mmask16 deeper[VECTORS], other[VECTORS], any = 0;
        uint32_t few = 0;
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++) {
            k[j] = _mm512_loadu_si512(&key[i + 16 * j]);
            v[j] = kf_dense_root(slot, root_bits, hints, k[j], &other[j]);
            deeper[j] = _mm512_cmplt_epi32_mask(v[j], miss);
            any |= deeper[j];
        }
        if (any && root_bits == 16) {
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++) {
                v[j] = kf_dense_child(slot, 1 << 16, deeper[j], v[j],
                                      _mm512_and_si512(_mm512_srli_epi32(k[j], 8), octet));
                deeper[j] = _mm512_cmplt_epi32_mask(v[j], miss);
            }
        }
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++)
            few += (uint32_t)__builtin_popcount(deeper[j]);
        if (few > (in_place ? 0 : KF_DENSE_FEW))
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++) {
                v[j] = kf_dense_child(slot, 1 << root_bits, deeper[j], v[j], _mm512_and_si512(k[j], octet));
                deeper[j] = 0;
            }
        if (!in_place && (hints || any)) {
            kf_dense_put_off(&late, (__mmask32)(deeper[0] | other[0]) | (__mmask32)(deeper[1] | other[1]) << 16, i);
            kf_dense_put_off(&late, (__mmask32)(deeper[2] | other[2]) | (__mmask32)(deeper[3] | other[3]) << 16, i + 32);
        }
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++)
            _mm512_storeu_si512(&hop[i + 16 * j], v[j]);
        if (!in_place && late.n > KF_DENSE_LATE - KEYS)
            kf_dense_catch_up(&late, slot, root_bits, key, hop);
    }
    if (!in_place)
        kf_dense_catch_up(&late, slot, root_bits, key, hop);
    kf_dense_scalar(slot, root_bits, key + i, n - i, hop + i);
}

KF_TARGET_AVX512 static __attribute__((noinline)) void kf_dense_in_place(const int16_t *slot, int root_bits,
                                                                         uint32_t *key, size_t n)
{
    if (root_bits == 16)
        kf_dense_vectors(slot, 16, NULL, 1, key, n, key);
    else
        kf_dense_vectors(slot, 24, NULL, 1, key, n, key);
}

KF_TARGET_AVX512 static inline void kf_dense_avx512(const int16_t *slot, int root_bits, const uint32_t *key, size_t n,
                                                    uint32_t *hop)
{
    kf_dense_hints hints;
    size_t size;
    for (; n; n -= size, key += size, hop += size) {
        size = n < 2 * KF_DENSE_SPAN ? n : KF_DENSE_SPAN;
        if (key == hop)
            kf_dense_vectors(slot, root_bits, NULL, 1, key, size, hop);
        else if (root_bits == 16 && size >= KF_DENSE_HINTED && kf_dense_hint(&hints, slot, key))
            kf_dense_vectors(slot, 16, &hints, 0, key, size, hop);
        else
            kf_dense_vectors(slot, root_bits, NULL, 0, key, size, hop);
    }
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
