/* Addresses of either family as 128 bits, the first bit of the address highest. IPv4 has the upper 32. */
#ifndef KF_KEY_H
#define KF_KEY_H

#include <stdint.h>

typedef unsigned __int128 kf_key;

static inline kf_key kf_key_of(uint64_t hi, uint64_t lo) { return (kf_key)hi << 64 | lo; }
static inline uint64_t kf_key_hi(kf_key k) { return (uint64_t)(k >> 64); }
static inline uint64_t kf_key_lo(kf_key k) { return (uint64_t)k; }

/* The first `len` bits, 0..128. */
static inline kf_key kf_key_mask(int len) { return len ? ~(kf_key)0 << (128 - len) : 0; }

/* Bit i, counted from the first. */
static inline int kf_key_bit(kf_key k, int i) { return (int)(k >> (127 - i)) & 1; }

/* How many leading bits two different keys share. */
static inline int kf_key_common(kf_key a, kf_key b)
{
    uint64_t hi = kf_key_hi(a ^ b);
    return hi ? __builtin_clzll(hi) : 64 + __builtin_clzll(kf_key_lo(a ^ b));
}

/* The `bits` (1..32) bits behind the first `depth`; what lies behind the key is 0. */
static inline uint32_t kf_key_slice(kf_key k, int depth, int bits)
{
    return (uint32_t)(kf_key_hi(k << depth) >> (64 - bits));
}

/* The key whose bits behind the first `depth` are those of a slice. */
static inline kf_key kf_key_behind(uint64_t slice, int depth, int bits)
{
    return kf_key_of(slice << (64 - bits), 0) >> depth;
}

#endif
