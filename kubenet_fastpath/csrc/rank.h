/* Lookups in the rank trie: the compact engine of IPv4, and the engine of IPv6.
 *
 * Every node decides a slice of the key: the root the first 24 bits (IPv4) or 16 bits (IPv6), each other node the
 * next 16. Equal neighbours share a leaf; a node finds the leaf of a slice in one of three ways.
 *
 *     RANK    an entry for each 32 neighbours: a bit is set where a neighbour differs from the one before, and
 *             the leaf is number `bits set up to the slice` from the entry's base. All 32 alike: no bit is set
 *             and the base is the leaf itself. (Poptrie's idea, SIGCOMM 2015, without its internal nodes.)
 *     LINE    up to 32 ranges: a line of the last slice of each, 16 bits, sorted, then their leaves. Unused ones
 *             are 0xFFFF, as the last range's: no slice lies behind.
 *     LINES   up to 1024: a line of the last slices of up to 32 LINEs, then these.
 *
 * A leaf is a slot (lpm.h). A wide child slot is a reference: KF_CHILD | kind << 28 | line in the arena; a narrow one
 * has the number of a LINES in its low 15 bits, in steps of four lines. Keys go level by level, sorted by kind of node, so that no branch depends on a
 * key and what the next step reads has been asked for one step before.
 */
#ifndef KF_RANK_H
#define KF_RANK_H

#include "lpm.h"

enum { KF_NODE_RANK, KF_NODE_LINE, KF_NODE_LINES, KF_NODES };
enum { KF_RANK_BLOCK = 256, KF_LINE_RANGES = 32, KF_NODE_ENTRIES = 1 << 11, KF_LINE_BYTES = 64 };

#define KF_NODE_AT 0x0FFFFFFFu

static inline uint32_t kf_node_kind(uint32_t reference) { return reference >> 28 & 3; }

/* Bytes of a LINE with its leaves. */
KF_INLINE uint32_t kf_line_size(int width) { return KF_LINE_BYTES + KF_LINE_RANGES * width; }

KF_INLINE uint32_t kf_slot_load(const char *p, int width)
{
    return width == 2 ? (uint32_t)(int32_t) * (const int16_t *)p : *(const uint32_t *)p;
}

/* Where the leaf of place 0..31 of an entry is; an entry of one leaf has it in its upper half. */
KF_INLINE const char *kf_entry_leaf(const char *arena, int width, const uint64_t *entry, uint32_t place)
{
    uint32_t bits = (uint32_t)*entry, base = (uint32_t)(*entry >> 32);
    uint32_t rank = (uint32_t)__builtin_popcount(bits & ((2u << place) - 1));
    const char *leaf = arena + (size_t)(base + rank - 1) * width;
    return bits ? leaf : (const char *)entry + 4;
}

/* How many ranges of a line end before `slice`. */
KF_INLINE uint32_t kf_count_scalar(const uint16_t *last, uint32_t slice)
{
    uint32_t i;
    uint16_t count = 0;
    for (i = 0; i < KF_LINE_RANGES; i++)
        count += last[i] < (uint16_t)slice;
    return count;
}

typedef uint32_t (*kf_count)(const uint16_t *last, uint32_t slice);

KF_INLINE const char *kf_line_leaf(const char *line, int width, uint32_t slice, kf_count count)
{
    return line + KF_LINE_BYTES + (size_t)count((const uint16_t *)line, slice) * width;
}

KF_INLINE const char *kf_lines_line(const char *node, int width, uint32_t slice, kf_count count)
{
    return node + KF_LINE_BYTES + (size_t)count((const uint16_t *)node, slice) * kf_line_size(width);
}

KF_INLINE uint32_t kf_reference(int width, uint32_t v)
{
    return width == 2 ? KF_CHILD | (uint32_t)KF_NODE_LINES << 28 | (v & 0x7FFF) << 2 : v;
}

KF_INLINE int kf_is_child(int width, uint32_t v)
{
    return width == 2 ? kf_is_special(v) : v >> 30 == KF_CHILD >> 30;
}

