/* The Internet checksum, RFC 1071, and its update by delta, RFC 1624 equation 3.
 *
 * A partial sum is a plain 64-bit sum of big-endian 16-bit words: one's complement addition is
 * associative, so carries are folded once at the end. Results equal the kernel's csum_fold: the
 * checksum of valid input is never 0xFFFF unless all summed words are zero.
 */
#ifndef KF_CHECKSUM_H
#define KF_CHECKSUM_H

#include "bytes.h"

static inline uint16_t kf_csum_fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Sum of n bytes, an odd last byte being the high half of its word. Sums over pieces may be added
 * when every piece but the last has an even length. */
static inline uint64_t kf_csum_partial(const uint8_t *p, size_t n, uint64_t sum)
{
    uint64_t native = 0;    /* words in memory order: byte-swapping commutes with the sum (RFC 1071, 2B) */
    uint64_t pair;
    uint32_t word;
    uint16_t tail = 0;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&pair, p, 8);
        native += (pair & 0xFFFFFFFF) + (pair >> 32);
    }
    if (n & 4) {
        memcpy(&word, p, 4);
        native += word;
        p += 4;
    }
    if (n & 2) {
        memcpy(&tail, p, 2);
        native += tail;
        p += 2;
    }
    if (n & 1) {
        tail = 0;
        memcpy(&tail, p, 1);
        native += tail;
    }
    native = (native & 0xFFFFFFFF) + (native >> 32);
    native = (native & 0xFFFF) + (native >> 16);
    native = (native & 0xFFFF) + (native >> 16);
    native = (native & 0xFFFF) + (native >> 16);
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
