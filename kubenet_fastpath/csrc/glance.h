/* What frames say by themselves, before their turn: whose flow they belong to, and whether they are as plain as most are.
 *
 * Plain is an untagged, whole IPv4 packet without options, its checksums right, of UDP or TCP; of TCP the checksum is
 * the tracker's business. Of others no more is said than their tuple, for whom that helps.
 *
 * The AVX-512 variant takes eight frames at a time: the first 64 bytes behind each Ethernet header fill a register, an
 * 8 x 8 transposition makes lanes of frames, and every check is then one for all eight.
 */
#ifndef KF_GLANCE_H
#define KF_GLANCE_H

#include "bytes.h"
#include "checksum.h"
#include "hash.h"
#include "isa.h"
#if KF_X86
#include <immintrin.h>
#endif

enum { KF_STRANGE = 0, KF_KEYED = 1, KF_UDP = 2, KF_TCP = 3 };
enum { KF_BURST = 64, KF_LEAST = 28, KF_LEAST_TCP = 40, KF_ETH = 14 };

typedef struct {
    uint64_t head[KF_BURST];    /* the frame's tuple as in memory, in two words */
    uint64_t tail[KF_BURST];
    uint16_t total[KF_BURST];   /* bytes of the IP packet, of a plain one */
    uint8_t kind[KF_BURST];
} kf_glance;

static inline uint64_t kf_words_of(uint16_t value)      /* a 16-bit word as it is in memory */
{
    uint8_t p[2];
    uint16_t word;
    kf_store16(p, value);
    memcpy(&word, p, 2);
    return word;
}

static inline int kf_kind_of(const uint8_t *frame, uint32_t length, int verify)
{
    const uint8_t *l3 = frame + KF_ETH;
    uint64_t first, addresses;
    uint32_t word, total, l4_len, udp_len;
    memcpy(&first, l3, 8);
    memcpy(&word, l3 + 8, 4);
    memcpy(&addresses, l3 + 12, 8);
    addresses = (addresses & 0xFFFFFFFF) + (addresses >> 32);
    total = kf_load16(l3 + 2);
    if ((kf_load16(l3 + 6) & 0x3FFF) != 0 || total > length - KF_ETH || total < KF_LEAST
        || kf_csum_short((first & 0xFFFFFFFF) + (first >> 32) + word + addresses) != 0xFFFF)
        return KF_KEYED;
    if (l3[9] == 6)
        return total >= KF_LEAST_TCP ? KF_TCP : KF_KEYED;
    l4_len = total - 20;
    udp_len = kf_load16(l3 + 24);
    if (udp_len < 8 || udp_len > l4_len)
        return KF_KEYED;
    if (verify && kf_load16(l3 + 26) != 0
        && kf_csum_short(addresses + kf_csum_native(l3 + 20, l4_len) + kf_words_of(17)
                         + kf_words_of((uint16_t)l4_len)) != 0xFFFF)
        return KF_KEYED;
    return KF_UDP;
}

static inline void kf_glance_one(kf_glance *g, size_t i, const uint8_t *frame, uint32_t length, int verify)
{
    const uint8_t *l3 = frame + KF_ETH;
    uint32_t ports;
    g->kind[i] = KF_STRANGE;
    if (length < KF_ETH + KF_LEAST || kf_load16(frame + 12) != 0x0800 || l3[0] != 0x45 || (l3[9] != 17 && l3[9] != 6))
        return;
    ports = kf_load32(l3 + 20);
    g->head[i] = (uint64_t)kf_load32(l3 + 16) << 32 | kf_load32(l3 + 12);
    g->tail[i] = (uint64_t)4 << 40 | (uint64_t)l3[9] << 32 | (ports << 16 | ports >> 16);
    g->total[i] = kf_load16(l3 + 2);
    g->kind[i] = (uint8_t)kf_kind_of(frame, length, verify);
}

#if KF_X86

#define KF_EACH8(b0, b1, b2, b3, b4, b5, b6, b7)                                                                     \
    _mm512_broadcast_i32x4(_mm_setr_epi8(b0, b1, b2, b3, b4, b5, b6, b7, kf_next(b0), kf_next(b1), kf_next(b2),      \
                                         kf_next(b3), kf_next(b4), kf_next(b5), kf_next(b6), kf_next(b7)))
