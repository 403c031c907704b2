"""The routing information base: every prefix with its next hop, in a path-compressed binary tree.

It is the truth from which the lookup arrays are drawn. The tree of n prefixes has at most 2n nodes: the root
0.0.0.0/0, the prefixes, and a fork wherever two of them part. Each node lies inside its parent, so a walk
that goes to child 0 first meets the prefixes in order of network, then length.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    RIB_NONE = 0xFFFFFFFF

cdef struct rib_node_t:
    uint32_t net
    uint32_t hop            # if held
    uint32_t child[2]       # by the first bit behind `len`; 0: none
    uint8_t len
    uint8_t held            # 1: a prefix of the table, 0: only a fork

cdef struct rib_t:
    rib_node_t* node        # node 0 is the root
    uint32_t used           # nodes that have ever been used
    uint32_t capacity
    uint32_t free_node      # chain through child[0], 0: empty
    uint32_t n_free
    uint32_t count          # prefixes

cdef struct rib_walk_t:
    uint32_t node[40]       # still to visit; each level of the tree leaves at most one sibling behind
    int depth

cdef bint rib_init(rib_t* r) noexcept nogil
cdef void rib_free(rib_t* r) noexcept nogil
cdef bint rib_reserve(rib_t* r, uint64_t prefixes) noexcept nogil
cdef void rib_insert(rib_t* r, uint32_t net, uint8_t len, uint32_t hop) noexcept nogil
cdef bint rib_remove(rib_t* r, uint32_t net, uint8_t len) noexcept nogil
cdef uint32_t rib_find(const rib_t* r, uint32_t net, uint8_t len) noexcept nogil
cdef uint32_t rib_longest(const rib_t* r, uint32_t address, uint8_t longest) noexcept nogil
cdef uint32_t rib_inside(const rib_t* r, uint32_t net, uint8_t len) noexcept nogil
cdef bint rib_longer(const rib_t* r, uint32_t net, uint8_t len) noexcept nogil


cdef inline uint32_t prefix_mask(int len) noexcept nogil:
    return <uint32_t>(<uint64_t>0xFFFFFFFF << (32 - len))


cdef inline uint64_t prefix_size(int len) noexcept nogil:
    return <uint64_t>1 << (32 - len)


cdef inline bint covers(const rib_node_t* n, uint32_t net, int len) noexcept nogil:
    return n.len <= len and (n.net ^ net) & prefix_mask(n.len) == 0


cdef inline int branch(const rib_node_t* n, uint32_t address) noexcept nogil:
    """Which child of a node leads to an address; a /32 has none."""
    return address >> (31 - n.len) & 1


cdef inline void rib_walk_below(rib_walk_t* w, const rib_node_t* n) noexcept nogil:
    """Visit what is below a node next."""
    if n.child[1]:
        w.node[w.depth] = n.child[1]
        w.depth += 1
    if n.child[0]:
        w.node[w.depth] = n.child[0]
        w.depth += 1


cdef inline void rib_walk(rib_walk_t* w, uint32_t top) noexcept nogil:
    """Begin at a node, or with nothing to visit at RIB_NONE."""
    w.node[0], w.depth = top, top != RIB_NONE


cdef inline uint32_t rib_next(rib_walk_t* w, const rib_t* r) noexcept nogil:
    """The next prefix of the walk in order, or RIB_NONE. What is below it comes next."""
    cdef uint32_t i
    while w.depth:
        w.depth -= 1
        i = w.node[w.depth]
        rib_walk_below(w, &r.node[i])
        if r.node[i].held:
            return i
    return RIB_NONE