KF_INLINE const char *kf_node_leaf(const char *arena, int width, uint32_t reference, uint32_t slice)
{
    const char *node = arena + (size_t)(reference & KF_NODE_AT) * KF_LINE_BYTES;
    if (kf_node_kind(reference) == KF_NODE_RANK)
        return kf_entry_leaf(arena, width, (const uint64_t *)node + (slice >> 5), slice & 31);
    if (kf_node_kind(reference) == KF_NODE_LINES)
        node = kf_lines_line(node, width, slice, kf_count_scalar);
    return kf_line_leaf(node, width, slice, kf_count_scalar);
}

/* One key on its own. `hi` has the first 64 bits; IPv4 has its address in the upper 32 of them. */
KF_INLINE uint32_t kf_rank_answer(const kf_lpm *t, int width, uint64_t hi, uint64_t lo)
{
    const char *arena = (const char *)kf_at(t, t->arena), *leaf;
    int depth = t->family == 4 ? 24 : 16;
    uint32_t slice = (uint32_t)(hi >> (64 - depth)), v;
    leaf = kf_entry_leaf(arena, width, (const uint64_t *)kf_at(t, t->root) + (slice >> 5), slice & 31);
    while (v = kf_slot_load(leaf, width), kf_is_child(width, v)) {
        slice = (uint32_t)(depth < 64 ? hi << depth >> 48 : lo << (depth - 64) >> 48);
        leaf = kf_node_leaf(arena, width, kf_reference(width, v), slice);
        depth += 16;
    }
    return v;
}