#define kf_next(b) (char)((b) < 0 ? -1 : (b) + 8)       /* the same byte of the lane beside it; -1: zero */

KF_TARGET_AVX512 static inline __m512i kf_halves(__m512i q)
{
    return _mm512_add_epi64(_mm512_and_si512(q, _mm512_set1_epi64(0xFFFFFFFF)), _mm512_srli_epi64(q, 32));
}

KF_TARGET_AVX512 static inline __mmask8 kf_sums_right(__m512i sum)       /* kf_csum_short(sum) == 0xFFFF */
{
    sum = _mm512_srli_epi64(_mm512_add_epi64(sum, _mm512_rol_epi64(sum, 32)), 32);
    sum = _mm512_srli_epi32(_mm512_add_epi32(sum, _mm512_rol_epi32(sum, 16)), 16);
    return _mm512_cmpeq_epi64_mask(sum, _mm512_set1_epi64(0xFFFF));
}

KF_TARGET_AVX512 static inline void kf_glance_eight(kf_glance *g, size_t at, const uint8_t *base, const int64_t *offset,
                                                    const uint32_t *length, int verify)
{
    __m512i row[8], t[8], s[8], q[8], rest, total, l4_len, udp_len, sum;
    uint64_t beyond[8];
    uint32_t fits = 0, longer = 0;
    __mmask8 keyed, plain, udp, tcp, good;
    int k;
    for (k = 0; k < 8; k++) {
        const uint8_t *l3 = base + offset[k] + KF_ETH;
        uint32_t there = length[k], all, mine;
        uint64_t mask = 0;
        beyond[k] = 0;
        if (there >= KF_ETH + KF_LEAST && kf_load16(l3 - 2) == 0x0800) {
            there -= KF_ETH;
            all = kf_load16(l3 + 2);
            fits |= (uint32_t)(all <= there && all >= KF_LEAST) << k;
            mine = all < KF_LEAST ? KF_LEAST : all;         /* what is behind the packet does not count */
            mine = mine > there ? there : mine;
            mask = _bzhi_u64(~(uint64_t)0, mine > 64 ? 64 : mine);
            if (mine > 64) {
                beyond[k] = verify && l3[9] == 17 ? kf_csum_native(l3 + 64, mine - 64) : 0;
                longer = 1;
            }
        }
        row[k] = _mm512_maskz_loadu_epi8(mask, l3);
    }
    for (k = 0; k < 8; k += 2) {
        t[k] = _mm512_unpacklo_epi64(row[k], row[k + 1]);
        t[k + 1] = _mm512_unpackhi_epi64(row[k], row[k + 1]);
    }
    for (k = 0; k < 2; k++) {                               /* of even quadwords, then of odd ones */
        s[4 * k] = _mm512_shuffle_i64x2(t[k], t[2 + k], 0x88);
        s[4 * k + 1] = _mm512_shuffle_i64x2(t[4 + k], t[6 + k], 0x88);
        s[4 * k + 2] = _mm512_shuffle_i64x2(t[k], t[2 + k], 0xDD);
        s[4 * k + 3] = _mm512_shuffle_i64x2(t[4 + k], t[6 + k], 0xDD);
        q[k] = _mm512_shuffle_i64x2(s[4 * k], s[4 * k + 1], 0x88);
        q[4 + k] = _mm512_shuffle_i64x2(s[4 * k], s[4 * k + 1], 0xDD);
        q[2 + k] = _mm512_shuffle_i64x2(s[4 * k + 2], s[4 * k + 3], 0x88);
        q[6 + k] = _mm512_shuffle_i64x2(s[4 * k + 2], s[4 * k + 3], 0xDD);
    }
    /* now q[j] has bytes 8 j to 8 j + 7 of the eight packets */
    const __m512i protocol = _mm512_and_si512(q[1], _mm512_set1_epi64(0xFF00));
    udp = _mm512_cmpeq_epi64_mask(protocol, _mm512_set1_epi64(17 << 8));
    tcp = _mm512_cmpeq_epi64_mask(protocol, _mm512_set1_epi64(6 << 8));
    keyed = (__mmask8)((udp | tcp) & _mm512_cmpeq_epi64_mask(_mm512_and_si512(q[0], _mm512_set1_epi64(0xFF)),
                                                             _mm512_set1_epi64(0x45)));
    plain = (__mmask8)(keyed & fits & _mm512_testn_epi64_mask(q[0], _mm512_set1_epi64((long long)0xFF3F000000000000ull)));
    const __m512i source = _mm512_srli_epi64(q[1], 32);
    const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
    plain &= kf_sums_right(_mm512_add_epi64(_mm512_add_epi64(kf_halves(q[0]), kf_halves(q[1])),
                                            _mm512_and_si512(q[2], low)));
    total = _mm512_shuffle_epi8(q[0], KF_EACH8(3, 2, -1, -1, -1, -1, -1, -1));
    l4_len = _mm512_sub_epi64(total, _mm512_set1_epi64(20));
    udp_len = _mm512_shuffle_epi8(q[3], KF_EACH8(1, 0, -1, -1, -1, -1, -1, -1));
    good = (__mmask8)(_mm512_cmpge_epu64_mask(udp_len, _mm512_set1_epi64(8)) & _mm512_cmple_epu64_mask(udp_len, l4_len));
    if (verify) {
        sum = _mm512_add_epi64(source, _mm512_shuffle_epi8(l4_len, KF_EACH8(1, 0, -1, -1, -1, -1, -1, -1)));
        sum = _mm512_add_epi64(sum, _mm512_set1_epi64(17 << 8));
        for (k = 2; k < 8; k++)
            sum = _mm512_add_epi64(sum, kf_halves(q[k]));
        if (longer) {
            rest = _mm512_loadu_si512(beyond);
            sum = _mm512_add_epi64(sum, rest);
        }
        good &= (__mmask8)(kf_sums_right(sum) | _mm512_testn_epi64_mask(q[3], _mm512_set1_epi64(0xFFFF0000)));
    }
    tcp &= _mm512_cmpge_epu64_mask(total, _mm512_set1_epi64(KF_LEAST_TCP));
    sum = _mm512_maskz_set1_epi64(keyed, KF_KEYED);
    sum = _mm512_mask_set1_epi64(sum, (__mmask8)(plain & udp & good), KF_UDP);
    sum = _mm512_mask_set1_epi64(sum, (__mmask8)(plain & tcp), KF_TCP);
    _mm_storel_epi64((__m128i *)&g->kind[at], _mm512_cvtepi64_epi8(sum));
    _mm_storeu_si128((__m128i *)&g->total[at], _mm512_cvtepi64_epi16(total));
    _mm512_storeu_si512(&g->head[at],
                        _mm512_or_si512(_mm512_shuffle_epi8(q[1], KF_EACH8(7, 6, 5, 4, -1, -1, -1, -1)),
                                        _mm512_shuffle_epi8(q[2], KF_EACH8(-1, -1, -1, -1, 3, 2, 1, 0))));
    _mm512_storeu_si512(&g->tail[at],
                        _mm512_ternarylogic_epi64(_mm512_shuffle_epi8(q[1], KF_EACH8(-1, -1, -1, -1, 1, -1, -1, -1)),
                                                  _mm512_shuffle_epi8(q[2], KF_EACH8(5, 4, 7, 6, -1, -1, -1, -1)),
                                                  _mm512_set1_epi64((long long)4 << 40), 0xFE));
}

KF_TARGET_AVX512 static size_t kf_glance_avx512(kf_glance *g, const uint8_t *base, const int64_t *offset,
                                                const uint32_t *length, size_t n, int verify)
{
    size_t i;
    for (i = 0; i + 8 <= n; i += 8)
        kf_glance_eight(g, i, base, offset + i, length + i, verify);
    return i;
}
#endif

/* Look at n frames, at most KF_BURST, that lie in `base` at these offsets. */
static inline void kf_look(kf_glance *g, const uint8_t *base, const int64_t *offset, const uint32_t *length, size_t n,
                           int verify, int isa)
{
    size_t i = 0;
#if KF_X86
    if (isa == KF_AVX512)
        i = kf_glance_avx512(g, base, offset, length, n, verify);
#endif
    (void)isa;
    for (; i < n; i++)
        kf_glance_one(g, i, base + offset[i], length[i], verify);
}

#endif
