/* How many connections use what is scarce: counts by a key of 12 bytes, in a table of 16 bytes a key that is half full at
 * most. Open addressing by steps of one; what follows a key that goes moves up, so there are no tombstones (Knuth 6.4 R).
 * It doubles at once, some 10 ns a key. */
#ifndef KF_TALLY_H
#define KF_TALLY_H

#include <stdint.h>
#include <stdlib.h>
#include "hash.h"

typedef struct {
    uint32_t src, dst;
    uint16_t port;
    uint8_t proto, family;
    uint32_t count;             /* 0: nobody's place */
} kf_counted;

typedef struct {
    kf_counted *place;          /* mask + 1 of them; NULL: nobody counts */
    uint64_t mask;
    uint64_t used;
    uint64_t lost;              /* not counted for want of memory: the counts are too small from then on */
    uint64_t secret[2];
} kf_tally;

/* Of a count that several threads may change at once. */
static inline void kf_add(uint32_t *at, uint32_t n) { __atomic_fetch_add(at, n, __ATOMIC_RELAXED); }

static inline int kf_tally_init(kf_tally *t, const uint64_t secret[2])
{
    t->mask = 15;
    t->used = t->lost = 0;
    t->secret[0] = secret[0];
    t->secret[1] = secret[1];
    t->place = (kf_counted *)calloc(t->mask + 1, sizeof *t->place);
    return t->place ? 0 : -1;
}

static inline uint64_t kf_tally_home(const kf_tally *t, const kf_counted *key)
{
    const uint64_t rest = (uint64_t)key->port << 16 | (uint64_t)key->proto << 8 | key->family;
    return kf_hash128((uint64_t)key->src << 32 | key->dst, rest, t->secret) & t->mask;
}

/* The place of a key, or the empty one where it would be. */
static inline kf_counted *kf_tally_find(const kf_tally *t, const kf_counted *key)
{
    for (uint64_t i = kf_tally_home(t, key);; i = (i + 1) & t->mask) {
        kf_counted *p = &t->place[i];
        if (!p->count || (p->src == key->src && p->dst == key->dst && p->port == key->port && p->proto == key->proto &&
                          p->family == key->family))
            return p;
    }
}

static inline int kf_tally_double(kf_tally *t)
{
    kf_tally wide = *t;
    wide.mask = 2 * t->mask + 1;
    wide.place = (kf_counted *)calloc(wide.mask + 1, sizeof *wide.place);
    if (!wide.place)
        return -1;
    for (uint64_t i = 0; i <= t->mask; i++)
        if (t->place[i].count)
            *kf_tally_find(&wide, &t->place[i]) = t->place[i];
    free(t->place);
    *t = wide;
    return 0;
}

static inline void kf_tally_add(kf_tally *t, const kf_counted *key)
{
    kf_counted *p;
    if (2 * (t->used + 1) > t->mask + 1 && kf_tally_double(t) && t->used == t->mask) {
        t->lost++;              /* one place has to stay empty */
        return;
    }
    p = kf_tally_find(t, key);
    if (!p->count) {
        *p = *key;
        p->count = 0;
        t->used++;
    }
    p->count++;
}

static inline void kf_tally_take(kf_tally *t, const kf_counted *key)
{
    kf_counted *p = kf_tally_find(t, key);
    uint64_t hole, i;
    if (!p->count || --p->count)
        return;
    t->used--;
    hole = (uint64_t)(p - t->place);
    for (i = (hole + 1) & t->mask; t->place[i].count; i = (i + 1) & t->mask)
        if (((i - kf_tally_home(t, &t->place[i])) & t->mask) >= ((i - hole) & t->mask)) {
            t->place[hole] = t->place[i];
            t->place[i].count = 0;
            hole = i;
        }
}

static inline void kf_tally_free(kf_tally *t)
{
    free(t->place);
    t->place = NULL;
    t->mask = t->used = 0;
}

#endif
