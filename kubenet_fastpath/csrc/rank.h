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
 * has the number of a LINES in its low 15 bits, in steps of four lines. IPv6 keys go level by level, in lists by kind of node, so that no branch
 * depends on a key, and what the next step reads has been asked for one step before.
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

/* IPv6, always wide. Keys that go on, by kind of node: where that begins in the arena; number << 16 | slice there. */
typedef struct {
    uint32_t n;
    uint32_t at[KF_RANK_BLOCK + 16], key[KF_RANK_BLOCK + 16];       /* stored by whole vectors */
} kf_rank_list;

/* The 16 bits behind `depth` of a key of 16 octets, or of a pair of uint64 in host order. */
KF_INLINE uint32_t kf_slice(const char *key, int octets, int depth)
{
    uint16_t v;
    __builtin_memcpy(&v, key + (octets ? depth / 8 : depth / 64 * 8 + 6 - depth % 64 / 8), 2);
    return octets ? __builtin_bswap16(v) : v;
}

KF_INLINE void kf_rank_add(kf_rank_list *list, const char *arena, uint32_t key, uint32_t reference, uint32_t slice)
{
    kf_rank_list *l = &list[kf_node_kind(reference)];
    uint32_t at = (reference & KF_NODE_AT) * KF_LINE_BYTES;
    __builtin_prefetch(arena + at);
    l->key[l->n] = key << 16 | slice;
    l->at[l->n++] = at;
}

KF_INLINE uint32_t kf_rank_more(const kf_rank_list *list)
{
    return list[KF_NODE_RANK].n | list[KF_NODE_LINE].n | list[KF_NODE_LINES].n;
}

KF_INLINE void kf_rank_clear(kf_rank_list *list)
{
    int kind;
    for (kind = 0; kind < KF_NODES; kind++)
        list[kind].n = 0;
}

/* Put the keys of other lists behind those of `list`. */
KF_INLINE void kf_rank_join(kf_rank_list *list, const kf_rank_list *other)
{
    int kind;
    uint32_t i;
    for (kind = 0; kind < KF_NODES; kind++, list++, other++)
        for (i = 0; i < other->n; i++, list->n++) {
            list->key[list->n] = other->key[i];
            list->at[list->n] = other->at[i];
        }
}

/* All keys of LINES to their LINEs. */
KF_INLINE void kf_rank_descend(const char *arena, kf_rank_list *lines, kf_count count)
{
    uint32_t i, n = lines->n;
    for (i = 0; i < n; i++) {
        const char *line = kf_lines_line(arena + lines->at[i], lines->key[i] & 0xFFFF, count);
        __builtin_prefetch(line);
        lines->at[i] = (uint32_t)(line - arena);
    }
}

/* The leaves of keys at LINEs, as hops. */
KF_INLINE void kf_rank_lines(const char *arena, const kf_rank_list *line, uint32_t *hop, kf_count count)
{
    uint32_t i, n = line->n;
    for (i = 0; i < n; i++) {
        uint32_t k = line->key[i];
        hop[k >> 16] = kf_slot_load(kf_line_leaf(arena + line->at[i], 4, k & 0xFFFF, count), 4);
    }
}

/* Those keys of a list whose hops lead to children, which begin behind `depth`. */
KF_INLINE void kf_rank_deeper(const char *arena, const kf_rank_list *list, kf_rank_list *next, int octets, int depth,
                              const char *key, const uint32_t *hop)
{
    uint32_t i;
    for (i = 0; i < list->n; i++) {
        uint32_t k = list->key[i] >> 16;
        if (kf_is_child(4, hop[k]))
            kf_rank_add(next, arena, k, hop[k], kf_slice(key + 16 * (size_t)k, octets, depth));
    }
}

/* The leaves of keys at RANKs, as hops; children, which begin behind `depth`, are put into `next`. */
typedef void (*kf_rank_entries)(const char *arena, const kf_rank_list *rank, kf_rank_list *next, int octets, int depth,
                                const char *key, uint32_t *hop);

KF_INLINE void kf_rank_entries_scalar(const char *arena, const kf_rank_list *rank, kf_rank_list *next, int octets,
                                      int depth, const char *key, uint32_t *hop)
{
    uint32_t i, n = rank->n;
    for (i = 0; i < n; i++) {
        uint32_t k = rank->key[i], slice = k & 0xFFFF;
        hop[k >> 16] = kf_entry_slot(arena, 4, (const uint64_t *)(arena + rank->at[i]) + (slice >> 5), slice & 31);
    }
    kf_rank_deeper(arena, rank, next, octets, depth, key, hop);
}

