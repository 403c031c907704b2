/* A hash table of 8-byte keys and 2-byte values, which lie in the bucket itself: a lookup reads one cache line.
 *
 * A line holds 6 keys, the value of each, and what bucket.h keeps of those that found it full; a 32-bit reference of each
 * key, for who needs more than its value, lies behind the lines of its segment. Segments, directory, probing and growth are
 * those of bucket.h. The key 0 marks an empty place: no entry may have it.
 */
#ifndef KF_PAIR_H
#define KF_PAIR_H

#include "bucket.h"
#include "hash_lanes.h"

enum { KF_PAIR_KEYS = 6, KF_PAIR_FILL = 55, KF_PAIR_BYTES = 64 + KF_PAIR_KEYS * sizeof(uint32_t), KF_PAIR_MASK = 0x3F };

typedef struct {
    uint64_t key[KF_PAIR_KEYS];
    uint16_t value[KF_PAIR_KEYS];
    uint16_t passed, trace;     /* as in kf_bucket */
} kf_pairs;

typedef struct {                /* the place of a key */
    kf_pairs *line;              /* NULL: it has none */
    uint32_t *ref;
    int slot;
} kf_place;

static inline uint64_t kf_pair_number(const kf_index *x, uint64_t hash, uint64_t n)
{
    return (hash + n * (2 * (uint64_t)kf_tag(hash) + 1)) & x->mask;
}

static inline kf_pairs *kf_pair_at(const kf_segment *segment, uint64_t number)
{
    return (kf_pairs *)segment->bucket + number;
}

static inline kf_pairs *kf_pair_home(const kf_index *x, uint64_t hash)
{
    return kf_pair_at(kf_segment_of(x, hash), hash & x->mask);
}

static inline uint32_t *kf_pair_refs(const kf_index *x, const kf_segment *segment, uint64_t number)
{
    return (uint32_t *)((kf_pairs *)segment->bucket + x->mask + 1) + number * KF_PAIR_KEYS;
}

/* The references of the first line that a lookup of this hash reads: to be asked for ahead. */
static inline const uint32_t *kf_pair_home_refs(const kf_index *x, uint64_t hash)
{
    return kf_pair_refs(x, kf_segment_of(x, hash), hash & x->mask);
}

/* Whether what has this hash may lie in a further line. */
static inline int kf_pair_gone_on(const kf_pairs *line, uint64_t hash) { return line->trace & kf_trace(hash); }

/* Bit s is set where slot s has the key. */
static inline uint32_t kf_pair_match(const kf_pairs *line, uint64_t key)
{
    uint32_t match = 0;
    for (int s = 0; s < KF_PAIR_KEYS; s++)
        match |= (uint32_t)(line->key[s] == key) << s;
    return match;
}

static inline kf_place kf_pair_find(const kf_index *x, uint64_t key, uint64_t hash)
{
    const kf_segment *segment = kf_segment_of(x, hash);
    kf_place place = {NULL, NULL, 0};
    for (uint64_t n = 0; key && n <= x->mask; n++) {    /* under churn every line may have been passed, so count */
        const uint64_t number = kf_pair_number(x, hash, n);
        kf_pairs *line = kf_pair_at(segment, number);
        const uint32_t match = kf_pair_match(line, key);
        if (match) {
            place.line = line;
            place.slot = kf_first(match);
            place.ref = kf_pair_refs(x, segment, number) + place.slot;
            break;
        }
        if (!kf_pair_gone_on(line, hash))
            break;
    }
    return place;
}

static inline void kf_pair_put(kf_index *x, kf_segment *segment, uint64_t key, uint64_t hash, uint16_t value, uint32_t ref)
{
    for (uint64_t n = 0;; n++) {
        const uint64_t number = kf_pair_number(x, hash, n);
        kf_pairs *line = kf_pair_at(segment, number);
        const uint32_t empty = kf_pair_match(line, 0);
        if (empty) {
            const int s = kf_first(empty);
            line->key[s] = key;
            line->value[s] = value;
            kf_pair_refs(x, segment, number)[s] = ref;
            segment->used++;
            return;
        }
        line->passed++;
        line->trace |= kf_trace(hash);
    }
}

