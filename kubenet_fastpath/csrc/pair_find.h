/* Finding the values of many keys (pair.h): hashed and their lines asked for a block ahead, then compared.
 *
 * One key in fifty has gone on to a further line; these are settled behind the vector. The scalar, AVX2 and AVX-512
 * variants do the same.
 */
#ifndef KF_PAIR_FIND_H
#define KF_PAIR_FIND_H

#include "pair.h"

enum {
    KF_PAIR_VECTOR = 512,
    KF_PAIR_BLOCK = 64,
    KF_PAIR_NONE = -1           /* the answer for a key that is not there */
};

#define KF_PAIR_APART __attribute__((noinline))     /* or the stages together want more registers than there are */

/* A key that no entry has, instead of the one that marks empty places: a group address. */
static const uint64_t KF_PAIR_NO_KEY = (uint64_t)1 << 40;

typedef struct {
    uint64_t key[KF_PAIR_VECTOR] __attribute__((aligned(64)));
    uint64_t hash[KF_PAIR_VECTOR] __attribute__((aligned(64)));
    uint32_t place[KF_PAIR_VECTOR] __attribute__((aligned(64)));     /* in the directory */
    uint32_t offset[KF_PAIR_VECTOR] __attribute__((aligned(64)));    /* in the segment, bytes */
    const kf_pairs *line[KF_PAIR_VECTOR] __attribute__((aligned(64)));
    uint16_t value[KF_PAIR_VECTOR] __attribute__((aligned(64)));     /* in the first slot that has the key, if any */
    uint8_t match[KF_PAIR_VECTOR] __attribute__((aligned(64)));      /* slots that have the key */
    uint16_t late[KF_PAIR_VECTOR + 16];
    uint32_t lates;
} kf_pair_finding;

typedef struct {
    const kf_index *index;
    uint64_t secret[2];
    const uint64_t *mac;        /* below 2^48 */
    const uint16_t *vlan;       /* one for all, or one each */
    int each;
    int32_t all;                /* the answer for the value 0xFFFF; the others are their own */
    int32_t *out;
} kf_pair_quest;

static inline int32_t kf_pair_answer(int32_t all, uint32_t match, uint16_t value)
{
    const int32_t answer = value == 0xFFFF ? all : (int32_t)value;
    return match ? answer : (int32_t)KF_PAIR_NONE;
}

static inline void kf_pair_hash_scalar(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    for (; i < end; i++) {
        const uint64_t given = (uint64_t)q->vlan[q->each ? i : 0] << 48 | q->mac[i];
        const uint64_t key = given ? given : KF_PAIR_NO_KEY, hash = kf_hash64(key, q->secret);
        f->key[i] = key;
        f->hash[i] = hash;
        f->line[i] = kf_pair_home(q->index, hash);
        kf_prefetch(f->line[i]);
    }
}

static inline void kf_pair_match_scalar(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    const int32_t all = q->all;
    int32_t *out = q->out;
    uint32_t lates = f->lates;
    for (; i < end; i++) {
        const kf_pairs *line = f->line[i];
        const uint32_t match = kf_pair_match(line, f->key[i]);
        out[i] = kf_pair_answer(all, match, line->value[kf_first(match | 1 << (KF_PAIR_KEYS - 1))]);
        f->late[lates] = (uint16_t)i;
        lates += !match & (line->passed != 0);
    }
    f->lates = lates;
}

#if KF_X86
KF_TARGET_AVX2 static inline void kf_pair_hash_avx2(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    const __m256i one = _mm256_set1_epi64x((long long)((uint64_t)q->vlan[0] << 48));
    const __m256i no_key = _mm256_set1_epi64x((long long)KF_PAIR_NO_KEY);
    for (; i + 4 <= end; i += 4) {
        const __m256i vlan =
            q->each ? _mm256_slli_epi64(_mm256_cvtepu16_epi64(_mm_loadl_epi64((const __m128i *)&q->vlan[i])), 48) : one;
        const __m256i given = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)&q->mac[i]), vlan);
        const __m256i zero = _mm256_cmpeq_epi64(given, _mm256_setzero_si256());
        const __m256i key = _mm256_or_si256(given, _mm256_and_si256(zero, no_key));
        _mm256_store_si256((__m256i *)&f->key[i], key);
        _mm256_store_si256((__m256i *)&f->hash[i], kf_hash64_avx2(key, q->secret));
        for (int k = i; k < i + 4; k++) {
            f->line[k] = kf_pair_home(q->index, f->hash[k]);
            kf_prefetch(f->line[k]);
        }
    }
    kf_pair_hash_scalar(q, f, i, end);
}