/* Whether any of a block's hops is special. */
KF_INLINE uint32_t kf_rank_any(const uint32_t *hop, uint32_t n)
{
    uint32_t i, any = 0;
    for (i = 0; i < n; i++)
        any |= hop[i] + 1;
    return any >> 31;
}

/* The hops of those of n keys whose nodes begin behind `depth`; children are put into `next`. */
KF_INLINE void kf_rank_level(const char *arena, kf_rank_list *list, kf_rank_list *next, int octets, int depth,
                             const char *key, uint32_t *hop, uint32_t n, kf_rank_entries entries, kf_count count)
{
    kf_rank_list *line = &list[KF_NODE_LINE], *lines = &list[KF_NODE_LINES];
    kf_rank_descend(arena, lines, count);
    kf_rank_clear(next);
    entries(arena, &list[KF_NODE_RANK], next, octets, depth + 16, key, hop);
    kf_rank_lines(arena, line, hop, count);
    kf_rank_lines(arena, lines, hop, count);
    if (line->n + lines->n && kf_rank_any(hop, n)) {
        kf_rank_deeper(arena, line, next, octets, depth + 16, key, hop);
        kf_rank_deeper(arena, lines, next, octets, depth + 16, key, hop);
    }
}

/* What the first levels say of up to a block of keys, and which go on behind 16 bits, and behind 32. */
typedef void (*kf_rank_first)(const kf_lpm *t, int octets, const char *key, uint32_t n, uint32_t *hop,
                              kf_rank_list *behind16, kf_rank_list *behind32);

KF_INLINE void kf_rank_first_scalar(const kf_lpm *t, int octets, const char *key, uint32_t n, uint32_t *hop,
                                    kf_rank_list *behind16, kf_rank_list *behind32)
{
    const uint32_t *root = (const uint32_t *)kf_at(t, t->root);
    uint32_t i;
    (void)behind32;
    for (i = 0; i < n; i++) {
        hop[i] = root[kf_slice(key + 16 * (size_t)i, octets, 0)];
        if (kf_is_child(4, hop[i]))
            kf_rank_add(behind16, (const char *)kf_at(t, t->arena), i, hop[i],
                        kf_slice(key + 16 * (size_t)i, octets, 16));
    }
}

KF_INLINE void kf_rank6(const kf_lpm *t, int octets, const char *key, size_t n, uint32_t *hop, kf_rank_first first,
                        kf_rank_entries entries, kf_count count)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    kf_rank_list behind16[KF_NODES], list[2][KF_NODES];
    size_t done;
    uint32_t size;
    int depth, now;
    for (done = 0; done < n; done += size, key += 16 * (size_t)size, hop += size) {
        size = n - done < KF_RANK_BLOCK ? (uint32_t)(n - done) : KF_RANK_BLOCK;
        kf_rank_clear(behind16);
        kf_rank_clear(list[0]);
        kf_rank_clear(list[1]);
        first(t, octets, key, size, hop, behind16, list[0]);
        if (kf_rank_more(behind16)) {
            kf_rank_level(arena, behind16, list[1], octets, 16, key, hop, size, entries, count);
            kf_rank_join(list[0], list[1]);
        }
        if (kf_rank_more(list[0]))
            kf_rank_level(arena, list[0], list[1], octets, 32, key, hop, size, entries, count);
        for (depth = 48, now = 1; kf_rank_more(list[now]); depth += 16, now = !now)
            kf_rank_level(arena, list[now], list[!now], octets, depth, key, hop, size, entries, count);
    }
}

#define KF_RANK_LOOKUP(NAME, TARGET, FIRST, ENTRIES, COUNT)                                       \
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
            kf_rank6(t, 1, key, n, hop, FIRST, ENTRIES, COUNT);                                   \
        else                                                                                      \
            kf_rank6(t, 0, key, n, hop, FIRST, ENTRIES, COUNT);                                   \
    }

KF_RANK_LOOKUP(kf_rank_lookup_scalar, , kf_rank_first_scalar, kf_rank_entries_scalar, kf_count_scalar)

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

/* The first 32 bits of sixteen keys, or the next 32. */
KF_TARGET_AVX512 KF_INLINE __m512i kf_heads(const char *key, int octets, int next)
{
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i word = _mm512_add_epi32(first, _mm512_set1_epi32(octets ? next : !next));
    __m512i a = _mm512_permutex2var_epi32(_mm512_loadu_si512(key), word, _mm512_loadu_si512(key + 64));
    __m512i b = _mm512_permutex2var_epi32(_mm512_loadu_si512(key + 128), word, _mm512_loadu_si512(key + 192));
    a = _mm512_inserti64x4(a, _mm512_castsi512_si256(b), 1);
    if (octets)
        a = _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14,
                                                                        13, 12)));
    return a;
}

