/* The B+-tree engine: all tables of IPv6.
 *
 * The root has a slot for each value of the first 16 bits. Where those do not decide, its slot leads to a tree over
 * the ranges of the next 32 bits (the window); a range that these do not tell apart has a slot that leads to a tree
 * over the 32 bits behind, and so on: windows begin behind 16, 48, 80 and 112 bits, the last one's lower half is 0. All
 * trees of one window are of the same height, so every key takes the same steps and no branch depends on a key:
 *
 *     INNER   two lines: the last values of up to 16 children, sorted, then the children's offsets in the arena
 *     NODE    a line with the last values of all but the last of up to 17 leaves, which are the lines behind it
 *     leaf    up to 11 narrow ranges or 8 wide ones: the last values of all but the last one, then their slots
 *
 * In INNERs and NODEs, what is not used is 0xFFFFFFFF, as the last child of an INNER has it: no value lies behind. A step is
 * one comparison of 16 values with the key's window: as many as are below is the number of the child. (PlanB, NSDI 2026,
 * has one tree of 64-bit keys; 32 bits that are cut out double what a line holds.)
 *
 * Slots are those of lpm.h; a narrow slot's child is in steps of four lines, a wide one's in lines. The arena's first
 * line says how many levels of INNERs the trees of each window have. Lookups are in btree_find.h.
 */
#ifndef KF_BTREE_H
#define KF_BTREE_H

#include "lpm.h"

enum { KF_WINDOWS = 4, KF_LEVELS_MAX = 6 };
enum { KF_CHILDREN = 16, KF_LEAVES = 17, KF_INNER_LINES = 2 };

/* Ranges of a leaf, and where its slots begin. */
KF_INLINE uint32_t kf_leaf_ranges(int width) { return width == 2 ? 11 : 8; }
KF_INLINE uint32_t kf_leaf_slots(int width) { return width == 2 ? 40 : 32; }

/* Where the tree begins in the arena to which a slot leads, in bytes. */
KF_INLINE uint32_t kf_tree_at(int width, uint32_t v)
{
    return width == 2 ? (v & 0x7FFF) << 8 : v << 6;
}

/* The 32 bits of a key that a window is about. */
KF_INLINE uint32_t kf_window(uint64_t hi, uint64_t lo, int window)
{
    switch (window) {
    case 0: return (uint32_t)(hi >> 16);
    case 1: return (uint32_t)(hi << 16 | lo >> 48);
    case 2: return (uint32_t)(lo >> 16);
    default: return (uint32_t)(lo << 16);
    }
}

/* How many of the first `n` values, 7, 10 or 16, are below a key's; by the compiler's own vectors, for whatever CPU. */
typedef uint32_t kf_four __attribute__((vector_size(16), may_alias));

KF_INLINE uint32_t kf_below_scalar(const char *line, uint32_t key, uint32_t n)
{
    const kf_four *last = (const kf_four *)line, first2 = {~0u, ~0u}, first3 = {~0u, ~0u, ~0u};
    const kf_four all = (kf_four){0} + key;
    kf_four count = -(kf_four)(last[0] < all);
    uint64_t half[2];
    count -= (kf_four)(last[1] < all) & (n == 7 ? first3 : (kf_four){~0u, ~0u, ~0u, ~0u});
    if (n > 7)
        count -= (kf_four)(last[2] < all) & (n == 10 ? first2 : (kf_four){~0u, ~0u, ~0u, ~0u});
    if (n == 16)
        count -= (kf_four)(last[3] < all);
    __builtin_memcpy(half, &count, 16);
    half[0] += half[1];
    return (uint32_t)half[0] + (uint32_t)(half[0] >> 32);
}

/* The child of an INNER; where in a NODE the leaf is; where in a leaf the slot is. */
KF_INLINE uint32_t kf_inner_child(const char *arena, size_t at, uint32_t below)
{
    uint32_t child;
    __builtin_memcpy(&child, arena + at + KF_LINE_BYTES + 4 * (size_t)below, 4);
    return child;
}

KF_INLINE size_t kf_node_leaf_at(size_t at, uint32_t below) { return at + KF_LINE_BYTES * (1 + (size_t)below); }

KF_INLINE const char *kf_leaf_slot(const char *arena, int width, size_t at, uint32_t below)
{
    return arena + at + kf_leaf_slots(width) + (size_t)below * (uint32_t)width;
}

/* The slot of a value in a tree of so many levels of INNERs. */
KF_INLINE const char *kf_tree_slot(const char *arena, int width, size_t at, int levels, uint32_t key)
{
    for (; levels; levels--)
        at = kf_inner_child(arena, at, kf_below_scalar(arena + at, key, KF_CHILDREN));
    at = kf_node_leaf_at(at, kf_below_scalar(arena + at, key, KF_CHILDREN));
    return kf_leaf_slot(arena, width, at, kf_below_scalar(arena + at, key, kf_leaf_ranges(width) - 1));
}

/* Ask for what a change of a prefix reads that reaches into the first window: the lines of its NODE. */
static inline void kf_btree_expect(const kf_lpm *t, uint64_t hi)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    uint32_t v = ((const uint32_t *)kf_at(t, t->root))[hi >> 48], key = kf_window(hi, 0, 0), line;
    int level;
    size_t at;
    if (!kf_is_child(t->width, v))
        return;
    at = kf_tree_at(t->width, v);
    for (level = arena[0]; level; level--)
        at = kf_inner_child(arena, at, kf_below_scalar(arena + at, key, KF_CHILDREN));
    for (line = 0; line <= KF_LEAVES; line++)
        __builtin_prefetch(arena + at + line * KF_LINE_BYTES);
    __asm__ volatile("");
}

/* One key on its own. */
KF_INLINE uint32_t kf_btree_answer(const kf_lpm *t, int width, uint64_t hi, uint64_t lo)
{
    const char *arena = (const char *)kf_at(t, t->arena);
    uint32_t v = ((const uint32_t *)kf_at(t, t->root))[hi >> 48];
    int window;
    for (window = 0; kf_is_child(width, v); window++)
        v = kf_slot_load(kf_tree_slot(arena, width, kf_tree_at(width, v), arena[window], kf_window(hi, lo, window)),
                         width);
    return v;
}

#endif
