/* Finding many tuples in the flow table: hashed, and their memory asked for, a block ahead of its use.
 *
 * A block goes through three stages, which take turns with those of the blocks beside it: hash the tuples and ask for their
 * buckets; match the tags and ask for the row that the first match names; compare. One tuple in thirty shares its tag with
 * another, or has gone on to a further bucket; these are settled behind the vector, by passes of their own. What is left
 * then, and what is found to have expired, is the caller's to search one by one, since that may change the table.
 *
 * The scalar, AVX2 and AVX-512 variants do the same, and stand side by side: hence the length.
 */
#ifndef KF_FLOW_FIND_H
#define KF_FLOW_FIND_H

#include "bucket.h"
#include "hash_lanes.h"

enum {
    KF_FIND_VECTOR = 512,
    KF_BLOCK = 64,              /* tuples that take a stage together, of a table that the caches hold */
    KF_BLOCK_FAR = 256,         /* and of one that they do not */
    KF_FAR = 1 << 18,           /* references from which on they do not */
    KF_ROW_SHIFT = 7,           /* bytes of a row: both tuples, then the time when it expires */
    KF_ROW_EXPIRES = 32,
    KF_LAST_SLOT = 1 << (KF_SLOTS - 1),
    KF_NO_ROW = -1
};

#define KF_INLINE __attribute__((always_inline)) static inline

typedef struct {
    uint64_t head, tail;
} kf_tuple;

typedef struct {                /* a vector on its way */
    uint64_t hash[KF_FIND_VECTOR] __attribute__((aligned(64)));
    uint32_t place[KF_FIND_VECTOR] __attribute__((aligned(64)));     /* in the directory */
    uint32_t offset[KF_FIND_VECTOR] __attribute__((aligned(64)));    /* in the segment, bytes */
    const kf_bucket *bucket[KF_FIND_VECTOR] __attribute__((aligned(64)));
    uint32_t ref[KF_FIND_VECTOR] __attribute__((aligned(64)));
    uint16_t match[KF_FIND_VECTOR] __attribute__((aligned(64)));    /* slots with the tag, the first of which is looked at */
    uint16_t trace[KF_FIND_VECTOR] __attribute__((aligned(64)));    /* of the bucket */
    uint8_t tag[KF_FIND_VECTOR];
    uint16_t late[KF_FIND_VECTOR + 8];
    uint32_t lates;
} kf_finding;

typedef struct {                /* what is looked up where, and what is found */
    const kf_index *index;
    const char *row;
    uint64_t secret[2];
    const kf_tuple *key;
    const int64_t *now;         /* one time for all, or one each */
    int each;
    uint32_t *conn;
    uint8_t *reply;
} kf_quest;

typedef struct {                /* columns of IPv4 tuples, host order */
    const uint32_t *src, *dst;
    const uint16_t *sport, *dport;
    const uint8_t *proto;
    uint16_t zone;
} kf_tuple_columns;

static inline const char *kf_row_at(const char *row, uint32_t ref)
{
    return row + ((uint64_t)(ref >> 1) << KF_ROW_SHIFT);
}

static inline int64_t kf_row_expires(const char *row)
{
    return *(const int64_t *)(row + KF_ROW_EXPIRES);
}

static inline int kf_row_has(const char *row, uint32_t ref, const kf_tuple *key)
{
    const kf_tuple *mine = (const kf_tuple *)row + (ref & 1);
    return !((mine->head ^ key->head) | (mine->tail ^ key->tail));
}

KF_INLINE void kf_pack_row(const kf_tuple_columns *c, size_t i, kf_tuple *key)
{
    key->head = (uint64_t)c->dst[i] << 32 | c->src[i];
    key->tail = (uint64_t)c->zone << 48 | (uint64_t)4 << 40 | (uint64_t)c->proto[i] << 32 |
                (uint32_t)c->dport[i] << 16 | c->sport[i];
}

/* -- stages, of the tuples `i` up to `end` -- */