/* The entries with these numbers, where `which` says so: their bits and bases; no bits in other lanes. */
KF_TARGET_AVX512 KF_INLINE void kf_entry_vectors(const char *entries, __mmask16 which, __m512i at, __m512i *bits,
                                                 __m512i *base)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i zero = _mm512_setzero_si512(), odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    __m512i low = _mm512_mask_i32gather_epi64(zero, (__mmask8)which, _mm512_castsi512_si256(at), entries, 8);
    __m512i high = _mm512_mask_i32gather_epi64(zero, (__mmask8)(which >> 8), _mm512_extracti64x4_epi64(at, 1), entries, 8);
    *bits = _mm512_permutex2var_epi32(low, even, high);
    *base = _mm512_permutex2var_epi32(low, odd, high);
}

/* The leaves of their places 0..31; lanes outside `which` stay `v`. */
KF_TARGET_AVX512 KF_INLINE __m512i kf_entry_leaves(const char *arena, __mmask16 which, __m512i bits, __m512i base,
                                                   __m512i place, __m512i v)
{
    const __m512i one = _mm512_set1_epi32(1);
    __mmask16 many = _mm512_test_epi32_mask(bits, bits);
    v = _mm512_mask_mov_epi32(v, which, base);
    bits = _mm512_and_si512(bits, _mm512_sub_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(2), place), one));
    base = _mm512_add_epi32(base, _mm512_sub_epi32(_mm512_popcnt_epi32(bits), one));
    return _mm512_mask_i32gather_epi32(v, many, base, arena, 4);
}

/* Put the keys of a vector into the lists of their nodes' kinds. */
KF_TARGET_AVX512 KF_INLINE void kf_rank_sort(kf_rank_list *list, __mmask16 child, __m512i v, __m512i number,
                                             __m512i slice)
{
    const __m512i key = _mm512_or_si512(_mm512_slli_epi32(number, 16), slice), at = _mm512_slli_epi32(v, 6);
    uint32_t kind;
#pragma GCC unroll 3
    for (kind = 0; kind < KF_NODES; kind++) {
        kf_rank_list *l = &list[kind];
        __mmask16 these = _mm512_mask_cmpeq_epi32_mask(child, _mm512_srli_epi32(v, 28), _mm512_set1_epi32((int)(8 + kind)));
        _mm512_storeu_si512(&l->key[l->n], _mm512_maskz_compress_epi32(these, key));
        _mm512_storeu_si512(&l->at[l->n], _mm512_maskz_compress_epi32(these, at));
        l->n += (uint32_t)__builtin_popcount(these);
    }
}

/* The slices behind `depth` of keys with these numbers. */
KF_TARGET_AVX512 KF_INLINE __m512i kf_slices(const char *key, int octets, int depth, __mmask16 which, __m512i number)
{
    const int at = octets ? depth / 8 : depth / 64 * 8 + 6 - depth % 64 / 8;
    __m512i v = _mm512_mask_i32gather_epi32(number, which, _mm512_slli_epi32(number, 4), key + (at & ~3), 1);
    v = at & 2 ? _mm512_srli_epi32(v, 16) : _mm512_and_si512(v, _mm512_set1_epi32(0xFFFF));
    if (octets)
        v = _mm512_and_si512(_mm512_or_si512(_mm512_slli_epi32(v, 8), _mm512_srli_epi32(v, 8)), _mm512_set1_epi32(0xFFFF));
    return v;
}

KF_TARGET_AVX512 static inline void kf_rank_entries_avx512(const char *arena, const kf_rank_list *rank,
                                                           kf_rank_list *next, int octets, int depth, const char *key,
                                                           uint32_t *hop)
{
    const __m512i low5 = _mm512_set1_epi32(31), low16 = _mm512_set1_epi32(0xFFFF);
    uint32_t i, j, n = rank->n, leaf[16];
    for (i = 0; i < n; i += 16) {
        __mmask16 these = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xFFFF, child;
        __m512i k = _mm512_loadu_si512(&rank->key[i]), slice = _mm512_and_si512(k, low16);
        __m512i at = _mm512_srli_epi32(_mm512_loadu_si512(&rank->at[i]), 3);
        __m512i bits, base, v;
        kf_entry_vectors(arena, these, _mm512_add_epi32(at, _mm512_srli_epi32(slice, 5)), &bits, &base);
        v = kf_entry_leaves(arena, these, bits, base, _mm512_and_si512(slice, low5), _mm512_setzero_si512());
        _mm512_storeu_si512(leaf, v);
        for (j = 0; j < 16 && i + j < n; j++)
            hop[rank->key[i + j] >> 16] = leaf[j];
        child = _mm512_mask_cmpeq_epi32_mask(these, _mm512_srli_epi32(v, 30), _mm512_set1_epi32(KF_CHILD >> 30));
        if (child) {
            k = _mm512_srli_epi32(k, 16);
            kf_rank_sort(next, child, v, k, kf_slices(key, octets, depth, child, k));
        }
    }
}

