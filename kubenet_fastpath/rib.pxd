"""The routing information base: every prefix with its next hop, in a path-compressed binary tree.

It is the truth from which the lookup arrays are drawn. The tree of n prefixes has at most 2n nodes: the root (the
prefix of length 0), the prefixes, and a fork wherever two of them part. Each node lies inside its parent, so a walk
that goes to child 0 first meets the prefixes in order of network, then length. Networks of both families are
keys of 128 bits (csrc/key.h), of which IPv4 uses the first 32.

A walk in a large tree is a cache miss a level, so such a table remembers, for the first JUMP bits of a key, a node down
there to begin with, and the prefix that holds if there is none further down; one of IPv6 does so for the first FAR bits,
too, of as many keys as a hash table of one place a key keeps apart.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "csrc/key.h" nogil:
    const uint64_t RIB_HASH "0x9E3779B97F4A7C15ull"     # 2**64 / golden ratio
    ctypedef unsigned long long kf_key      # of 128 bits
    kf_key kf_key_of(uint64_t hi, uint64_t lo)
    uint64_t kf_key_hi(kf_key k)
    uint64_t kf_key_lo(kf_key k)
    kf_key kf_key_mask(int len)
    int kf_key_bit(kf_key k, int i)
    int kf_key_common(kf_key a, kf_key b)
    uint32_t kf_key_slice(kf_key k, int depth, int bits)
    kf_key kf_key_behind(uint64_t slice, int depth, int bits)

cdef enum:
    RIB_NONE = 0xFFFFFFFF
    JUMP = 18
    FAR = 36
    FAR_PLACES_LOG2 = 17

cdef struct rib_node_t:
    kf_key net
    uint32_t hop            # if held
    uint32_t child[2]       # by the first bit behind `len`; 0: none
    uint8_t len
    uint8_t held            # 1: a prefix of the table, 0: only a fork

cdef struct rib_jump_t:
    uint32_t node           # of at most JUMP or FAR bits, covers them; 0: not known, or the root
    uint32_t held           # the longest prefix at or above it, or RIB_NONE

cdef struct rib_far_t:
    uint64_t key            # FAR bits, below the age; another age: not known
    rib_jump_t jump         # whose node may have been freed since, or used again: if it covers the key it is as good, for
                            # whatever of at most FAR bits begins or ceases to hold makes what it covers forgotten

cdef struct rib_t:
    rib_node_t* node        # node 0 is the root
    uint32_t used           # nodes that have ever been used
    uint32_t capacity
    uint32_t free_node      # chain through child[0], 0: empty
    uint32_t n_free
    uint32_t count          # prefixes
    rib_jump_t* jump        # by the first JUMP bits; NULL: a small table
    rib_far_t* far          # by a hash of the first FAR bits; NULL: a small table, or IPv4
    uint64_t age            # of what is known in `far`
    int bits                # of an address: 32 or 128

cdef struct rib_walk_t:
    uint32_t node[130]      # still to visit; each level of the tree leaves at most one sibling behind
    int depth

cdef extern from *:
    void __builtin_prefetch(const void* place) nogil

cdef bint rib_init(rib_t* r, int bits) noexcept nogil
cdef void rib_free(rib_t* r) noexcept nogil
cdef bint rib_reserve(rib_t* r, uint64_t prefixes) noexcept nogil
cdef uint32_t rib_insert(rib_t* r, kf_key net, int len, uint32_t hop) noexcept nogil
cdef uint32_t rib_remove(rib_t* r, kf_key net, int len) noexcept nogil
cdef uint32_t rib_find(const rib_t* r, kf_key net, int len) noexcept nogil
cdef uint32_t rib_longest(const rib_t* r, kf_key address, int longest) noexcept nogil
cdef int rib_covering(const rib_t* r, kf_key address, uint32_t* hop) noexcept nogil
cdef uint32_t rib_inside(const rib_t* r, kf_key net, int len) noexcept nogil
cdef bint rib_longer(const rib_t* r, kf_key net, int len) noexcept nogil
cdef uint32_t rib_count(const rib_t* r, uint32_t top, uint32_t most) noexcept nogil


cdef inline rib_far_t* far_place(const rib_t* r, uint64_t slice) noexcept nogil:
    return &r.far[slice * RIB_HASH >> (64 - FAR_PLACES_LOG2)]


cdef inline void rib_expect(const rib_t* r, kf_key net) noexcept nogil:
    """Ask for where a walk to a prefix will begin."""
    if r.far != NULL:
        __builtin_prefetch(far_place(r, kf_key_hi(net) >> (64 - FAR)))


cdef inline bint covers(const rib_node_t* n, kf_key net, int len) noexcept nogil:
    return n.len <= len and (n.net ^ net) & kf_key_mask(n.len) == 0


cdef inline int branch(const rib_node_t* n, kf_key address) noexcept nogil:
    """Which child of a node leads to an address; a host prefix has none."""
    return kf_key_bit(address, n.len)


cdef inline bint is_leaf(const rib_node_t* n) noexcept nogil:
    return (n.child[0] | n.child[1]) == 0


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
