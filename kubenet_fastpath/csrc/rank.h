/* Lookups in the rank trie, the compact engine of IPv4.
 *
 * The root decides the first 24 bits of the key, a node below it the other 8. Neighbours with equal slots share a leaf,
 * found in one of these ways:
 *
 *     root    an entry for each 32 neighbours: a bit is set where a neighbour differs from the one before, and
 *             the leaf is number `bits set up to the slice` from the entry's base. All 32 alike: no bit is set
 *             and the base is the leaf itself. (Poptrie's idea, SIGCOMM 2015, without its internal nodes.)
 *     LINE    up to 10 ranges, or 16 narrow ones: the last slice of each, sorted, then their leaves. Unused ones end
 *             with 0xFFFF, as the last range does: no slice lies behind.
 *     LINES   the last slices of up to 32 LINEs, then these.
 *
 * Slices of nodes have 16 bits, of which the lower 8 are 0. A leaf is a slot (lpm.h). A wide child slot is a reference:
 * KF_CHILD | kind << 28 | line in the arena; a narrow one has the number of a LINES in its low 15 bits, in steps of
 * four lines.
 */
#ifndef KF_RANK_H
#define KF_RANK_H

#include "lpm.h"

enum { KF_NODE_LINE, KF_NODE_LINES };
enum { KF_RANK_BLOCK = 512, KF_TOP_ENDS = 32 };

#define KF_NODE_AT 0x0FFFFFFFu

static inline uint32_t kf_node_kind(uint32_t reference) { return reference >> 28 & 3; }

/* Ranges of a LINE, and where its leaves begin. */
KF_INLINE uint32_t kf_line_ranges(int width) { return width == 2 ? 16 : 10; }
KF_INLINE uint32_t kf_line_leaves(int width) { return width == 2 ? 32 : 24; }

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

/* How many of the first n ranges of a line, 10, 16 or 32, end before `slice`; by the compiler's own vectors, eight
 * at a time, for whatever CPU. (GCC 12 at -O3 miscounts the plain loop.) */
typedef uint16_t kf_eight __attribute__((vector_size(16), may_alias));

KF_INLINE uint32_t kf_count(const uint16_t *last, uint32_t slice, uint32_t n)
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

KF_INLINE const char *kf_line_leaf(const char *line, int width, uint32_t slice)
{
    return line + kf_line_leaves(width) + kf_count((const uint16_t *)line, slice, kf_line_ranges(width)) * width;
}

/* The LINE of a LINES that a slice belongs to. */
KF_INLINE const char *kf_lines_line(const char *lines, uint32_t slice)
{
    return lines + KF_LINE_BYTES + KF_LINE_BYTES * (size_t)kf_count((const uint16_t *)lines, slice, KF_TOP_ENDS);
}

KF_INLINE uint32_t kf_reference(int width, uint32_t v)
{
    return width == 2 ? KF_CHILD | (uint32_t)KF_NODE_LINES << 28 | (v & 0x7FFF) << 2 : v;
}

/* Where a leaf of a node is. */
KF_INLINE char *kf_node_leaf(const char *arena, int width, uint32_t reference, uint32_t slice)
{
    const char *node = arena + (size_t)(reference & KF_NODE_AT) * KF_LINE_BYTES;
    if (kf_node_kind(reference) == KF_NODE_LINES)
        node = kf_lines_line(node, slice);
    return (char *)kf_line_leaf(node, width, slice);
}

/* One key on its own. */
KF_INLINE uint32_t kf_rank_answer(const kf_lpm *t, int width, uint32_t key)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    const uint64_t *root = (const uint64_t *)kf_at(t, t->root);
    uint32_t v = kf_entry_slot(arena, width, root + (key >> 13), key >> 8 & 31);
    if (kf_is_child(width, v))
        v = kf_slot_load(kf_node_leaf(arena, width, kf_reference(width, v), (key & 255) << 8), width);
    return v;
}

/* All keys at once through the root, those few that go deeper on their own. */
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
                    hop[done + i] = kf_rank_answer(t, width, k[i]);
    }
}

#define KF_RANK_LOOKUP(NAME, TARGET)                                                              \
    TARGET static inline void NAME(const kf_lpm *t, const uint32_t *key, size_t n, uint32_t *hop) \
    {                                                                                             \
        if (t->width == 2)                                                                        \
            kf_rank4(t, 2, key, n, hop);                                                          \
        else                                                                                      \
            kf_rank4(t, 4, key, n, hop);                                                          \
    }

KF_RANK_LOOKUP(kf_rank_lookup_scalar, )

#if KF_X86
KF_RANK_LOOKUP(kf_rank_lookup_avx2, KF_TARGET_AVX2)
KF_RANK_LOOKUP(kf_rank_lookup_avx512, KF_TARGET_AVX512)
#endif

#endif
