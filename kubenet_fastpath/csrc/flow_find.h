/* Finding many tuples in the flow table: hashed, and their memory asked for, a block ahead of its use.
 *
 * A block goes through three stages, which take turns with those of the blocks beside it: hash the tuples and ask for their
 * buckets; match the tags and ask for the tuple that the first match names, or for one that nobody has; compare. They keep
 * no more than this takes: what was not found so (misses, and one tuple in thirty that shares its tag with another or has
 * gone on to a further bucket) is settled behind the vector, by passes of their own. What is left then, and what
 * is found to have expired, is the caller's to search one by one, since that may change the table.
 *
 * The scalar, AVX2 and AVX-512 variants do the same, and stand side by side: hence the length.
 */
#ifndef KF_FLOW_FIND_H
#define KF_FLOW_FIND_H

#include "bucket.h"
#include "connection.h"
#include "hash_lanes.h"

enum {
    KF_FIND_VECTOR = 256,
    KF_BLOCK = 64,              /* tuples that take a stage together */
    KF_LAST_SLOT = 1 << (KF_SLOTS - 1),
    KF_NO_ROW = -1
};

#define KF_INLINE __attribute__((always_inline)) static inline
#define KF_APART __attribute__((noinline))      /* or the stages together want more registers than there are */

typedef struct {
    uint64_t head, tail;
} kf_tuple;

typedef struct {                /* a vector on its way */
    uint64_t hash[KF_FIND_VECTOR] __attribute__((aligned(64)));      /* its highest byte is the tag: not 0 */
    uint32_t place[KF_FIND_VECTOR] __attribute__((aligned(64)));     /* in the directory */
    uint32_t offset[KF_FIND_VECTOR] __attribute__((aligned(64)));    /* in the segment, bytes */
    const kf_bucket *bucket[KF_FIND_VECTOR] __attribute__((aligned(64)));
    uint32_t ref[KF_FIND_VECTOR] __attribute__((aligned(64)));       /* of the first slot with the tag, 0: there is none */
    uint16_t match[KF_FIND_VECTOR];     /* of the late ones: slots with the tag that are still to be looked at */
    uint8_t further[KF_FIND_VECTOR];    /* of the late ones: 1 for which the next bucket is looked at */
    uint64_t left[KF_FIND_VECTOR / 64];     /* likewise: a bit for each that the caller has to search */
    uint16_t late[KF_FIND_VECTOR + 8];
    uint32_t lates;
} kf_finding;

