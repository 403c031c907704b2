/* What a frame says by itself, before its turn: whose flow it belongs to, and whether it is as plain as most are.
 *
 * Plain is an untagged, whole IPv4 packet without options, its checksums right, of UDP or TCP; of TCP the checksum is
 * the tracker's business. Of others no more is said than the hash of their tuple, for whom that helps.
 */
#ifndef KF_GLANCE_H
#define KF_GLANCE_H

#include "bytes.h"
#include "checksum.h"
#include "hash.h"

enum { KF_STRANGE = 0, KF_KEYED = 1, KF_UDP = 2, KF_TCP = 3 };
enum { KF_NOBODY = 0xFFFFFFFFu };

typedef struct {
    uint64_t head, tail;        /* its tuple as in memory, in two words */
    uint64_t hash;
    uint32_t ref;               /* what the hash's bucket names, or KF_NOBODY */
    uint16_t total;             /* bytes of the IP packet */
    uint8_t kind;
    uint8_t ttl;
} kf_glance;

static inline uint64_t kf_words_of(uint16_t value)      /* a 16-bit word as it is in memory */
{
    uint8_t p[2];
    uint16_t word;
    kf_store16(p, value);
    memcpy(&word, p, 2);
    return word;
}

static inline void kf_glance_at(kf_glance *restrict g, const uint8_t *restrict frame, uint32_t length, int verify,
                                const uint64_t *secret)
{
    const uint8_t *l3 = frame + 14;
    uint64_t first, addresses;
    uint32_t word, total, l4_len, udp_len;
    g->kind = KF_STRANGE;
    g->ref = KF_NOBODY;
    if (length < 14 + 28 || kf_load16(frame + 12) != 0x0800 || l3[0] != 0x45 || (l3[9] != 17 && l3[9] != 6))
        return;
    g->head = (uint64_t)kf_load32(l3 + 16) << 32 | kf_load32(l3 + 12);
    word = kf_load32(l3 + 20);
    g->tail = (uint64_t)4 << 40 | (uint64_t)l3[9] << 32 | (word << 16 | word >> 16);
    g->hash = kf_hash128(g->head, g->tail, secret);
    g->kind = KF_KEYED;
    memcpy(&first, l3, 8);
    memcpy(&word, l3 + 8, 4);
    memcpy(&addresses, l3 + 12, 8);
    addresses = (addresses & 0xFFFFFFFF) + (addresses >> 32);
    total = kf_load16(l3 + 2);
    if ((kf_load16(l3 + 6) & 0x3FFF) != 0 || total > length - 14 || total < 28
        || kf_csum_short((first & 0xFFFFFFFF) + (first >> 32) + word + addresses) != 0xFFFF)
        return;
    g->total = (uint16_t)total;
    g->ttl = l3[8];
    if (l3[9] == 6) {
        g->kind = total >= 40 ? KF_TCP : KF_KEYED;
        return;
    }
    l4_len = total - 20;
    udp_len = kf_load16(l3 + 24);
    if (udp_len < 8 || udp_len > l4_len)
        return;
    if (verify && kf_load16(l3 + 26) != 0
        && kf_csum_short(addresses + kf_csum_native(l3 + 20, l4_len) + kf_words_of(17)
                         + kf_words_of((uint16_t)l4_len)) != 0xFFFF)
        return;
    g->kind = KF_UDP;
}

#endif
