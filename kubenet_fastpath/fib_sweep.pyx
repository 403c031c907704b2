"""Sweeps over the prefixes inside a part of the addresses, for the engines whose nodes are made of ranges.

A sweep gives runs of slices with the same slot. Where a prefix is longer than slices tell, the slot leads to a child,
which the engine draws by a sweep of its own.
"""

from libc.stdint cimport int16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from .arena cimport KF_MISS, arena_encode, arena_has_room, arena_t, publish_slot, publish_word
from .rib cimport (
    RIB_NONE, kf_key, kf_key_mask, kf_key_slice, rib_inside, rib_longest, rib_node_t, rib_t, rib_walk_below, rib_walk_t,
)

cdef enum:
    AROUND = 34                 # prefixes around a slice of at most 32 bits, and one


cdef void ranges_free(ranges_t* k) noexcept nogil:
    free(k.range)


cdef bint ranges_reserve(ranges_t* k, uint64_t ranges) noexcept nogil:
    cdef range_t* grown
    if ranges > k.capacity:
        ranges += ranges // 4
        grown = <range_t*>realloc(k.range, ranges * sizeof(range_t))
        if grown == NULL:
            return False
        k.range, k.capacity = grown, ranges
    return True


cdef void drawing_begin(drawing_t* d, const ranges_t* k, arena_t* a, const rib_t* r, draw_child_t child) noexcept nogil:
    d.a, d.r, d.range, d.child, d.width = a, r, k.range, child, a.block.width
    d.is_full = d.is_tall = False


cdef uint32_t hop_slot(drawing_t* d, uint32_t node) noexcept nogil:
    """The slot of the next hop of a RIB node, or of RIB_NONE."""
    cdef uint32_t hop = KF_MISS if node == RIB_NONE else d.r.node[node].hop
    if not arena_has_room(d.a, 0, hop):
        d.is_full = True
        return KF_MISS
    return arena_encode(d.a, hop)


cdef uint32_t emit(drawing_t* d, uint32_t begin, uint32_t at, uint32_t first, uint32_t slot) noexcept nogil:
    """Add a range, unless it goes on with the slot of the one before; the end of the ranges."""
    if at > begin and d.range[at - 1].slot == slot:
        return at
    d.range[at].first, d.range[at].slot = first, slot
    return at + 1


cdef uint32_t sweep(drawing_t* d, kf_key key, int len, int depth, int bits, uint32_t at,
                    const update_t* update) noexcept nogil:
    """The ranges of a prefix's slices, put into d.range from `at`; their end."""
    cdef rib_walk_t walk
    cdef const rib_node_t* n
    cdef uint64_t end[AROUND]   # of the prefixes around the cursor
    cdef uint32_t slot[AROUND]
    cdef uint32_t begin = at, top = rib_inside(d.r, key, len)
    cdef uint64_t cursor = kf_key_slice(key, depth, bits), s
    cdef int limit = depth + bits, around = 0
    cdef bint deeper
    end[0], slot[0] = cursor + (<uint64_t>1 << (limit - len)), hop_slot(d, rib_longest(d.r, key, len))
    walk.depth = 0
    if top != RIB_NONE and d.r.node[top].len == len and len < limit:
        rib_walk_below(&walk, &d.r.node[top])
    elif top != RIB_NONE:
        walk.node[0], walk.depth = top, 1
    while walk.depth:
        walk.depth -= 1
        top = walk.node[walk.depth]
        n = &d.r.node[top]
        deeper = n.len > limit or (n.len == limit and (n.child[0] | n.child[1]) != 0)
        if not deeper:
            rib_walk_below(&walk, n)
            if not n.held:
                continue
        s = kf_key_slice(n.net, depth, bits)
        while end[around] <= s:
            if end[around] > cursor:
                at = emit(d, begin, at, <uint32_t>cursor, slot[around])
                cursor = end[around]
            around -= 1
        if s > cursor:
            at = emit(d, begin, at, <uint32_t>cursor, slot[around])
            cursor = s
        if deeper:
            at = emit(d, begin, at, <uint32_t>s,
                      d.child(d, n.net & kf_key_mask(limit), limit, <uint32_t>s, at, update))
            cursor = s + 1
        else:
            around += 1
            end[around], slot[around] = s + (<uint64_t>1 << (limit - n.len)), hop_slot(d, top)
    while around >= 0:
        if end[around] > cursor:
            at = emit(d, begin, at, <uint32_t>cursor, slot[around])
            cursor = end[around]
        around -= 1
    return at


cdef void store_slot(char* place, int width, uint32_t slot) noexcept nogil:
    """What is at a slot's place, for readers too, from now on."""
    if width == 2:
        publish_slot(<int16_t*>place, <int16_t>slot)
    else:
        publish_word(<uint32_t*>place, slot)