/* The root and a RANK below it, four vectors at a time, so that gathers overlap. */
KF_TARGET_AVX512 static inline void kf_rank_first_avx512(const kf_lpm *t, int octets, const char *key, uint32_t n,
                                                         uint32_t *hop, kf_rank_list *behind16, kf_rank_list *behind32)
{
    enum { VECTORS = 4, KEYS = 16 * VECTORS };
    const char *arena = (const char *)kf_at(t, t->arena), *root = (const char *)kf_at(t, t->root);
    const __m512i low5 = _mm512_set1_epi32(31), low16 = _mm512_set1_epi32(0xFFFF);
    const __m512i is_child = _mm512_set1_epi32(KF_CHILD >> 30), is_rank = _mm512_set1_epi32(KF_CHILD >> 28 | KF_NODE_RANK);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t i, j, kind;
    for (i = 0; n - i >= KEYS; i += KEYS) {
        __m512i k[VECTORS], v[VECTORS];
        __mmask16 child[VECTORS], rank[VECTORS], any = 0, others = 0;
#pragma GCC unroll 16
        for (j = 0; j < KEYS / 4; j++)      /* the next block's keys: their own stream stops while nodes are read */
            __builtin_prefetch(key + 16 * (size_t)(i + KF_RANK_BLOCK) + 64 * j);
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++) {
            k[j] = kf_heads(key + 16 * (size_t)(i + 16 * j), octets, 0);
            v[j] = _mm512_i32gather_epi32(_mm512_srli_epi32(k[j], 16), root, 4);
            child[j] = _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(v[j], 30), is_child);
            rank[j] = _mm512_mask_cmpeq_epi32_mask(child[j], _mm512_srli_epi32(v[j], 28), is_rank);
            any |= child[j];
            others |= child[j] ^ rank[j];
        }
        if (others)
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++)
                kf_rank_sort(behind16, child[j] ^ rank[j], v[j],
                             _mm512_add_epi32(lane, _mm512_set1_epi32((int)(i + 16 * j))), _mm512_and_si512(k[j], low16));
        if (any) {
            __m512i bits[VECTORS], base[VECTORS];
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++) {
                __m512i at = _mm512_and_si512(_mm512_slli_epi32(v[j], 3), _mm512_set1_epi32(KF_NODE_AT << 3));
                at = _mm512_add_epi32(at, _mm512_srli_epi32(_mm512_and_si512(k[j], low16), 5));
                kf_entry_vectors(arena, rank[j], at, &bits[j], &base[j]);
            }
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++)
                v[j] = kf_entry_leaves(arena, rank[j], bits[j], base[j], _mm512_and_si512(k[j], low5), v[j]);
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++)
                child[j] = _mm512_mask_cmpeq_epi32_mask(rank[j], _mm512_srli_epi32(v[j], 30), is_child);
#pragma GCC unroll 4
            for (j = 0; j < VECTORS; j++)
                kf_rank_sort(behind32, child[j], v[j], _mm512_add_epi32(lane, _mm512_set1_epi32((int)(i + 16 * j))),
                             _mm512_srli_epi32(kf_heads(key + 16 * (size_t)(i + 16 * j), octets, 1), 16));
        }
#pragma GCC unroll 4
        for (j = 0; j < VECTORS; j++)
            _mm512_storeu_si512(&hop[i + 16 * j], v[j]);
    }
    for (j = 0; j < behind32[KF_NODE_RANK].n; j++)
        __builtin_prefetch(arena + behind32[KF_NODE_RANK].at[j] + ((behind32[KF_NODE_RANK].key[j] & 0xFFFF) >> 5 << 3));
    for (kind = KF_NODE_LINE; kind < KF_NODES; kind++)
        for (j = 0; j < behind32[kind].n; j++)
            __builtin_prefetch(arena + behind32[kind].at[j]);
    for (; i < n; i++) {
        hop[i] = ((const uint32_t *)root)[kf_slice(key + 16 * (size_t)i, octets, 0)];
        if (kf_is_child(4, hop[i]))
            kf_rank_add(behind16, arena, i, hop[i], kf_slice(key + 16 * (size_t)i, octets, 16));
    }
}

KF_RANK_LOOKUP(kf_rank_lookup_avx2, KF_TARGET_AVX2, kf_rank_first_scalar, kf_rank_entries_scalar, kf_count_avx2)
KF_RANK_LOOKUP(kf_rank_lookup_avx512, KF_TARGET_AVX512, kf_rank_first_avx512, kf_rank_entries_avx512, kf_count_avx512)
#endif

#endif
