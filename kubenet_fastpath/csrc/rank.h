/* Lookups in the rank trie: the compact engine of IPv4, and the engine of IPv6.
 *
 * Every node decides a slice of the key: the root the first 24 bits (IPv4) or 16 bits (IPv6), each other node the
 * next 16. IPv6's root has a slot for each slice. In all others equal neighbours share a leaf, found in one of these ways.
 *
 *     RANK    an entry for each 32 neighbours: a bit is set where a neighbour differs from the one before, and
 *             the leaf is number `bits set up to the slice` from the entry's base. All 32 alike: no bit is set
 *             and the base is the leaf itself. (Poptrie's idea, SIGCOMM 2015, without its internal nodes.)
 *     LINE    up to 10 ranges, or 16 narrow ones: the last slice of each, sorted, then their leaves. Unused ones end
 *             with 0xFFFF, as the last range does: no slice lies behind.
 *     LINES   the last slices of up to 32 LINEs, then these.
 *
 * A leaf is a slot (lpm.h). A wide child slot is a reference: KF_CHILD | kind << 28 | line in the arena; a narrow one
 * has the number of a LINES in its low 15 bits, in steps of four lines. IPv6 is in rank6.h.
 */
#ifndef KF_RANK_H
#define KF_RANK_H

#include "lpm.h"

enum { KF_NODE_RANK, KF_NODE_LINE, KF_NODE_LINES, KF_NODES };
enum { KF_RANK_BLOCK = 512, KF_TOP_ENDS = 32, KF_NODE_ENTRIES = 1 << 11 };
enum { KF_LINE_BYTES = 64 };

#define KF_NODE_AT 0x0FFFFFFFu

static inline uint32_t kf_node_kind(uint32_t reference) { return reference >> 28 & 3; }

/* Ranges of a LINE, and where its leaves begin. */
KF_INLINE uint32_t kf_line_ranges(int width) { return width == 2 ? 16 : 10; }
KF_INLINE uint32_t kf_line_leaves(int width) { return width == 2 ? 32 : 24; }

KF_INLINE uint32_t kf_slot_load(const char *p, int width)
{
    int16_t narrow;
    uint32_t wide;
    if (width == 2) {
        __builtin_memcpy(&narrow, p, 2);
        return (uint32_t)(int32_t)narrow;
    }
    __builtin_memcpy(&wide, p, 4);
    return wide;
}

/* Where the leaf of place 0..31 of an entry is; an entry of one leaf has it in its upper half. */
KF_INLINE const char *kf_entry_leaf(const char *arena, int width, const uint64_t *entry, uint32_t place)
{
    uint32_t bits = (uint32_t)*entry, base = (uint32_t)(*entry >> 32);
    uint32_t rank = (uint32_t)__builtin_popcount(bits & ((2u << place) - 1));
    const char *leaf = arena + (size_t)(base + rank - 1) * width;
    return bits ? leaf : (const char *)entry + 4;
}

/* What that leaf says to a reader: the entry is read once, for it may change from one leaf to many meanwhile. */
KF_INLINE uint32_t kf_entry_slot(const char *arena, int width, const uint64_t *entry, uint32_t place)
{
    uint64_t once = __atomic_load_n(entry, __ATOMIC_RELAXED);
    return kf_slot_load(kf_entry_leaf(arena, width, &once, place), width);
}

/* How many of the first n ranges of a line end before `slice`; n is 10, 16 or 32. */
typedef uint32_t (*kf_count)(const uint16_t *last, uint32_t slice, uint32_t n);

/* By the compiler's own vectors, eight at a time, for whatever CPU. (GCC 12 at -O3 miscounts the plain loop.) */
typedef uint16_t kf_eight __attribute__((vector_size(16), may_alias));

KF_INLINE uint32_t kf_count_scalar(const uint16_t *last, uint32_t slice, uint32_t n)
{
    const kf_eight *ends = (const kf_eight *)last, first2 = {0xFFFF, 0xFFFF};
    const kf_eight all = (kf_eight){0} + (uint16_t)slice;
    kf_eight count = -(kf_eight)(ends[0] < all);
    uint64_t half[2];
    if (n == 10)
        count -= (kf_eight)(ends[1] < all) & first2;
    else
        count -= (kf_eight)(ends[1] < all);
    if (n == 32)
        count -= (kf_eight)(ends[2] < all) + (kf_eight)(ends[3] < all);
    __builtin_memcpy(half, &count, 16);
    return (uint32_t)((half[0] + half[1]) * 0x0001000100010001u >> 48);
}

KF_INLINE const char *kf_line_leaf(const char *line, int width, uint32_t slice, kf_count count)
{
    return line + kf_line_leaves(width) + count((const uint16_t *)line, slice, kf_line_ranges(width)) * width;
}

/* The LINE of a LINES that a slice belongs to. */
KF_INLINE const char *kf_lines_line(const char *lines, uint32_t slice, kf_count count)
{
    return lines + KF_LINE_BYTES + KF_LINE_BYTES * (size_t)count((const uint16_t *)lines, slice, KF_TOP_ENDS);
}

KF_INLINE uint32_t kf_reference(int width, uint32_t v)
{
    return width == 2 ? KF_CHILD | (uint32_t)KF_NODE_LINES << 28 | (v & 0x7FFF) << 2 : v;
}

KF_INLINE int kf_is_child(int width, uint32_t v)
{
    return width == 2 ? kf_is_special(v) : v >> 30 == KF_CHILD >> 30;
}

