/* The Internet checksum, RFC 1071, and its update by delta, RFC 1624 equation 3.
 *
 * A partial sum is a plain 64-bit sum of big-endian 16-bit words: one's complement addition is
 * associative, so carries are folded once at the end. Results equal the kernel's csum_fold: the
 * checksum of valid input is never 0xFFFF unless all summed words are zero.
 */
#ifndef KF_CHECKSUM_H
#define KF_CHECKSUM_H

#include "bytes.h"

/* A sum as 16 bits, every carry added again. Half on half, both ways round at once: the carry out of the lower halves
 * is the one that has to come round. 0 stays 0, and nothing else becomes 0. */
static inline uint16_t kf_csum_short(uint64_t sum)
{
    uint32_t half;
    sum += sum << 32 | sum >> 32;
    half = (uint32_t)(sum >> 32);
    half += half << 16 | half >> 16;
    return (uint16_t)(half >> 16);
}

static inline uint16_t kf_csum_fold(uint64_t sum) { return (uint16_t)~kf_csum_short(sum); }

enum { KF_CSUM_LONG = 128 };        /* bytes from which lanes pay */

/* Sum of the words of n bytes as they are in memory, below 2^33; it may be the wrong way round: byte-swapping commutes
 * with the sum (RFC 1071, 2B). An odd last byte is the first half of its word. */
static inline uint64_t kf_csum_native(const uint8_t *p, size_t n)
{
    uint64_t sum = 0, word;
    size_t left = n;
    if (left >= KF_CSUM_LONG) {     /* halves of words side by side, which compilers make vectors of: nothing carries */
        uint64_t lane[8] = {0};
        uint32_t half[8];
        int k;
        for (; left >= sizeof half; p += sizeof half, left -= sizeof half) {
            memcpy(half, p, sizeof half);
            for (k = 0; k < 8; k++)
                lane[k] += half[k];
        }
        for (k = 0; k < 8; k++)
            sum += lane[k];
    }
    for (; left >= 8; p += 8, left -= 8) {
        memcpy(&word, p, 8);
        sum += word;
        sum += sum < word;          /* the carry: two instructions a word */
    }
    if (left) {
        const unsigned shift = 64 - 8 * (unsigned)left;
        if (n >= 8) {               /* the last eight bytes, without those that have been summed */
            memcpy(&word, p + left - 8, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            word >>= shift;
#else
            word <<= shift;
#endif
        } else {
            word = 0;
            memcpy(&word, p, left);
        }
        sum += word;
        sum += sum < word;
    }
    return (sum & 0xFFFFFFFF) + (sum >> 32);
}

/* Sum of n bytes, an odd last byte being the high half of its word. Sums over pieces may be added
 * when every piece but the last has an even length. */
static inline uint64_t kf_csum_partial(const uint8_t *p, size_t n, uint64_t sum)
{
    uint32_t native = kf_csum_short(kf_csum_native(p, n));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    native = (native & 0xFF) << 8 | native >> 8;
#endif
    return sum + native;
}

static inline uint16_t kf_csum(const uint8_t *p, size_t n) { return kf_csum_fold(kf_csum_partial(p, n, 0)); }

/* Sum of the IPv4 pseudo header (RFC 768, RFC 9293 3.1). Addresses in host order. */
static inline uint64_t kf_csum_pseudo(uint32_t src, uint32_t dst, uint8_t proto, uint32_t l4_len)
{
    return (uint64_t)(src >> 16) + (src & 0xFFFF) + (dst >> 16) + (dst & 0xFFFF) + proto + l4_len;
}

/* HC' = ~(~HC + ~m + m') for one 32-bit field (RFC 1624 eq. 3; kernel csum_replace4). */
static inline uint16_t kf_csum_replace32(uint16_t check, uint32_t from, uint32_t to)
{
    return kf_csum_fold((uint64_t)(uint16_t)~check + (uint32_t)~from + to);
}

static inline uint16_t kf_csum_replace16(uint16_t check, uint16_t from, uint16_t to)
{
    return kf_csum_fold((uint64_t)(uint16_t)~check + (uint16_t)~from + to);
}

/* One less in the high byte of its word adds 0x0100 to the checksum (kernel ip_decrease_ttl). */
static inline uint16_t kf_csum_ttl(uint16_t check)
{
    uint32_t sum = (uint32_t)check + 0x0100;
    return (uint16_t)(sum + (sum >= 0xFFFF));
}

#endif
