/* Lookups of IPv6 in the rank trie, a block of keys at a time.
 *
 * Keys go level by level, in lists by kind of node, so that no branch depends on a key, and what the next step reads
 * has been asked for one step before. With AVX-512 the root and the node below it are gathered for 64 keys at once.
 * One file, though long: its scalar and its vector half fill and read the same lists.
 */
#ifndef KF_RANK6_H
#define KF_RANK6_H

#include "rank.h"

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

/* References to nodes stay in memory of our own: another thread may write to `out` by mistake. */
KF_INLINE void kf_rank6(const kf_lpm *t, int octets, const char *key, size_t n, uint32_t *out, kf_rank_first first,
                        kf_rank_entries entries, kf_count count)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    kf_rank_list behind16[KF_NODES], list[2][KF_NODES];
    uint32_t hop[KF_RANK_BLOCK];
    size_t done;
    uint32_t size;
    int depth, now;
    for (done = 0; done < n; done += size, key += 16 * (size_t)size, out += size) {
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
        __builtin_memcpy(out, hop, size * sizeof *hop);
    }
}

#if KF_X86

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
#endif

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
KF_RANK_LOOKUP(kf_rank_lookup_avx2, KF_TARGET_AVX2, kf_rank_first_scalar, kf_rank_entries_scalar, kf_count_avx2)
KF_RANK_LOOKUP(kf_rank_lookup_avx512, KF_TARGET_AVX512, kf_rank_first_avx512, kf_rank_entries_avx512, kf_count_avx512)
#endif

#endif
