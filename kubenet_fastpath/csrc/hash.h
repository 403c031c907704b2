/* A keyed hash of one or two 64-bit words: multiply to 128 bits, fold, twice (the "mum" step of
 * wyhash). The secret comes from the node's seed, so nobody outside can aim for one bucket. */
#ifndef KF_HASH_H
#define KF_HASH_H

#include <stdint.h>

#define KF_ODD 0x9E3779B97F4A7C15ull

static inline uint64_t kf_mum(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t kf_hash64(uint64_t word, const uint64_t secret[2])
{
    return kf_mum(kf_mum(word ^ secret[0], secret[1] | 1), KF_ODD ^ secret[0]);
}

static inline uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t secret[2])
{
    return kf_mum(kf_mum(a ^ secret[0], b ^ secret[1]) ^ secret[1], a ^ b ^ KF_ODD);
}

/* The next value of a seeded stream (Steele, Lea, Flood 2014: SplitMix64). */
static inline uint64_t kf_splitmix(uint64_t *state)
{
    uint64_t z = (*state += KF_ODD);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

#endif
