/* Lookups of IPv6, a block of keys at a time.
 *
 * Window by window: the keys that go on are put into a list, take all steps of the window's trees together, and
 * their slots are put where they came from. What a step reads beyond the first-level cache has been asked for one pass
 * before. With AVX-512 the root is gathered and lists are compressed for 16 keys at once; trees are walked a key at a
 * time by every variant, since a node is a line and one comparison.
 */
#ifndef KF_BTREE_FIND_H
#define KF_BTREE_FIND_H

#include "btree.h"
#include "stream.h"

enum { KF_TREE_BLOCK = 96, KF_TREE_GROUP = 8, KF_KEYS_AHEAD = 512 };

typedef struct {
    uint32_t n;
    uint32_t key[KF_TREE_BLOCK + 16] __attribute__((aligned(64)));      /* the window; stored by whole vectors */
    uint32_t at[KF_TREE_BLOCK + 16] __attribute__((aligned(64)));       /* where the key has come to in the arena */
    uint32_t slot[KF_TREE_BLOCK + 16] __attribute__((aligned(64)));
} kf_tree_list;

/* Else the compiler makes vectors of what is to be stored one by one, and adds up addresses anew each time. */
#define KF_KEEP(value) __asm__("" : "+r"(value))

/* Half of a key of 16 octets, or of a pair of uint64 in host order. */
KF_INLINE uint64_t kf_half(const char *key, int octets, int half)
{
    uint64_t v;
    __builtin_memcpy(&v, key + 8 * half, 8);
    return octets ? __builtin_bswap64(v) : v;
}

/* Those of n keys that go on in a window; in the first one, what the root says of all. `tail` has what is left behind the
 * last 16 keys, and zeros. */
typedef void (*kf_collect)(const kf_lpm *t, int width, int octets, const char *key, const char *tail, uint32_t n, int window,
                           uint32_t *hop, kf_tree_list *list);

KF_INLINE void kf_collect_scalar(const kf_lpm *t, int width, int octets, const char *key, const char *tail, uint32_t n,
                                 int window, uint32_t *hop, kf_tree_list *list)
{
    const uint32_t *root = (const uint32_t *)kf_at(t, t->root);
    uint32_t i, m = 0;
    (void)tail;
    for (i = 0; i < n; i++) {
        const char *k = key + 16 * (size_t)i;
        uint64_t hi = kf_half(k, octets, 0), lo = window ? kf_half(k, octets, 1) : 0;
        if (window == 0) {
            __builtin_prefetch(k + 16 * KF_KEYS_AHEAD);
            hop[i] = root[hi >> 48];
        }
        list->key[m] = kf_window(hi, lo, window);
        list->at[m] = kf_tree_at(width, hop[i]);
        m += (uint32_t)kf_is_child(width, hop[i]);
    }
    list->n = m;
}

/* Put the slots of a list where its keys came from. */
typedef void (*kf_settle)(int width, uint32_t n, uint32_t *hop, const kf_tree_list *list);

KF_INLINE void kf_settle_scalar(int width, uint32_t n, uint32_t *hop, const kf_tree_list *list)
{
    uint32_t i, m = 0;
    for (i = 0; i < n; i++) {
        uint32_t child = (uint32_t)kf_is_child(width, hop[i]);
        hop[i] = child ? list->slot[m] : hop[i];
        m += child;
    }
}

/* All keys of a list through their trees: INNERs; NODEs; leaves. KEY is a window as COUNT takes it, by LOAD. The two
 * levels that the first window of a full table has are steps without a loop. */