/* IPv4: all keys at once through the root, those few that go deeper on their own. */
KF_INLINE void kf_rank4(const kf_lpm *t, int width, const uint32_t *key, size_t n, uint32_t *hop)
{
    const char *arena = (const char *)kf_at(t, t->arena), *leaf[KF_RANK_BLOCK];
    const uint64_t *root = (const uint64_t *)kf_at(t, t->root);
    uint32_t k[KF_RANK_BLOCK], special;
    size_t done, size, i;
    for (i = 0; i < n && i < KF_RANK_BLOCK; i++)
        __builtin_prefetch(&root[key[i] >> 13]);
    for (done = 0; done < n; done += size) {
        size = n - done < KF_RANK_BLOCK ? n - done : KF_RANK_BLOCK;
        for (i = 0; i < size; i++) {
            k[i] = key[done + i];
            leaf[i] = kf_entry_leaf(arena, width, &root[k[i] >> 13], k[i] >> 8 & 31);
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

/* IPv6, always wide: what is still to do is a list for each kind of node. */
typedef struct {
    uint16_t key[KF_RANK_BLOCK];
    const char *at[KF_RANK_BLOCK];
    uint32_t n;
} kf_rank_list;

/* The first or second half of a key of 16 octets, or of a pair of uint64 in host order. */
KF_INLINE uint64_t kf_half(const char *key, int octets, int second)
{
    uint64_t v;
    __builtin_memcpy(&v, key + 8 * second, 8);
    return octets ? __builtin_bswap64(v) : v;
}

KF_INLINE void kf_rank6(const kf_lpm *t, int octets, const char *key, size_t n, uint32_t *hop, kf_count count)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    const uint64_t *root = (const uint64_t *)kf_at(t, t->root);
    kf_rank_list list[KF_NODES + 1], leaf;  /* the last takes the keys that are done */
    uint64_t word[KF_RANK_BLOCK];
    size_t done, size, i;
    for (done = 0; done < n; done += size, key += 16 * size) {
        int depth = 16;
        size = n - done < KF_RANK_BLOCK ? n - done : KF_RANK_BLOCK;
        for (i = 0; i < size; i++) {
            uint64_t hi = kf_half(key + 16 * i, octets, 0);
            word[i] = hi << 16;
            leaf.key[i] = (uint16_t)i;
            leaf.at[i] = kf_entry_leaf(arena, 4, &root[hi >> 53], hi >> 48 & 31);
        }
        leaf.n = (uint32_t)size;
        for (;;) {
            uint32_t kind;
            for (kind = 0; kind <= KF_NODES; kind++)
                list[kind].n = 0;
            for (i = 0; i < leaf.n; i++) {
                uint32_t v = *(const uint32_t *)leaf.at[i], k = leaf.key[i];
                const char *at = arena + (size_t)(v & KF_NODE_AT) * KF_LINE_BYTES;
                hop[done + k] = v;
                kind = v >> 28 ^ 8;
                kind = kind < KF_NODES ? kind : KF_NODES;
                at += kind == KF_NODE_RANK ? word[k] >> 53 << 3 : 0;
                if (kind != KF_NODES)
                    __builtin_prefetch(at);
                list[kind].key[list[kind].n] = (uint16_t)k;
                list[kind].at[list[kind].n++] = at;
            }
            leaf.n = 0;
            if (list[KF_NODE_RANK].n + list[KF_NODE_LINE].n + list[KF_NODE_LINES].n == 0)
                break;
            for (i = 0; i < list[KF_NODE_LINES].n; i++) {
                uint32_t k = list[KF_NODE_LINES].key[i], j = list[KF_NODE_LINE].n++;
                const char *line = kf_lines_line(list[KF_NODE_LINES].at[i], 4, (uint32_t)(word[k] >> 48), count);
                __builtin_prefetch(line);
                list[KF_NODE_LINE].key[j] = (uint16_t)k;
                list[KF_NODE_LINE].at[j] = line;
            }
            for (i = 0; i < list[KF_NODE_RANK].n; i++) {
                uint32_t k = list[KF_NODE_RANK].key[i], j = leaf.n++;
                leaf.key[j] = (uint16_t)k;
                leaf.at[j] = kf_entry_leaf(arena, 4, (const uint64_t *)list[KF_NODE_RANK].at[i], word[k] >> 48 & 31);
                __builtin_prefetch(leaf.at[j]);
            }
            for (i = 0; i < list[KF_NODE_LINE].n; i++) {
                uint32_t k = list[KF_NODE_LINE].key[i], j = leaf.n++;
                leaf.key[j] = (uint16_t)k;
                leaf.at[j] = kf_line_leaf(list[KF_NODE_LINE].at[i], 4, (uint32_t)(word[k] >> 48), count);
                __builtin_prefetch(leaf.at[j]);
            }
            depth += 16;
            for (i = 0; i < leaf.n; i++) {
                uint32_t k = leaf.key[i];
                word[k] <<= 16;
                if (depth == 64)
                    word[k] = kf_half(key + 16 * k, octets, 1);
            }
        }
    }
}

#define KF_RANK_LOOKUP(NAME, TARGET, COUNT)                                                       \
    TARGET static inline void NAME##_v4(const kf_lpm *t, const uint32_t *key, size_t n, uint32_t *hop)     \
    {                                                                                             \
        if (t->width == 2)                                                                        \
            kf_rank4(t, 2, key, n, hop);                                                          \
        else                                                                                      \
            kf_rank4(t, 4, key, n, hop);                                                          \
    }                                                                                             \
    TARGET static inline void NAME##_v6(const kf_lpm *t, int octets, const char *key, size_t n, uint32_t *hop) \
    {                                                                                             \
        if (octets)                                                                               \
            kf_rank6(t, 1, key, n, hop, COUNT);                                                   \
        else                                                                                      \
            kf_rank6(t, 0, key, n, hop, COUNT);                                                   \
    }

KF_RANK_LOOKUP(kf_rank_lookup_scalar, , kf_count_scalar)

#if KF_X86
#include <immintrin.h>

KF_TARGET_AVX2 static inline uint32_t kf_count_avx2(const uint16_t *last, uint32_t slice)
{
    __m256i s = _mm256_set1_epi16((int16_t)slice), zero = _mm256_setzero_si256();
    __m256i a = _mm256_load_si256((const __m256i *)last), b = _mm256_load_si256((const __m256i *)(last + 16));
    a = _mm256_cmpeq_epi16(_mm256_subs_epu16(s, a), zero);
    b = _mm256_cmpeq_epi16(_mm256_subs_epu16(s, b), zero);
    return 32 - (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(a, b)));
}

KF_TARGET_AVX512 static inline uint32_t kf_count_avx512(const uint16_t *last, uint32_t slice)
{
    return (uint32_t)__builtin_popcount(
        _mm512_cmplt_epu16_mask(_mm512_load_si512(last), _mm512_set1_epi16((int16_t)slice)));
}

KF_RANK_LOOKUP(kf_rank_lookup_avx2, KF_TARGET_AVX2, kf_count_avx2)
KF_RANK_LOOKUP(kf_rank_lookup_avx512, KF_TARGET_AVX512, kf_count_avx512)
#endif

#endif
