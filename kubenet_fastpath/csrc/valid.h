/* Whether a block from elsewhere can be read by lookups (lookup.h) without a step outside it.
 *
 * Every slot that a key can reach is looked at, each node once for each level at which it hangs, so that neither a
 * cycle nor shared nodes make the check long. What the table answers is not judged here. */
#ifndef KF_VALID_H
#define KF_VALID_H

#include <stdlib.h>
#include <string.h>

#include "btree.h"
#include "rank.h"

enum { KF_POOL_NARROW = 1 << 15, KF_CHUNK_LINES = 8 };
enum { KF_ARENA_LINES = 1 << 26 };      /* 4 GiB: what offsets of 32 bits reach (btree.h) */

typedef struct {
    const kf_lpm *t;
    const char *arena;
    uint64_t bytes;         /* of the arena */
    uint32_t *seen;         /* for each line: a bit for each kind of node and level that has been found valid there */
} kf_check;

static inline int kf_hop_valid(const kf_lpm *t, uint32_t v)
{
    if (v == KF_MISS)
        return 1;
    if (t->width == 2)
        return v <= 0x7FFF;
    return v < KF_CHILD || (v >= KF_POOL && (v & KF_PLACE) < t->pool_size);
}

static inline int kf_pool_valid(const kf_lpm *t)
{
    if (t->pool_size & (t->pool_size - 1) || t->pool_size > 1u << 28 || t->pooled > 1)
        return 0;
    if (t->width == 2)
        return t->pool_size == (t->pooled ? KF_POOL_NARROW : 0);
    return t->width == 4 && !t->pooled;
}

/* The head: the parts follow each other, and end with the block. */
static inline int kf_head_valid(const kf_lpm *t, uint64_t size)
{
    uint64_t root, pool;
    if (size < KF_LPM_HEAD || memcmp(t->magic, KF_LPM_MAGIC, 8) || t->version != KF_LPM_VERSION || !kf_pool_valid(t))
        return 0;
    if (t->arena_size > KF_ARENA_LINES)
        return 0;
    if (t->engine > KF_BTREE || t->family != (t->engine == KF_BTREE ? 6 : 4) || (t->engine <= KF_DENSE24 && t->width != 2))
        return 0;
    root = t->engine == KF_DENSE16 ? 2u << 16 : t->engine == KF_DENSE24 ? 2u << 24 : t->engine == KF_RANK ? 8u << 19 : 4u << 16;
    pool = ((uint64_t)t->pool_size * 4 + 63) / 64 * 64;
    return t->pool == KF_LPM_HEAD && t->root == t->pool + pool && t->arena == t->root + root &&
           t->size == t->arena + (uint64_t)t->arena_size * 64 && t->size <= size;
}

/* The 256 slots of a chunk; those of the last level lead nowhere. */
static inline int kf_chunk_valid(kf_check *c, uint32_t chunk, int level)
{
    const int16_t *slot = (const int16_t *)(c->arena + (uint64_t)chunk * KF_CHUNK_LINES * 64);
    int i;
    if ((uint64_t)(chunk + 1) * KF_CHUNK_LINES > c->t->arena_size)
        return 0;
    if (c->seen[chunk] & 1u << level)
        return 1;
    c->seen[chunk] |= 1u << level;
    for (i = 0; i < 256; i++)
        if (slot[i] < -1 && (level == 0 || !kf_chunk_valid(c, slot[i] & 0x7FFF, level - 1)))
            return 0;
    return 1;
}

static inline int kf_dense_valid(kf_check *c)
{
    const int16_t *slot = (const int16_t *)kf_at(c->t, c->t->root);
    int level = c->t->engine == KF_DENSE16;
    uint32_t i, n = c->t->engine == KF_DENSE16 ? 1 << 16 : 1 << 24;
    for (i = 0; i < n; i++)
        if (slot[i] < -1 && !kf_chunk_valid(c, slot[i] & 0x7FFF, level))
            return 0;
    return 1;
}

/* A LINE of the rank engine for slices up to `end`: one of its ranges ends there or behind, or counting would lead beyond
 * the leaves, which lead nowhere. */
static inline int kf_line_valid(const kf_check *c, uint64_t line, uint32_t end)
{
    const char *p = c->arena + line * KF_LINE_BYTES;
    uint32_t i, n = kf_line_ranges(c->t->width);
    if (line >= c->t->arena_size || kf_count((const uint16_t *)p, end, n) == n)
        return 0;
    for (i = 0; i < n; i++)
        if (!kf_hop_valid(c->t, kf_slot_load(p + kf_line_leaves(c->t->width) + (size_t)i * c->t->width, c->t->width)))
            return 0;
    return 1;
}

/* A LINES: the LINEs that slices lead to, in order. Ends behind the last one are counted too, by any slice above them. */
static inline int kf_lines_valid(const kf_check *c, uint64_t line)
{
    const uint16_t *last = (const uint16_t *)(c->arena + line * KF_LINE_BYTES);
    uint32_t i;
    for (i = 1; i < KF_TOP_ENDS; i++)
        if (last[i] < last[i - 1])
            return 0;
    for (i = 0; i < KF_TOP_ENDS; i++) {
        if (!kf_line_valid(c, line + 1 + i, last[i]))
            return 0;
        if (last[i] == 0xFFFF)
            return 1;
    }
    return 0;
}