static inline void kf_find_hash_scalar(const kf_quest *q, kf_finding *f, int i, int end)
{
    for (; i < end; i++) {
        const uint64_t hash = kf_hash128(q->key[i].head, q->key[i].tail, q->secret);
        f->hash[i] = hash;
        f->tag[i] = kf_tag(hash);
        f->bucket[i] = kf_home(q->index, hash);
        kf_prefetch(f->bucket[i]);
    }
}

static inline void kf_find_match_scalar(const kf_quest *q, kf_finding *f, int i, int end)
{
    const char *row = q->row;
    for (; i < end; i++) {
        const kf_bucket *b = f->bucket[i];
        const uint32_t match = kf_match(b, f->tag[i]);
        const uint32_t ref = b->ref[kf_first(match | KF_LAST_SLOT)] & -(uint32_t)(match != 0);
        f->match[i] = (uint16_t)match;
        f->trace[i] = b->trace;
        f->ref[i] = ref;        /* without a match the first row's */
        kf_prefetch(kf_row_at(row, ref));
    }
}

static inline void kf_find_compare_scalar(const kf_quest *quest, kf_finding *f, int i, int end)
{
    const kf_quest q = *quest;
    uint32_t lates = f->lates;
    for (; i < end; i++) {
        const uint32_t ref = f->ref[i];
        const char *row = kf_row_at(q.row, ref);
        const int same = f->match[i] && kf_row_has(row, ref, &q.key[i]);
        if (same && kf_row_expires(row) > q.now[q.each ? i : 0]) {
            q.conn[i] = ref >> 1;
            q.reply[i] = ref & 1;
        } else {
            q.conn[i] = (uint32_t)KF_NO_ROW;
            q.reply[i] = 0;
            f->late[lates] = (uint16_t)i;
            lates += same || (f->match[i] & (f->match[i] - 1)) || (f->trace[i] & kf_trace(f->hash[i]));
        }
    }
    f->lates = lates;
}

static inline void kf_pack_scalar(const kf_tuple_columns *c, size_t base, int m, kf_tuple *key)
{
    for (int i = 0; i < m; i++)
        kf_pack_row(c, base + (size_t)i, &key[i]);
}

#if KF_X86

KF_TARGET_AVX2 static inline void kf_find_hash_avx2(const kf_quest *q, kf_finding *f, int i, int end)
{
    for (; i + 4 <= end; i += 4) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)&q->key[i]);
        const __m256i y = _mm256_loadu_si256((const __m256i *)&q->key[i + 2]);
        const __m256i head = _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(x, y), 0xD8);
        const __m256i tail = _mm256_permute4x64_epi64(_mm256_unpackhi_epi64(x, y), 0xD8);
        _mm256_store_si256((__m256i *)&f->hash[i], kf_hash128_avx2(head, tail, q->secret));
        for (int k = i; k < i + 4; k++) {
            f->tag[k] = kf_tag(f->hash[k]);
            f->bucket[k] = kf_home(q->index, f->hash[k]);
            kf_prefetch(f->bucket[k]);
        }
    }
    kf_find_hash_scalar(q, f, i, end);
}