#define KF_TREE_WALK(NAME, TARGET, KEY, LOAD, COUNT)                                              \
    TARGET KF_INLINE void NAME##_levels(const char *arena, int width, int levels, kf_tree_list *list) \
    {                                                                                             \
        const uint32_t ends = kf_leaf_ranges(width) - 1;                                          \
        uint32_t i, j, n = list->n, slot;                                                         \
        size_t at[KF_TREE_GROUP];                                                                 \
        KEY key[KF_TREE_GROUP];                                                                   \
        int level;                                                                                \
        for (i = n; i % KF_TREE_GROUP; i++) {       /* fill the last group with a key that is there */\
            list->key[i] = list->key[n - 1];                                                      \
            list->at[i] = list->at[n - 1];                                                        \
        }                                                                                         \
        n = i;                                                                                    \
        for (i = 0; i < n && levels; i += KF_TREE_GROUP) {                                        \
            _Pragma("GCC unroll 8") for (j = 0; j < KF_TREE_GROUP; j++)                           \
            {                                                                                     \
                key[j] = LOAD(&list->key[i + j]);                                                 \
                at[j] = list->at[i + j];                                                          \
            }                                                                                     \
            for (level = 0; level < levels; level++)                                              \
                _Pragma("GCC unroll 8") for (j = 0; j < KF_TREE_GROUP; j++)                       \
                {                                                                                 \
                    at[j] = kf_inner_child(arena, at[j], COUNT(arena + at[j], key[j], KF_CHILDREN));\
                    KF_KEEP(at[j]);                                                               \
                }                                                                                 \
            _Pragma("GCC unroll 8") for (j = 0; j < KF_TREE_GROUP; j++)                           \
            {                                                                                     \
                __builtin_prefetch(arena + at[j]);                                                \
                list->at[i + j] = (uint32_t)at[j];                                                \
            }                                                                                     \
        }                                                                                         \
        for (i = 0; i < n; i += KF_TREE_GROUP)                                                    \
            _Pragma("GCC unroll 8") for (j = 0; j < KF_TREE_GROUP; j++)                           \
            {                                                                                     \
                size_t place = list->at[i + j];                                                   \
                place = kf_node_leaf_at(place, COUNT(arena + place, LOAD(&list->key[i + j]), KF_CHILDREN));\
                KF_KEEP(place);                                                                   \
                __builtin_prefetch(arena + place);                                                \
                list->at[i + j] = (uint32_t)place;                                                \
            }                                                                                     \
        for (i = 0; i < n; i += KF_TREE_GROUP)                                                    \
            _Pragma("GCC unroll 8") for (j = 0; j < KF_TREE_GROUP; j++)                           \
            {                                                                                     \
                size_t place = list->at[i + j];                                                   \
                uint32_t below = COUNT(arena + place, LOAD(&list->key[i + j]), ends);             \
                slot = kf_slot_load(kf_leaf_slot(arena, width, place, below), width);             \
                KF_KEEP(slot);                                                                    \
                list->slot[i + j] = slot;                                                         \
            }                                                                                     \
    }                                                                                             \
    TARGET KF_INLINE void NAME(const char *arena, int width, int levels, kf_tree_list *list)      \
    {                                                                                             \
        if (levels == 2)                                                                          \
            NAME##_levels(arena, width, 2, list);                                                 \
        else                                                                                      \
            NAME##_levels(arena, width, levels, list);                                            \
    }

typedef void (*kf_walk)(const char *arena, int width, int levels, kf_tree_list *list);

/* References to trees stay in memory of our own: another thread may write to `out` by mistake. */
KF_INLINE void kf_btree6(const kf_lpm *t, int width, int octets, const char *key, size_t n, uint32_t *out,
                         kf_collect collect, kf_walk walk, kf_settle settle)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    uint32_t hop[KF_TREE_BLOCK + 16] __attribute__((aligned(64))), size;
    kf_tree_list list;
    char tail[256] __attribute__((aligned(64)));
    size_t done;
    int window, streams = kf_streams(n);
    KF_KEEP(arena);
    for (done = 0; done < n; done += size, key += 16 * (size_t)size, out += size) {
        size = n - done < KF_TREE_BLOCK ? (uint32_t)(n - done) : KF_TREE_BLOCK;
        if (streams && done == 0 && kf_stream_head(out))
            size = (uint32_t)kf_stream_head(out);
        if (size % 16) {
            __builtin_memset(tail, 0, sizeof tail);
            __builtin_memcpy(tail, key + 16 * (size_t)(size & ~15u), 16 * (size_t)(size & 15));
        }
        collect(t, width, octets, key, tail, size, 0, hop, &list);
        for (window = 0; list.n;) {
            walk(arena, width, arena[window], &list);
            settle(width, size, hop, &list);
            if (++window == KF_WINDOWS)
                break;
            collect(t, width, octets, key, tail, size, window, hop, &list);
        }
        if (streams)
            kf_stream(out, hop, size);
        else
            __builtin_memcpy(out, hop, size * sizeof *hop);
    }
    if (streams)
        kf_stream_end();
}