static inline int kf_leaf_valid(kf_check *c, uint32_t v)
{
    uint32_t reference = kf_reference(c->t->width, v), at = reference & KF_NODE_AT, kind = kf_node_kind(reference);
    if (!kf_is_child(c->t->width, v))
        return kf_hop_valid(c->t, v);
    if (at >= c->t->arena_size || kind > KF_NODE_LINES)
        return 0;
    if (!(c->seen[at] & 1u << kind)) {
        c->seen[at] |= 1u << kind;
        return kind == KF_NODE_LINE ? kf_line_valid(c, at, 0xFFFF) : kf_lines_valid(c, at);
    }
    return 1;
}

/* The leaves of an entry. */
static inline int kf_entry_valid(kf_check *c, const uint64_t *entry)
{
    uint32_t bits = (uint32_t)*entry, base = (uint32_t)(*entry >> 32), i, n = (uint32_t)__builtin_popcount(bits);
    int width = c->t->width;
    if (bits == 0)
        return kf_leaf_valid(c, kf_slot_load((const char *)entry + 4, width));
    if (!(bits & 1) || (uint64_t)base + n > UINT32_MAX || ((uint64_t)base + n) * width > c->bytes)
        return 0;           /* the sum is one of 32 bits to lookups */
    for (i = 0; i < n; i++)
        if (!kf_leaf_valid(c, kf_slot_load(c->arena + ((size_t)base + i) * width, width)))
            return 0;
    return 1;
}

static inline int kf_rank_valid(kf_check *c)
{
    const uint64_t *root = (const uint64_t *)kf_at(c->t, c->t->root);
    uint32_t i;
    for (i = 0; i < 1u << 19; i++)
        if (!kf_entry_valid(c, root + i))
            return 0;
    return 1;
}

static int kf_tree_valid(kf_check *c, uint64_t at, int window, int level);

/* A slot that leads to trees of this window. */
static inline int kf_slot_valid(kf_check *c, uint32_t v, int window)
{
    if (!kf_is_child(c->t->width, v))
        return kf_hop_valid(c->t, v);
    return window < KF_WINDOWS && (c->t->width == 2 || (v & ~KF_CHILD) < KF_ARENA_LINES) &&
           kf_tree_valid(c, kf_tree_at(c->t->width, v), window, c->arena[window]);
}

/* An INNER (level 1 and above) or a NODE (0) of a window, and what hangs below: all that counting leads to. */
static int kf_tree_valid(kf_check *c, uint64_t at, int window, int level)
{
    const uint32_t *last = (const uint32_t *)(c->arena + at);
    uint32_t i, j, mark = 1u << (8 * window + level), lines = level ? KF_INNER_LINES : 2;
    if (at % KF_LINE_BYTES || at + lines * KF_LINE_BYTES > c->bytes)
        return 0;
    if (c->seen[at / KF_LINE_BYTES] & mark)
        return 1;
    c->seen[at / KF_LINE_BYTES] |= mark;
    if (level && last[KF_CHILDREN - 1] != 0xFFFFFFFF)
        return 0;
    for (i = 0; i < KF_LEAVES; i++) {
        uint64_t leaf = kf_node_leaf_at(at, i);
        if (i && i < KF_CHILDREN && last[i] < last[i - 1])
            return 0;
        if (i && last[i - 1] == 0xFFFFFFFF)     /* no value lies behind; but it has to be the last one */
            continue;
        if (level) {
            if (!kf_tree_valid(c, kf_inner_child(c->arena, at, i), window, level - 1))
                return 0;
            continue;
        }
        if (leaf + KF_LINE_BYTES > c->bytes)
            return 0;
        for (j = 0; j < kf_leaf_ranges(c->t->width); j++)
            if (!kf_slot_valid(c, kf_slot_load(kf_leaf_slot(c->arena, c->t->width, leaf, j), c->t->width), window + 1))
                return 0;
    }
    return 1;
}

static inline int kf_btree_valid(kf_check *c)
{
    const uint32_t *root = (const uint32_t *)kf_at(c->t, c->t->root);
    uint32_t i;
    if (!c->t->arena_size)
        return 0;
    for (i = 0; i < KF_WINDOWS; i++)
        if ((uint8_t)c->arena[i] > KF_LEVELS_MAX)
            return 0;
    for (i = 0; i < 1u << 16; i++)
        if (!kf_slot_valid(c, root[i], 0))
            return 0;
    return 1;
}

/* 1: valid; 0: not; -1: no memory to tell. Of `size` readable bytes, aligned to a line. */
static inline int kf_lpm_valid(const kf_lpm *t, uint64_t size)
{
    kf_check c;
    int valid;
    if (!kf_head_valid(t, size))
        return 0;
    c.t = t;
    c.arena = (const char *)kf_at(t, t->arena);
    c.bytes = (uint64_t)t->arena_size * 64;
    c.seen = (uint32_t *)calloc((size_t)t->arena_size + 1, sizeof *c.seen);
    if (!c.seen)
        return -1;
    valid = t->engine == KF_BTREE ? kf_btree_valid(&c) : t->engine == KF_RANK ? kf_rank_valid(&c) : kf_dense_valid(&c);
    free(c.seen);
    return valid;
}

#endif