KF_TARGET_AVX512 static inline void kf_find_hash_avx512(const kf_quest *q, kf_finding *f, int i, int end)
{
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    const __m512i places = _mm512_set1_epi64((long long)(((uint64_t)1 << q->index->bits) - 1));
    const __m512i numbers = _mm512_set1_epi64((long long)q->index->mask);
    const __m512i first = _mm512_set1_epi64(offsetof(kf_segment, bucket));
    kf_segment *const *directory = q->index->segment;
    const int begin = i;
    const uint64_t secret[2] = {q->secret[0], q->secret[1]};
    const kf_tuple *key = q->key;
    for (; i + 8 <= end; i += 8) {
        const __m512i x = _mm512_loadu_si512(&key[i]), y = _mm512_loadu_si512(&key[i + 4]);
        const __m512i hash = kf_hash128_avx512(_mm512_permutex2var_epi64(x, even, y),
                                               _mm512_permutex2var_epi64(x, odd, y), secret);
        const __m512i tag = _mm512_max_epu64(_mm512_srli_epi64(hash, 56), _mm512_set1_epi64(1));
        const __m512i place = _mm512_and_si512(_mm512_srli_epi64(hash, 32), places);
        const __m512i offset = _mm512_add_epi64(_mm512_slli_epi64(_mm512_and_si512(hash, numbers), 6), first);
        _mm512_store_si512(&f->hash[i], hash);
        _mm_storel_epi64((__m128i *)&f->tag[i], _mm512_cvtepi64_epi8(tag));
        _mm256_store_si256((__m256i *)&f->place[i], _mm512_cvtepi64_epi32(place));
        _mm256_store_si256((__m256i *)&f->offset[i], _mm512_cvtepi64_epi32(offset));
    }
    for (int k = begin; k < i; k++) {       /* a gather of the directory's pointers takes longer */
        f->bucket[k] = (const kf_bucket *)((const char *)directory[f->place[k]] + f->offset[k]);
        __builtin_prefetch(f->bucket[k]);
    }
    kf_find_hash_scalar(q, f, i, end);
}

KF_TARGET_AVX512 static inline void kf_find_match_avx512(const kf_quest *q, kf_finding *f, int i, int end)
{
    const char *row = q->row;
    for (; i < end; i++) {
        const kf_bucket *b = f->bucket[i];
        const uint32_t match = _mm_mask_cmpeq_epi8_mask(KF_SLOT_MASK, _mm_load_si128((const __m128i *)b),
                                                        _mm_set1_epi8((char)f->tag[i]));
        const uint32_t ref = b->ref[_tzcnt_u32(match | KF_LAST_SLOT)] & -(uint32_t)(match != 0);
        f->match[i] = (uint16_t)match;
        f->trace[i] = b->trace;
        f->ref[i] = ref;
        __builtin_prefetch(kf_row_at(row, ref));
    }
}

KF_TARGET_AVX512 static inline __m128i kf_row_tuple(const char *row, uint32_t ref)
{
    return _mm_load_si128((const __m128i *)(kf_row_at(row, ref) + (ref & 1) * sizeof(kf_tuple)));
}