KF_TARGET_AVX2 static inline void kf_pair_match_avx2(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    const int32_t all = q->all;
    int32_t *out = q->out;
    uint32_t lates = f->lates;
    for (; i < end; i++) {
        const kf_pairs *line = f->line[i];
        const __m256i key = _mm256_set1_epi64x((long long)f->key[i]);
        const __m256i low = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)&line->key[0]), key);
        const __m256i high = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)&line->key[4]), key);
        const uint32_t match = ((uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
                                (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4) & KF_PAIR_MASK;
        out[i] = kf_pair_answer(all, match, line->value[_tzcnt_u32(match | 1 << (KF_PAIR_KEYS - 1))]);
        f->late[lates] = (uint16_t)i;
        lates += !match & (line->passed != 0);
    }
    f->lates = lates;
}

KF_TARGET_AVX512 KF_PAIR_APART static void kf_pair_hash_avx512(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    const __m512i one = _mm512_set1_epi64((long long)((uint64_t)q->vlan[0] << 48));
    const __m512i no_key = _mm512_set1_epi64((long long)KF_PAIR_NO_KEY);
    const __m512i places = _mm512_set1_epi64((long long)(((uint64_t)1 << q->index->bits) - 1));
    const __m512i numbers = _mm512_set1_epi64((long long)q->index->mask);
    const __m512i first = _mm512_set1_epi64(offsetof(kf_segment, bucket));
    const uint64_t secret[2] = {q->secret[0], q->secret[1]}, *mac = q->mac;
    const uint16_t *vlans = q->vlan;
    kf_segment *const *directory = q->index->segment;
    const int begin = i;
    const int each = q->each;
    for (; i + 8 <= end; i += 8) {
        const __m512i vlan =
            each ? _mm512_slli_epi64(_mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)&vlans[i])), 48) : one;
        const __m512i given = _mm512_or_si512(_mm512_loadu_si512(&mac[i]), vlan);
        const __m512i key = _mm512_mask_mov_epi64(given, _mm512_testn_epi64_mask(given, given), no_key);
        const __m512i hash = kf_hash64_avx512(key, secret);
        const __m512i place = _mm512_and_si512(_mm512_srli_epi64(hash, 32), places);
        const __m512i offset = _mm512_add_epi64(_mm512_slli_epi64(_mm512_and_si512(hash, numbers), 6), first);
        _mm512_store_si512(&f->key[i], key);
        _mm512_store_si512(&f->hash[i], hash);
        _mm256_store_si256((__m256i *)&f->place[i], _mm512_cvtepi64_epi32(place));
        _mm256_store_si256((__m256i *)&f->offset[i], _mm512_cvtepi64_epi32(offset));
    }
    for (int k = begin; k < i; k++) {       /* a gather of the directory's pointers takes longer */
        f->line[k] = (const kf_pairs *)((const char *)directory[f->place[k]] + f->offset[k]);
        __builtin_prefetch(f->line[k]);
    }
    kf_pair_hash_scalar(q, f, i, end);
}