typedef struct {                /* what is looked up where, and what is found */
    const kf_index *index;
    const conn_t *row;          /* the first */
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

static inline int kf_row_has(const conn_t *row, uint32_t ref, const kf_tuple *key)
{
    const kf_tuple *mine = (const kf_tuple *)kf_ref_tuple(row, ref);
    return !((mine->head ^ key->head) | (mine->tail ^ key->tail));
}

KF_INLINE void kf_pack_row(const kf_tuple_columns *c, size_t i, kf_tuple *key)
{
    key->head = (uint64_t)c->dst[i] << 32 | c->src[i];
    key->tail = (uint64_t)c->zone << 48 | (uint64_t)4 << 40 | (uint64_t)c->proto[i] << 32 |
                (uint32_t)c->dport[i] << 16 | c->sport[i];
}

/* -- stages, of the tuples `i` up to `end` -- */

KF_INLINE void kf_find_home(const kf_quest *q, kf_finding *f, int i)
{
    f->bucket[i] = kf_home(q->index, f->hash[i]);
    kf_prefetch(f->bucket[i]);
}

static inline uint64_t kf_tagged(uint64_t hash) { return hash >> 56 ? hash : hash | (uint64_t)1 << 56; }

static inline void kf_find_hash_scalar(const kf_quest *q, kf_finding *f, int i, int end)
{
    for (; i < end; i++) {
        f->hash[i] = kf_tagged(kf_hash128(q->key[i].head, q->key[i].tail, q->secret));
        kf_find_home(q, f, i);
    }
}

static inline void kf_find_match_scalar(const kf_quest *q, kf_finding *f, int i, int end)
{
    for (; i < end; i++) {
        const kf_bucket *b = f->bucket[i];
        const uint32_t match = kf_match(b, kf_tag(f->hash[i]));
        f->ref[i] = b->ref[kf_first(match | KF_LAST_SLOT)] & -(uint32_t)(match != 0);
        kf_prefetch(kf_ref_tuple(q->row, f->ref[i]));
    }
}

static inline void kf_find_compare_scalar(const kf_quest *quest, kf_finding *f, int i, int end)
{
    const kf_quest q = *quest;
    uint32_t lates = f->lates;
    for (; i < end; i++) {
        const uint32_t ref = f->ref[i];
        const int good = kf_row_has(q.row, ref, &q.key[i]) && kf_ref_row(q.row, ref)->expires > q.now[q.each ? i : 0];
        q.conn[i] = good ? kf_ref_conn(ref) : (uint32_t)KF_NO_ROW;
        q.reply[i] = (uint8_t)(good && kf_ref_direction(ref));
        f->late[lates] = (uint16_t)i;
        lates += !good;
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
        const __m256i hash = kf_hash128_avx2(head, tail, q->secret);
        const __m256i bare = _mm256_cmpeq_epi64(_mm256_srli_epi64(hash, 56), _mm256_setzero_si256());
        const __m256i tag = _mm256_and_si256(bare, _mm256_set1_epi64x((long long)1 << 56));
        _mm256_store_si256((__m256i *)&f->hash[i], _mm256_or_si256(hash, tag));
        for (int k = i; k < i + 4; k++)
            kf_find_home(q, f, k);
    }
    kf_find_hash_scalar(q, f, i, end);
}

KF_TARGET_AVX512 KF_APART static void kf_find_hash_avx512(const kf_quest *q, kf_finding *f, int i, int end)
{
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    const __m512i places = _mm512_set1_epi64((long long)(((uint64_t)1 << q->index->bits) - 1));
    const __m512i numbers = _mm512_set1_epi64((long long)q->index->mask);
    const __m512i first = _mm512_set1_epi64(offsetof(kf_segment, bucket));
    const __m512i tags = _mm512_set1_epi64((long long)0xFF << 56), one = _mm512_set1_epi64((long long)1 << 56);
    kf_segment *const *directory = q->index->segment;
    const int begin = i;
    const uint64_t secret[2] = {q->secret[0], q->secret[1]};
    const kf_tuple *key = q->key;
    for (; i + 8 <= end; i += 8) {
        const __m512i x = _mm512_loadu_si512(&key[i]), y = _mm512_loadu_si512(&key[i + 4]);
        const __m512i bare = kf_hash128_avx512(_mm512_permutex2var_epi64(x, even, y),
                                               _mm512_permutex2var_epi64(x, odd, y), secret);
        const __m512i hash = _mm512_mask_or_epi64(bare, _mm512_testn_epi64_mask(bare, tags), bare, one);
        const __m512i place = _mm512_and_si512(_mm512_srli_epi64(hash, 32), places);
        const __m512i offset = _mm512_add_epi64(_mm512_slli_epi64(_mm512_and_si512(hash, numbers), 6), first);
        _mm512_store_si512(&f->hash[i], hash);
        _mm256_store_si256((__m256i *)&f->place[i], _mm512_cvtepi64_epi32(place));
        _mm256_store_si256((__m256i *)&f->offset[i], _mm512_cvtepi64_epi32(offset));
    }
    for (int k = begin; k < i; k++) {       /* a gather of the directory's pointers takes longer */
        f->bucket[k] = (const kf_bucket *)((const char *)directory[f->place[k]] + f->offset[k]);
        __builtin_prefetch(f->bucket[k]);
    }
    kf_find_hash_scalar(q, f, i, end);
}

KF_TARGET_AVX512 KF_APART static void kf_find_match_avx512(const kf_quest *q, kf_finding *f, int i, int end)
{
    const conn_t *row = q->row;
    const char *tag = (const char *)f->hash + sizeof *f->hash - 1;
    for (; i < end; i++) {
        const kf_bucket *b = f->bucket[i];
        const uint64_t match = _mm_mask_cmpeq_epi8_mask(KF_SLOT_MASK, _mm_load_si128((const __m128i *)b),
                                                        _mm_set1_epi8(tag[i * sizeof *f->hash]));
        const uint32_t ref = b->ref[_tzcnt_u64(match | KF_LAST_SLOT)] & ~-(uint32_t)(match == 0);
        f->ref[i] = ref;
        __builtin_prefetch(kf_ref_tuple(row, ref));
    }
}

/* The tuples that four references name; and the 16 bytes of each row that begin with the time when it expires. */
KF_TARGET_AVX512 static inline __m512i kf_four_tuples(const conn_t *row, const uint32_t *ref)
{
    __m512i four = _mm512_castsi128_si512(_mm_load_si128((const __m128i *)kf_ref_tuple(row, ref[0])));
    four = _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)kf_ref_tuple(row, ref[1])), 1);
    four = _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)kf_ref_tuple(row, ref[2])), 2);
    return _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)kf_ref_tuple(row, ref[3])), 3);
}