KF_TARGET_AVX512 static inline void kf_find_compare_avx512(const kf_quest *quest, kf_finding *f, int i, int end)
{
    const kf_quest q = *quest;
    const int64_t now = q.now[0];
    uint32_t lates = f->lates;
    for (; i + 8 <= end; i += 8) {
        const __m256i refs = _mm256_load_si256((const __m256i *)&f->ref[i]);
        const __m128i numbers = _mm_add_epi16(_mm_set1_epi16((short)i), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
        const __m128i match = _mm_load_si128((const __m128i *)&f->match[i]);
        const uint32_t named = _mm_test_epi16_mask(match, match);
        const uint32_t more = _mm_test_epi16_mask(match, _mm_add_epi16(match, _mm_set1_epi16(-1)));
        const __m512i part = _mm512_and_si512(_mm512_srli_epi64(_mm512_load_si512(&f->hash[i]), 8), _mm512_set1_epi64(15));
        const __m128i trace = _mm512_cvtepi64_epi16(_mm512_sllv_epi64(_mm512_set1_epi64(1), part));
        const uint32_t further = _mm_test_epi16_mask(trace, _mm_load_si128((const __m128i *)&f->trace[i]));
        const uint32_t *ref = &f->ref[i];
        uint32_t equal = 0, alive = 0, same, good, late;
        for (int k = 0; k < 8; k += 4) {
            __m512i four = _mm512_castsi128_si512(kf_row_tuple(q.row, ref[k]));
            four = _mm512_inserti32x4(four, kf_row_tuple(q.row, ref[k + 1]), 1);
            four = _mm512_inserti32x4(four, kf_row_tuple(q.row, ref[k + 2]), 2);
            four = _mm512_inserti32x4(four, kf_row_tuple(q.row, ref[k + 3]), 3);
            equal |= (uint32_t)_mm512_cmpeq_epi64_mask(four, _mm512_loadu_si512(&q.key[i + k])) << 2 * k;
        }
        if (q.each)
            for (int k = 8; k--;)
                alive = 2 * alive + (kf_row_expires(kf_row_at(q.row, ref[k])) > q.now[i + k]);
        else
            for (int k = 8; k--;)
                alive = 2 * alive + (kf_row_expires(kf_row_at(q.row, ref[k])) > now);
        same = _pext_u32(equal & equal >> 1, 0x5555) & named;
        good = same & alive;
        late = ~good & (same | more | further);
        _mm256_storeu_si256((__m256i *)&q.conn[i],
                            _mm256_mask_srli_epi32(_mm256_set1_epi32(KF_NO_ROW), (__mmask8)good, refs, 1));
        _mm_storel_epi64((__m128i *)&q.reply[i],
                         _mm_maskz_set1_epi8((__mmask16)(good & _mm256_test_epi32_mask(refs, _mm256_set1_epi32(1))), 1));
        _mm_storeu_si128((__m128i *)&f->late[lates], _mm_maskz_compress_epi16((__mmask8)late, numbers));
        lates += (uint32_t)__builtin_popcount(late);
    }
    f->lates = lates;
    kf_find_compare_scalar(quest, f, i, end);
}

KF_TARGET_AVX512 static void kf_pack_avx512(const kf_tuple_columns *c, size_t base, int m, kf_tuple *key)
{
    const __m512i family = _mm512_set1_epi64((long long)((uint64_t)c->zone << 48 | (uint64_t)4 << 40));
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    const kf_tuple_columns at = {c->src + base, c->dst + base, c->sport + base, c->dport + base, c->proto + base, c->zone};
    int i = 0;
    for (; i + 8 <= m; i += 8) {
        const __m512i src = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(at.src + i)));
        const __m512i dst = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(at.dst + i)));
        const __m512i sport = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(at.sport + i)));
        const __m512i dport = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(at.dport + i)));
        const __m512i proto = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(at.proto + i)));
        const __m512i head = _mm512_or_si512(src, _mm512_slli_epi64(dst, 32));
        const __m512i ports = _mm512_or_si512(sport, _mm512_slli_epi64(dport, 16));
        const __m512i tail = _mm512_ternarylogic_epi64(ports, _mm512_slli_epi64(proto, 32), family, 0xFE);
        _mm512_storeu_si512(&key[i], _mm512_permutex2var_epi64(head, first, tail));
        _mm512_storeu_si512(&key[i + 4], _mm512_permutex2var_epi64(head, second, tail));
    }
    for (; i < m; i++)
        kf_pack_row(&at, (size_t)i, &key[i]);
}
#endif

/* The stages of a vector's blocks, by turns. */
#define KF_FIND(NAME, TARGET, HASH, MATCH, COMPARE)                                         \
    TARGET static void NAME(const kf_quest *q, kf_finding *f, int m, int block)             \
    {                                                                                       \
        for (int at = 0; at < m + 2 * block; at += block) {                                 \
            HASH(q, f, at, at + block < m ? at + block : m);                                \
            if (at >= block)                                                                \
                MATCH(q, f, at - block, at < m ? at : m);                                   \
            if (at >= 2 * block)                                                            \
                COMPARE(q, f, at - 2 * block, at - block < m ? at - block : m);             \
        }                                                                                   \
    }

KF_FIND(kf_find_scalar, , kf_find_hash_scalar, kf_find_match_scalar, kf_find_compare_scalar)
#if KF_X86
KF_FIND(kf_find_avx2, KF_TARGET_AVX2, kf_find_hash_avx2, kf_find_match_scalar, kf_find_compare_scalar)
KF_FIND(kf_find_avx512, KF_TARGET_AVX512, kf_find_hash_avx512, kf_find_match_avx512, kf_find_compare_avx512)
#endif