KF_INLINE uint32_t kf_node_slot(const char *arena, int width, uint32_t reference, uint32_t slice)
{
    const char *node = arena + (size_t)(reference & KF_NODE_AT) * KF_LINE_BYTES;
    if (kf_node_kind(reference) == KF_NODE_RANK)
        return kf_entry_slot(arena, width, (const uint64_t *)node + (slice >> 5), slice & 31);
    if (kf_node_kind(reference) == KF_NODE_LINES)
        node = kf_lines_line(node, slice, kf_count_scalar);
    return kf_slot_load(kf_line_leaf(node, width, slice, kf_count_scalar), width);
}

/* Where a leaf is, for who changes it. */
static inline char *kf_node_leaf(const char *arena, int width, uint32_t reference, uint32_t slice)
{
    const char *node = arena + (size_t)(reference & KF_NODE_AT) * KF_LINE_BYTES;
    if (kf_node_kind(reference) == KF_NODE_RANK)
        return (char *)kf_entry_leaf(arena, width, (const uint64_t *)node + (slice >> 5), slice & 31);
    if (kf_node_kind(reference) == KF_NODE_LINES)
        node = kf_lines_line(node, slice, kf_count_scalar);
    return (char *)kf_line_leaf(node, width, slice, kf_count_scalar);
}

/* One key on its own. `hi` has the first 64 bits; IPv4 has its address in the upper 32 of them. */
KF_INLINE uint32_t kf_rank_answer(const kf_lpm *t, int width, uint64_t hi, uint64_t lo)
{
    const char *arena = (const char *)kf_at(t, t->arena), *root = (const char *)kf_at(t, t->root);
    int depth = t->family == 4 ? 24 : 16;
    uint32_t slice = (uint32_t)(hi >> (64 - depth)), v;
    if (depth == 16)
        v = ((const uint32_t *)root)[slice];
    else
        v = kf_entry_slot(arena, width, (const uint64_t *)root + (slice >> 5), slice & 31);
    for (; kf_is_child(width, v); depth += 16) {
        slice = (uint32_t)(depth < 64 ? hi << depth >> 48 : lo << (depth - 64) >> 48);
        v = kf_node_slot(arena, width, kf_reference(width, v), slice);
    }
    return v;
}

/* IPv4: all keys at once through the root, those few that go deeper on their own. */
KF_INLINE void kf_rank4(const kf_lpm *t, int width, const uint32_t *key, size_t n, uint32_t *hop)
{
    const char *arena = (const char *)kf_at(t, t->arena), *leaf[KF_RANK_BLOCK];
    const uint64_t *root = (const uint64_t *)kf_at(t, t->root);
    uint64_t entry[KF_RANK_BLOCK];          /* read once: see kf_entry_slot */
    uint32_t k[KF_RANK_BLOCK], special;
    size_t done, size, i;
    for (i = 0; i < n && i < KF_RANK_BLOCK; i++)
        __builtin_prefetch(&root[key[i] >> 13]);
    for (done = 0; done < n; done += size) {
        size = n - done < KF_RANK_BLOCK ? n - done : KF_RANK_BLOCK;
        for (i = 0; i < size; i++) {
            k[i] = key[done + i];
            entry[i] = __atomic_load_n(&root[k[i] >> 13], __ATOMIC_RELAXED);
            leaf[i] = kf_entry_leaf(arena, width, &entry[i], k[i] >> 8 & 31);
            __builtin_prefetch(leaf[i]);
        }
        for (i = done + size; i < n && i < done + size + KF_RANK_BLOCK; i++)
            __builtin_prefetch(&root[key[i] >> 13]);
        special = 0;
        for (i = 0; i < size; i++) {
            uint32_t v = kf_slot_load(leaf[i], width);
            hop[done + i] = v;
            special |= v + 1;
        }
        if (special >> 31)
            for (i = 0; i < size; i++)
                if (kf_is_special(hop[done + i]))
                    hop[done + i] = kf_rank_answer(t, width, (uint64_t)k[i] << 32, 0);
    }
}

#if KF_X86
#include <immintrin.h>

KF_TARGET_AVX2 static inline uint32_t kf_count_avx2(const uint16_t *last, uint32_t slice, uint32_t n)
{
    const __m256i s = _mm256_set1_epi16((int16_t)slice), zero = _mm256_setzero_si256();
    __m256i a = _mm256_cmpeq_epi16(_mm256_subs_epu16(s, _mm256_load_si256((const __m256i *)last)), zero), b = a;
    if (n > 16)
        b = _mm256_cmpeq_epi16(_mm256_subs_epu16(s, _mm256_load_si256((const __m256i *)(last + 16))), zero);
    if (n == 32)
        return 32 - (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(a, b)));
    return n - (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(a) & (uint32_t)((1ull << 2 * n) - 1)) / 2;
}

KF_TARGET_AVX512 static inline uint32_t kf_count_avx512(const uint16_t *last, uint32_t slice, uint32_t n)
{
    const __m512i s = _mm512_set1_epi16((int16_t)slice), ends = _mm512_load_si512(last);
    return (uint32_t)__builtin_popcount(n == 32 ? _mm512_cmplt_epu16_mask(ends, s)
                                                : _mm512_mask_cmplt_epu16_mask((1u << (n & 31)) - 1, ends, s));
}
#endif

#endif
