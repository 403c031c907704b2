/* hash.h's keyed hash of eight or of four keys at a time, bit for bit the same. */
#ifndef KF_HASH_LANES_H
#define KF_HASH_LANES_H

#include "hash.h"
#include "isa.h"

#if KF_X86
#include <immintrin.h>

/* kf_mum from products of 32-bit halves. With t = ah * bl + (al * bl >> 32) and u = al * bh + (t mod 2^32), neither of which
 * overflows, the upper word is ah * bh + (t >> 32) + (u >> 32), and the lower one has u's lower half over al * bl's. */
KF_TARGET_AVX512 static inline __m512i kf_mum_avx512(__m512i a, __m512i b)
{
    const __m512i ah = _mm512_srli_epi64(a, 32), bh = _mm512_srli_epi64(b, 32);
    const __m512i ll = _mm512_mul_epu32(a, b), hl = _mm512_mul_epu32(ah, b);
    const __m512i lh = _mm512_mul_epu32(a, bh), hh = _mm512_mul_epu32(ah, bh);
    const __m512i t = _mm512_add_epi64(hl, _mm512_srli_epi64(ll, 32));
    const __m512i u = _mm512_add_epi64(lh, _mm512_maskz_mov_epi32(0x5555, t));
    const __m512i hi = _mm512_add_epi64(_mm512_add_epi64(hh, _mm512_srli_epi64(t, 32)), _mm512_srli_epi64(u, 32));
    return _mm512_xor_si512(hi, _mm512_mask_shuffle_epi32(ll, 0xAAAA, u, _MM_PERM_CCAA));
}

KF_TARGET_AVX512 static inline __m512i kf_hash128_avx512(__m512i a, __m512i b, const uint64_t secret[2])
{
    const __m512i s0 = _mm512_set1_epi64((long long)secret[0]), s1 = _mm512_set1_epi64((long long)secret[1]);
    const __m512i odd = _mm512_set1_epi64((long long)KF_ODD);
    const __m512i inner = kf_mum_avx512(_mm512_xor_si512(a, s0), _mm512_xor_si512(b, s1));
    return kf_mum_avx512(_mm512_xor_si512(inner, s1), _mm512_ternarylogic_epi64(a, b, odd, 0x96));
}

KF_TARGET_AVX512 static inline __m512i kf_hash64_avx512(__m512i word, const uint64_t secret[2])
{
    const __m512i s0 = _mm512_set1_epi64((long long)secret[0]), s1 = _mm512_set1_epi64((long long)(secret[1] | 1));
    return kf_mum_avx512(kf_mum_avx512(_mm512_xor_si512(word, s0), s1),
                         _mm512_set1_epi64((long long)(KF_ODD ^ secret[0])));
}

KF_TARGET_AVX2 static inline __m256i kf_mum_avx2(__m256i a, __m256i b)
{
    const __m256i lower = _mm256_set1_epi64x(0xFFFFFFFF);
    const __m256i ah = _mm256_srli_epi64(a, 32), bh = _mm256_srli_epi64(b, 32);
    const __m256i ll = _mm256_mul_epu32(a, b), hl = _mm256_mul_epu32(ah, b);
    const __m256i lh = _mm256_mul_epu32(a, bh), hh = _mm256_mul_epu32(ah, bh);
    const __m256i t = _mm256_add_epi64(hl, _mm256_srli_epi64(ll, 32));
    const __m256i u = _mm256_add_epi64(lh, _mm256_and_si256(t, lower));
    const __m256i hi = _mm256_add_epi64(_mm256_add_epi64(hh, _mm256_srli_epi64(t, 32)), _mm256_srli_epi64(u, 32));
    return _mm256_xor_si256(hi, _mm256_blend_epi32(ll, _mm256_slli_epi64(u, 32), 0xAA));
}

KF_TARGET_AVX2 static inline __m256i kf_hash128_avx2(__m256i a, __m256i b, const uint64_t secret[2])
{
    const __m256i s0 = _mm256_set1_epi64x((long long)secret[0]), s1 = _mm256_set1_epi64x((long long)secret[1]);
    const __m256i odd = _mm256_set1_epi64x((long long)KF_ODD);
    const __m256i inner = kf_mum_avx2(_mm256_xor_si256(a, s0), _mm256_xor_si256(b, s1));
    return kf_mum_avx2(_mm256_xor_si256(inner, s1), _mm256_xor_si256(_mm256_xor_si256(a, b), odd));
}

KF_TARGET_AVX2 static inline __m256i kf_hash64_avx2(__m256i word, const uint64_t secret[2])
{
    const __m256i s0 = _mm256_set1_epi64x((long long)secret[0]), s1 = _mm256_set1_epi64x((long long)(secret[1] | 1));
    return kf_mum_avx2(kf_mum_avx2(_mm256_xor_si256(word, s0), s1),
                       _mm256_set1_epi64x((long long)(KF_ODD ^ secret[0])));
}
#endif

#endif