/* The tuples that the first row named was not: those for which the same bucket or the next one has another. What is left
 * is in the order of the keys again, for the caller's searches may reclaim rows that a later key has found expired. */
static inline void kf_find_settle(const kf_quest *q, kf_finding *f)
{
    uint16_t on[KF_FIND_VECTOR], again[KF_FIND_VECTOR];
    uint64_t left[KF_FIND_VECTOR / 64] = {0};
    uint32_t n = 0, agains = 0, j;
    for (j = 0; j < f->lates; j++) {
        const uint16_t i = f->late[j];
        const int dead = f->match[i] && kf_row_has(kf_row_at(q->row, f->ref[i]), f->ref[i], &q->key[i]);
        const uint16_t rest = (uint16_t)(f->match[i] & (f->match[i] - 1));
        const int further = !rest && kf_passed(f->bucket[i], f->hash[i]);
        f->match[i] = rest;
        if (further) {
            f->bucket[i] = kf_probe(q->index, f->hash[i], 1);
            kf_prefetch(f->bucket[i]);
        }
        left[i / 64] |= (uint64_t)dead << i % 64;
        on[n] = i;
        n += !dead && (rest || further);
    }
    for (j = 0; j < n; j++) {
        const uint16_t i = on[j];
        const kf_bucket *b = f->bucket[i];
        if (!f->match[i])
            f->match[i] = (uint16_t)kf_match(b, f->tag[i]);
        f->ref[i] = b->ref[kf_first((uint32_t)f->match[i] | KF_LAST_SLOT)];
        kf_prefetch(f->match[i] ? kf_row_at(q->row, f->ref[i]) : (const char *)b);
        again[agains] = i;
        agains += f->match[i] != 0;
        left[i / 64] |= (uint64_t)(!f->match[i] && kf_passed(b, f->hash[i])) << i % 64;
    }
    for (j = 0; j < agains; j++) {
        const uint16_t i = again[j];
        const char *row = kf_row_at(q->row, f->ref[i]);
        const int same = kf_row_has(row, f->ref[i], &q->key[i]);
        if (same && kf_row_expires(row) > q->now[q->each ? i : 0]) {
            q->conn[i] = f->ref[i] >> 1;
            q->reply[i] = f->ref[i] & 1;
        } else if (same || (f->match[i] & (f->match[i] - 1)) || kf_passed(f->bucket[i], f->hash[i])) {
            left[i / 64] |= (uint64_t)1 << i % 64;
        }
    }
    f->lates = 0;
    for (j = 0; j < KF_FIND_VECTOR / 64; j++)
        for (; left[j]; left[j] &= left[j] - 1)
            f->late[f->lates++] = (uint16_t)(64 * j + (uint32_t)__builtin_ctzll(left[j]));
}

/* Up to KF_FIND_VECTOR tuples. f->late names those that the caller has to search. */
static inline void kf_find(const kf_quest *q, int isa, kf_finding *f, int m)
{
    const int block = q->index->used < KF_FAR ? KF_BLOCK : KF_BLOCK_FAR;
    f->lates = 0;
#if KF_X86
    if (isa >= KF_AVX512)
        kf_find_avx512(q, f, m, block);
    else if (isa >= KF_AVX2)
        kf_find_avx2(q, f, m, block);
    else
#endif
        kf_find_scalar(q, f, m, block);
    (void)isa;
    if (f->lates)
        kf_find_settle(q, f);
}

static inline void kf_pack(const kf_tuple_columns *c, int isa, size_t base, int m, kf_tuple *key)
{
#if KF_X86
    if (isa >= KF_AVX512) {
        kf_pack_avx512(c, base, m, key);
        return;
    }
#endif
    (void)isa;
    kf_pack_scalar(c, base, m, key);
}

#endif