/* The slots of sixteen keys and the values in them first; then all sixteen answers at once. */
KF_TARGET_AVX512 KF_PAIR_APART static void kf_pair_match_avx512(const kf_pair_quest *q, kf_pair_finding *f, int i, int end)
{
    const __m512i all = _mm512_set1_epi32(q->all), none = _mm512_set1_epi32(KF_PAIR_NONE);
    const __m256i first = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m256i special = _mm256_set1_epi16(-1);
    uint32_t lates = f->lates;
    for (int k = i; k < end; k++) {
        const kf_pairs *line = f->line[k];
        const uint64_t match = _mm512_mask_cmpeq_epi64_mask(KF_PAIR_MASK, _mm512_load_si512(line),
                                                            _mm512_set1_epi64((long long)f->key[k]));
        f->match[k] = (uint8_t)match;
        f->value[k] = line->value[_tzcnt_u64(match | 1 << (KF_PAIR_KEYS - 1))];
    }
    for (; i < end; i += 16) {              /* `i` is a multiple of 64 */
        const __mmask16 within = end - i < 16 ? (__mmask16)((1u << (end - i)) - 1) : (__mmask16)0xFFFF;
        const __m128i match = _mm_load_si128((const __m128i *)&f->match[i]);
        const __m256i value = _mm256_load_si256((const __m256i *)&f->value[i]);
        const __mmask16 found = _mm_test_epi8_mask(match, match), late = (__mmask16)(within & ~found);
        const __m512i answer = _mm512_mask_mov_epi32(_mm512_cvtepu16_epi32(value),
                                                     _mm256_cmpeq_epi16_mask(value, special), all);
        _mm512_mask_storeu_epi32(&q->out[i], within, _mm512_mask_mov_epi32(none, found, answer));
        _mm256_storeu_si256((__m256i *)&f->late[lates], _mm256_maskz_compress_epi16(
                                                            late, _mm256_add_epi16(first, _mm256_set1_epi16((short)i))));
        lates += (uint32_t)__builtin_popcount(late);
    }
    f->lates = lates;
}
#endif

#define KF_PAIR_FIND(NAME, TARGET, HASH, MATCH)                                             \
    TARGET static void NAME(const kf_pair_quest *q, kf_pair_finding *f, int m)              \
    {                                                                                       \
        for (int at = 0; at < m + KF_PAIR_BLOCK; at += KF_PAIR_BLOCK) {                     \
            HASH(q, f, at, at + KF_PAIR_BLOCK < m ? at + KF_PAIR_BLOCK : m);                \
            if (at)                                                                         \
                MATCH(q, f, at - KF_PAIR_BLOCK, at < m ? at : m);                           \
        }                                                                                   \
    }

KF_PAIR_FIND(kf_pair_find_scalar, , kf_pair_hash_scalar, kf_pair_match_scalar)
#if KF_X86
KF_PAIR_FIND(kf_pair_find_avx2, KF_TARGET_AVX2, kf_pair_hash_avx2, kf_pair_match_avx2)
KF_PAIR_FIND(kf_pair_find_avx512, KF_TARGET_AVX512, kf_pair_hash_avx512, kf_pair_match_avx512)
#endif

/* What may lie in further lines. */
static inline void kf_pair_settle(const kf_pair_quest *q, kf_pair_finding *f)
{
    uint32_t n = 0, j;
    for (j = 0; j < f->lates; j++) {
        const uint16_t i = f->late[j];
        f->late[n] = i;
        n += kf_pair_gone_on(f->line[i], f->hash[i]) != 0;
    }
    for (j = 0; j < n; j++) {
        const uint16_t i = f->late[j];
        f->line[i] = kf_pair_at(kf_segment_of(q->index, f->hash[i]), kf_pair_number(q->index, f->hash[i], 1));
        kf_prefetch(f->line[i]);
    }
    for (j = 0, f->lates = 0; j < n; j++) {
        const uint16_t i = f->late[j];
        const kf_pairs *line = f->line[i];
        const uint32_t match = kf_pair_match(line, f->key[i]);
        q->out[i] = kf_pair_answer(q->all, match, line->value[kf_first(match | 1 << (KF_PAIR_KEYS - 1))]);
        f->late[f->lates] = i;
        f->lates += !match && kf_pair_gone_on(line, f->hash[i]);
    }
    for (j = 0; j < f->lates; j++) {
        const uint16_t i = f->late[j];
        const kf_place place = kf_pair_find(q->index, f->key[i], f->hash[i]);
        q->out[i] = kf_pair_answer(q->all, place.line != NULL, place.line ? place.line->value[place.slot] : 0);
    }
}

/* Up to KF_PAIR_VECTOR keys. */
static inline void kf_pair_find_many(const kf_pair_quest *q, int isa, kf_pair_finding *f, int m)
{
    f->lates = 0;
#if KF_X86
    if (isa >= KF_AVX512)
        kf_pair_find_avx512(q, f, m);
    else if (isa >= KF_AVX2)
        kf_pair_find_avx2(q, f, m);
    else
#endif
        kf_pair_find_scalar(q, f, m);
    (void)isa;
    if (f->lates)
        kf_pair_settle(q, f);
}

#endif