/* The caller has made sure that the key is not there, and that there is room (kf_pair_room). */
static inline void kf_pair_insert(kf_index *x, uint64_t key, uint64_t hash, uint16_t value, uint32_t ref)
{
    kf_pair_put(x, kf_segment_of(x, hash), key, hash, value, ref);
    x->used++;
}

/* The key is there. */
static inline void kf_pair_erase(kf_index *x, uint64_t key, uint64_t hash)
{
    kf_segment *segment = kf_segment_of(x, hash);
    const kf_place place = kf_pair_find(x, key, hash);
    if (!place.line)
        return;
    place.line->key[place.slot] = 0;
    segment->used--;
    x->used--;
    for (uint64_t n = 0;; n++) {
        kf_pairs *line = kf_pair_at(segment, kf_pair_number(x, hash, n));
        if (line == place.line)
            return;
        if (!--line->passed)
            line->trace = 0;
    }
}

static inline uint64_t kf_pair_room_of(const kf_index *x) { return (x->mask + 1) * KF_PAIR_KEYS; }

/* Lay the lines of `old`, which is put aside, into `low` and, where the bit `step` of the place is set, `high`. */
static inline void kf_pair_deal(kf_index *x, const kf_segment *old, uint64_t lines, kf_segment *low, kf_segment *high,
                                uint64_t step, const uint64_t secret[2])
{
    const uint32_t *ref = (const uint32_t *)((const kf_pairs *)old->bucket + lines);
    for (uint64_t i = 0; i < lines * KF_PAIR_KEYS; i++) {
        const kf_pairs *line = (const kf_pairs *)old->bucket + i / KF_PAIR_KEYS;
        const uint64_t key = line->key[i % KF_PAIR_KEYS], hash = kf_hash64(key, secret);
        if (key)
            kf_pair_put(x, hash >> 32 & step ? high : low, key, hash, line->value[i % KF_PAIR_KEYS], ref[i]);
    }
}

/* Divide a full segment, or double the first one; 0, or -1 without memory: nothing has changed then. */
static inline int kf_pair_grow(kf_index *x, uint64_t place, const uint64_t secret[2])
{
    const uint64_t lines = x->mask + 1;
    const size_t bytes = kf_segment_bytes(x, lines);
    kf_segment *old = x->segment[place], *new, *copy;
    if (lines < KF_BUCKETS) {
        x->segments = 0;
        new = kf_segment_new(x, 2 * lines);
        x->segments = 1;
        if (!new) {
            x->single[0] = old;
            return -1;
        }
        x->segment[0] = new;
        x->mask = 2 * lines - 1;
        kf_pair_deal(x, old, lines, new, new, 0, secret);
        free(old);
        return 0;
    }
    copy = (kf_segment *)aligned_alloc(64, bytes);
    if (!copy)
        return -1;
    if ((old->bits == x->bits && kf_index_widen(x)) || !(new = kf_segment_new(x, lines))) {
        free(copy);
        return -1;
    }
    memcpy(copy, old, bytes);
    memset(old->bucket, 0, lines * sizeof(kf_pairs));
    old->used = 0;
    new->bits = ++old->bits;
    const uint64_t step = (uint64_t)1 << (old->bits - 1);
    for (uint64_t to = (place & (step - 1)) | step; to >> x->bits == 0; to += 2 * step)
        x->segment[to] = new;
    kf_pair_deal(x, copy, lines, old, new, step, secret);
    free(copy);
    return 0;
}

/* Make room for one more key of this hash; 0, or -1 without memory. */
static inline int kf_pair_room(kf_index *x, uint64_t hash, const uint64_t secret[2])
{
    if (kf_segment_of(x, hash)->used < kf_pair_room_of(x) * KF_PAIR_FILL / 100)
        return 0;
    kf_pair_grow(x, hash >> 32 & (((uint64_t)1 << x->bits) - 1), secret);
    return kf_segment_of(x, hash)->used < kf_pair_room_of(x) - 1 ? 0 : -1;
}

/* An empty table. 0, or -1 without memory. */
static inline int kf_pair_init(kf_index *x) { return kf_index_make(x, 16, KF_PAIR_BYTES); }

#endif