#define KF_LOAD_SCALAR(place) (*(place))
KF_TREE_WALK(kf_walk_scalar, , uint32_t, KF_LOAD_SCALAR, kf_below_scalar)

#if KF_X86
#include <immintrin.h>

KF_TARGET_AVX2 KF_INLINE uint32_t kf_below_avx2(const char *line, __m256i key, uint32_t n)
{
    const __m256i *last = (const __m256i *)line;
    __m256i a = _mm256_load_si256(last), b = _mm256_load_si256(last + 1);
    /* a value that is the larger of the two is not below */
    a = _mm256_cmpeq_epi32(_mm256_max_epu32(a, key), a);
    if (n < 8)
        return n - (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(a)) & ((1u << (n & 31)) - 1));
    b = _mm256_cmpeq_epi32(_mm256_max_epu32(b, key), b);
    a = _mm256_packs_epi32(a, b);       /* two octets a value: 0..3, 8..11, 4..7, 12..15 */
    return n - (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(a) & (n == 16 ? ~0u : 0x00FF0FFF)) / 2;
}

#define KF_LOAD_AVX2(place) _mm256_set1_epi32((int)*(place))
KF_TREE_WALK(kf_walk_avx2, KF_TARGET_AVX2, __m256i, KF_LOAD_AVX2, kf_below_avx2)

KF_TARGET_AVX512 KF_INLINE uint32_t kf_below_avx512(const char *line, __m512i key, uint32_t n)
{
    const __m512i last = _mm512_load_si512(line);
    __mmask16 mask = n == 16 ? _mm512_cmpgt_epu32_mask(key, last)
                             : _mm512_mask_cmpgt_epu32_mask((__mmask16)((1u << (n & 15)) - 1), key, last);
    uint32_t below;     /* by hand: GCC 12 keeps masks in memory, 16 bits of which it reads 32 */
    __asm__("kmovw %1, %0" : "=r"(below) : "k"(mask));
    return (uint32_t)__builtin_popcount(below);
}

#define KF_LOAD_AVX512(place) _mm512_set1_epi32((int)*(place))
KF_TREE_WALK(kf_walk_avx512, KF_TARGET_AVX512, __m512i, KF_LOAD_AVX512, kf_below_avx512)

/* 32 bits of sixteen keys: the first ones, or the second, third or last. */
KF_TARGET_AVX512 KF_INLINE __m512i kf_words(const char *key, int octets, int number)
{
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i word = _mm512_add_epi32(first, _mm512_set1_epi32(octets ? number : number ^ 1));
    __m512i a = _mm512_permutex2var_epi32(_mm512_loadu_si512(key), word, _mm512_loadu_si512(key + 64));
    __m512i b = _mm512_permutex2var_epi32(_mm512_loadu_si512(key + 128), word, _mm512_loadu_si512(key + 192));
    a = _mm512_inserti64x4(a, _mm512_castsi512_si256(b), 1);
    if (octets)
        a = _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14,
                                                                        13, 12)));
    return a;
}

KF_TARGET_AVX512 KF_INLINE __mmask16 kf_children(int width, __m512i v)
{
    if (width == 2)     /* negative, but not -1 */
        return _mm512_cmplt_epi32_mask(v, _mm512_set1_epi32(-1));
    return _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(v, 30), _mm512_set1_epi32(KF_CHILD >> 30));
}