KF_TARGET_AVX512 static inline __m512i kf_four_ends(const conn_t *row, const uint32_t *ref)
{
    __m512i four = _mm512_castsi128_si512(_mm_load_si128((const __m128i *)&kf_ref_row(row, ref[0])->expires));
    four = _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)&kf_ref_row(row, ref[1])->expires), 1);
    four = _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)&kf_ref_row(row, ref[2])->expires), 2);
    return _mm512_inserti32x4(four, _mm_load_si128((const __m128i *)&kf_ref_row(row, ref[3])->expires), 3);
}

KF_TARGET_AVX512 KF_APART static void kf_find_compare_avx512(const kf_quest *quest, kf_finding *f, int i, int end)
{
    const kf_quest q = *quest;
    const __m512i twice = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    __m512i now = _mm512_set1_epi64(q.now[0]);
    uint32_t lates = f->lates;
    for (; i + 8 <= end; i += 8) {
        const __m256i refs = _mm256_load_si256((const __m256i *)&f->ref[i]);
        const __m128i numbers = _mm_add_epi16(_mm_set1_epi16((short)i), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
        const __m256i conns = _mm256_sub_epi32(_mm256_srli_epi32(refs, 4), _mm256_set1_epi32(1));
        uint32_t good = 0;
        for (int k = 0; k < 8; k += 4) {
            const __m512i keys = _mm512_loadu_si512(&q.key[i + k]);
            const uint32_t equal = _mm512_cmpeq_epi64_mask(kf_four_tuples(q.row, &f->ref[i + k]), keys);
            if (q.each)
                now = _mm512_permutexvar_epi64(
                    twice, _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)&q.now[i + k])));
            good |= (equal & equal >> 1 & _mm512_cmpgt_epi64_mask(kf_four_ends(q.row, &f->ref[i + k]), now)) << 2 * k;
        }
        good = _pext_u32(good, 0x5555);
        _mm256_storeu_si256((__m256i *)&q.conn[i],
                            _mm256_mask_mov_epi32(_mm256_set1_epi32(KF_NO_ROW), (__mmask8)good, conns));
        _mm_storel_epi64((__m128i *)&q.reply[i],
                         _mm_maskz_set1_epi8((__mmask16)(good & _mm256_test_epi32_mask(refs, _mm256_set1_epi32(KF_REF_TUPLE))), 1));
        _mm_storeu_si128((__m128i *)&f->late[lates], _mm_maskz_compress_epi16((__mmask8)~good, numbers));
        lates += 8 - (uint32_t)__builtin_popcount(good);
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
    TARGET static void NAME(const kf_quest *q, kf_finding *f, int m)                        \
    {                                                                                       \
        const int block = KF_BLOCK;                                                         \
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

/* The tuples that the first row named was not: ask for the next one that the same bucket, or the next bucket, names. No
 * branch asks for what differs from one tuple to the next: a wrong guess would cost as much as the rest. */
static inline void kf_find_again(const kf_quest *q, kf_finding *f)
{
    uint32_t n = 0, j;
    memset(f->left, 0, sizeof f->left);
    for (j = 0; j < f->lates; j++) {        /* misses, most of them */
        const uint16_t i = f->late[j];
        f->late[n] = i;
        n += (f->ref[i] != 0) | (kf_passed(f->bucket[i], f->hash[i]) != 0);
    }
    for (j = 0; j < n; j++) {
        const uint16_t i = f->late[j];
        const uint32_t match = kf_match(f->bucket[i], (uint8_t)(f->hash[i] >> 56)), rest = match & (match - 1);
        const int dead = kf_row_has(q->row, f->ref[i], &q->key[i]) & (f->ref[i] != 0);
        const int further = !rest & (kf_passed(f->bucket[i], f->hash[i]) != 0) & !dead;
        f->match[i] = (uint16_t)(dead ? 0 : rest);
        f->bucket[i] = kf_probe(q->index, f->hash[i], (uint64_t)further);
        kf_prefetch(f->bucket[i]);
        f->left[i / 64] |= (uint64_t)dead << i % 64;
        f->further[i] = (uint8_t)further;
    }
    for (j = 0; j < n; j++) {
        const uint16_t i = f->late[j];
        const kf_bucket *b = f->bucket[i];
        const uint32_t there = kf_match(b, (uint8_t)(f->hash[i] >> 56));
        const uint32_t match = f->further[i] ? there : f->match[i];
        f->match[i] = (uint16_t)match;
        f->ref[i] = b->ref[kf_first(match | KF_LAST_SLOT)] & -(uint32_t)(match != 0);
        kf_prefetch(kf_ref_tuple(q->row, f->ref[i]));
    }
    f->lates = n;
}

/* Compare those. What is left then is in the order of the keys again, for the caller's searches may reclaim rows that a
 * later key has found expired. */
static inline void kf_find_rest(const kf_quest *q, kf_finding *f)
{
    const uint32_t n = f->lates;
    uint32_t j;
    for (j = 0; j < n; j++) {
        const uint16_t i = f->late[j];
        const uint32_t ref = f->ref[i], match = f->match[i];
        const int same = kf_row_has(q->row, ref, &q->key[i]) & (ref != 0);
        const int good = same & (kf_ref_row(q->row, ref)->expires > q->now[q->each ? i : 0]);
        const int more = same | ((match & (match - 1)) != 0) | (kf_passed(f->bucket[i], f->hash[i]) != 0);
        q->conn[i] = good ? kf_ref_conn(ref) : (uint32_t)KF_NO_ROW;
        q->reply[i] = (uint8_t)(good & (int)kf_ref_direction(ref));
        f->left[i / 64] |= (uint64_t)(!good & more) << i % 64;
    }
    f->lates = 0;
    for (j = 0; j < KF_FIND_VECTOR / 64; j++)
        for (uint64_t left = f->left[j]; left; left &= left - 1)
            f->late[f->lates++] = (uint16_t)(64 * j + (uint32_t)__builtin_ctzll(left));
}

/* Up to KF_FIND_VECTOR tuples. f->late names those that the caller has to search. */
static inline void kf_find(const kf_quest *q, int isa, kf_finding *f, int m)
{
    f->lates = 0;
#if KF_X86
    if (isa >= KF_AVX512)
        kf_find_avx512(q, f, m);
    else if (isa >= KF_AVX2)
        kf_find_avx2(q, f, m);
    else
#endif
        kf_find_scalar(q, f, m);
    (void)isa;
    if (f->lates) {
        kf_find_again(q, f);
        kf_find_rest(q, f);
    }
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
