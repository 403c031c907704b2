"""Insertion, removal and searches of the routing information base. The GIL or one owner guards each table."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef extern from "csrc/block.h" nogil:
    void* kf_memory(uint64_t size)

cdef enum:
    FIRST_NODES = 64
    JUMP_NODES = 1 << 16        # a table with room for more jumps


cdef bint rib_init(rib_t* r, int bits) noexcept nogil:
    """An empty table, from zeroed memory; False without memory."""
    r.bits = bits
    if not rib_reserve(r, 1):
        return False
    new_node(r, 0, 0)
    return True


cdef void rib_free(rib_t* r) noexcept nogil:
    free(r.node)
    free(r.jump)


cdef bint rib_reserve(rib_t* r, uint64_t prefixes) noexcept nogil:
    """Room for so many more prefixes, a node and a fork each; False without memory."""
    cdef uint64_t need = r.used + 2 * prefixes, capacity
    cdef rib_node_t* node
    if need - r.n_free <= r.capacity:
        return True
    capacity = max(need, min(2 * <uint64_t>r.capacity, <uint64_t>RIB_NONE), <uint64_t>FIRST_NODES)
    if capacity > RIB_NONE:
        return False
    node = <rib_node_t*>kf_memory(capacity * sizeof(rib_node_t))
    if node == NULL:
        return False
    if r.used:
        memcpy(node, r.node, r.used * sizeof(rib_node_t))
    free(r.node)
    r.node, r.capacity = node, <uint32_t>capacity
    if r.jump == NULL and capacity > JUMP_NODES:
        r.jump = <rib_jump_t*>calloc(1 << JUMP, sizeof(rib_jump_t))     # without it, all is but slower
    return True


cdef uint32_t new_node(rib_t* r, kf_key net, int len) noexcept nogil:
    cdef uint32_t i = r.free_node
    cdef rib_node_t* n
    if r.n_free:
        r.free_node = r.node[i].child[0]
        r.n_free -= 1
    else:
        i = r.used
        r.used += 1
    n = &r.node[i]
    n.net, n.len, n.held, n.hop = net, <uint8_t>len, False, 0
    n.child[0] = n.child[1] = 0
    return i


cdef void forget(rib_t* r, kf_key net, int len) noexcept nogil:
    """Jumps to or past a node that changes are no longer known."""
    if r.jump != NULL and len <= JUMP:
        memset(&r.jump[kf_key_slice(net, 0, JUMP)], 0, (<uint64_t>1 << (JUMP - len)) * sizeof(rib_jump_t))


cdef void free_node(rib_t* r, uint32_t i) noexcept nogil:
    forget(r, r.node[i].net, r.node[i].len)
    r.node[i].child[0] = r.free_node
    r.free_node = i
    r.n_free += 1


cdef uint32_t start(const rib_t* r, kf_key net, int len) noexcept nogil:
    """A node of at most JUMP bits that covers net/len, far down: where walks to what is inside may begin."""
    cdef rib_jump_t* jump
    cdef uint32_t at = 0, held = RIB_NONE
    if r.jump == NULL or len <= JUMP:
        return 0
    jump = &r.jump[kf_key_slice(net, 0, JUMP)]
    if jump.node == 0:
        while True:
            if r.node[at].held:
                held = at
            jump.node, jump.held = at, held
            at = r.node[at].child[branch(&r.node[at], net)]
            if at == 0 or not covers(&r.node[at], net, JUMP):
                break
    return jump.node


cdef uint32_t parent_of(const rib_t* r, uint32_t node) noexcept nogil:
    """By a walk from the root."""
    cdef uint32_t at = 0, parent = 0
    while at != node:
        parent, at = at, r.node[at].child[branch(&r.node[at], r.node[node].net)]
    return parent


cdef uint32_t rib_insert(rib_t* r, kf_key net, int len, uint32_t hop) noexcept nogil:
    """Add a prefix or replace its hop; its hop before, or RIB_NONE. The caller has reserved room."""
    cdef uint32_t at = start(r, net, len), next, fork, i = RIB_NONE, before
    cdef int common
    while r.node[at].len < len:
        next = r.node[at].child[branch(&r.node[at], net)]
        if next == 0:
            i = new_node(r, net, len)
            r.node[at].child[branch(&r.node[at], net)] = i
            break
        common = min(len, <int>r.node[next].len)
        if (net ^ r.node[next].net) & kf_key_mask(common):
            common = kf_key_common(net, r.node[next].net)
        if common == r.node[next].len:
            at = next
            continue
        i = new_node(r, net, len)
        fork = i
        if common < len:
            fork = new_node(r, net & kf_key_mask(common), common)
            r.node[fork].child[branch(&r.node[fork], net)] = i
        r.node[fork].child[branch(&r.node[fork], r.node[next].net)] = next
        r.node[at].child[branch(&r.node[at], net)] = fork
        break
    if i == RIB_NONE:
        i = at
    before = r.node[i].hop if r.node[i].held else <uint32_t>RIB_NONE
    if not r.node[i].held:
        forget(r, net, len)
    r.count += not r.node[i].held
    r.node[i].held, r.node[i].hop = True, hop
    return before


cdef uint32_t rib_remove(rib_t* r, kf_key net, int len) noexcept nogil:
    """Remove a prefix; its hop, or RIB_NONE where it was not held."""
    cdef uint32_t first = start(r, net, len), at = first, parent = first, grandparent = first, only
    while r.node[at].len < len:
        grandparent, parent = parent, at
        at = r.node[at].child[branch(&r.node[at], net)]
        if at == 0 or not covers(&r.node[at], net, len):
            return RIB_NONE
    if not r.node[at].held:
        return RIB_NONE
    forget(r, net, len)
    r.node[at].held = False
    r.count -= 1
    if at == 0 or (r.node[at].child[0] and r.node[at].child[1]):
        return r.node[at].hop
    only = r.node[at].child[0] | r.node[at].child[1]
    r.node[parent].child[branch(&r.node[parent], net)] = only
    free_node(r, at)
    if only == 0 and parent != 0 and not r.node[parent].held:   # a fork with one way left
        if parent == first:
            grandparent = parent_of(r, parent)
        only = r.node[parent].child[0] | r.node[parent].child[1]
        r.node[grandparent].child[branch(&r.node[grandparent], net)] = only
        free_node(r, parent)
    return r.node[at].hop


cdef uint32_t rib_find(const rib_t* r, kf_key net, int len) noexcept nogil:
    """The node of a prefix that is held, or RIB_NONE."""
    cdef uint32_t i = rib_inside(r, net, len)
    return i if i != RIB_NONE and r.node[i].len == len and r.node[i].held else <uint32_t>RIB_NONE


cdef uint32_t rib_longest(const rib_t* r, kf_key address, int longest) noexcept nogil:
    """The node of the longest prefix that covers an address and has at most a length, or RIB_NONE."""
    cdef uint32_t at = start(r, address, longest), found = RIB_NONE
    if at:
        found = r.jump[kf_key_slice(address, 0, JUMP)].held
    while covers(&r.node[at], address, longest):
        if r.node[at].held:
            found = at
        if r.node[at].len == r.bits:
            break
        at = r.node[at].child[branch(&r.node[at], address)]
        if at == 0:
            break
    return found


cdef int rib_covering(const rib_t* r, kf_key address, uint32_t* hop) noexcept nogil:
    """The next hops of all prefixes that cover an address, shortest first; how many. There are up to bits + 1."""
    cdef uint32_t at = 0
    cdef int n = 0
    while covers(&r.node[at], address, r.bits):
        if r.node[at].held:
            hop[n] = r.node[at].hop
            n += 1
        if r.node[at].len == r.bits:
            break
        at = r.node[at].child[branch(&r.node[at], address)]
        if at == 0:
            break
    return n


cdef uint32_t rib_inside(const rib_t* r, kf_key net, int len) noexcept nogil:
    """The highest node inside a prefix, below which is all that the prefix covers, or RIB_NONE."""
    cdef uint32_t at = start(r, net, len)
    while r.node[at].len < len:
        at = r.node[at].child[branch(&r.node[at], net)]
        if at == 0:
            return RIB_NONE
    return at if (r.node[at].net ^ net) & kf_key_mask(len) == 0 else <uint32_t>RIB_NONE


cdef bint rib_longer(const rib_t* r, kf_key net, int len) noexcept nogil:
    """Whether a prefix longer than net/len lies inside it."""
    cdef uint32_t top = rib_inside(r, net & kf_key_mask(len), len)
    return top != RIB_NONE and (r.node[top].len > len or not is_leaf(&r.node[top]))


cdef uint32_t rib_count(const rib_t* r, uint32_t top, uint32_t most) noexcept nogil:
    """How many prefixes are at and below a node, as far as `most`."""
    cdef rib_walk_t walk
    cdef uint32_t count = 0
    rib_walk(&walk, top)
    while count < most and rib_next(&walk, r) != RIB_NONE:
        count += 1
    return count