KF_TARGET_AVX512 static inline void kf_collect_avx512(const kf_lpm *t, int width, int octets, const char *key,
                                                      const char *tail, uint32_t n, int window, uint32_t *hop,
                                                      kf_tree_list *list)
{
    const uint32_t *root = (const uint32_t *)kf_at(t, t->root);
    uint32_t i, j, m = 0;
    for (i = 0; i < n; i += 16) {
        const char *k = n - i < 16 ? tail : key + 16 * (size_t)i;
        __m512i first = window == 0 ? kf_words(k, octets, 0) : _mm512_setzero_si512(), next, at, v;
        __mmask16 child;
        if (window == 0) {
#pragma GCC unroll 4
            for (j = 0; j < 4; j++)
                __builtin_prefetch(key + 16 * (size_t)(i + KF_KEYS_AHEAD) + 64 * j);
            v = _mm512_i32gather_epi32(_mm512_srli_epi32(first, 16), root, 4);
            _mm512_store_si512(&hop[i], v);
        } else
            v = _mm512_load_si512(&hop[i]);
        child = kf_children(width, v);
        if (!child)
            continue;
        if (window)
            first = kf_words(k, octets, window);
        next = window < 3 ? kf_words(k, octets, window + 1) : _mm512_setzero_si512();
        next = _mm512_shldi_epi32(first, next, 16);
        at = width == 2 ? _mm512_slli_epi32(_mm512_and_si512(v, _mm512_set1_epi32(0x7FFF)), 8) : _mm512_slli_epi32(v, 6);
        if (child != 0xFFFF) {
            next = _mm512_maskz_compress_epi32(child, next);
            at = _mm512_maskz_compress_epi32(child, at);
        }
        _mm512_storeu_si512(&list->key[m], next);
        _mm512_storeu_si512(&list->at[m], at);
        m += (uint32_t)__builtin_popcount((uint32_t)child);
    }
    list->n = m;
}

KF_TARGET_AVX512 static inline void kf_settle_avx512(int width, uint32_t n, uint32_t *hop, const kf_tree_list *list)
{
    uint32_t i, m = 0;
    for (i = 0; i < n; i += 16) {
        __m512i v = _mm512_load_si512(&hop[i]);
        __mmask16 child = kf_children(width, v);
        _mm512_store_si512(&hop[i], _mm512_mask_expand_epi32(v, child, _mm512_loadu_si512(&list->slot[m])));
        m += (uint32_t)__builtin_popcount((uint32_t)child);
    }
}
#endif

#define KF_BTREE_LOOKUP(NAME, TARGET, COLLECT, WALK, SETTLE)                                      \
    TARGET static inline void NAME(const kf_lpm *t, int octets, const char *key, size_t n, uint32_t *hop) \
    {                                                                                             \
        if (t->width == 2 && octets)                                                              \
            kf_btree6(t, 2, 1, key, n, hop, COLLECT, WALK, SETTLE);                               \
        else if (t->width == 2)                                                                   \
            kf_btree6(t, 2, 0, key, n, hop, COLLECT, WALK, SETTLE);                               \
        else if (octets)                                                                          \
            kf_btree6(t, 4, 1, key, n, hop, COLLECT, WALK, SETTLE);                               \
        else                                                                                      \
            kf_btree6(t, 4, 0, key, n, hop, COLLECT, WALK, SETTLE);                               \
    }

KF_BTREE_LOOKUP(kf_btree_lookup_scalar, , kf_collect_scalar, kf_walk_scalar, kf_settle_scalar)

#if KF_X86
KF_BTREE_LOOKUP(kf_btree_lookup_avx2, KF_TARGET_AVX2, kf_collect_scalar, kf_walk_avx2, kf_settle_scalar)
KF_BTREE_LOOKUP(kf_btree_lookup_avx512, KF_TARGET_AVX512, kf_collect_avx512, kf_walk_avx512, kf_settle_avx512)
#endif

#endif
