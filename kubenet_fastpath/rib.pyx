"""Insertion, removal and searches of the routing information base. The GIL or one owner guards each table."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef extern from "csrc/block.h" nogil:
    void* kf_memory(uint64_t size)

cdef enum:
    FIRST_NODES = 64
    JUMP_NODES = 1 << 16        # a table with room for more jumps
    FAR_FORGOTTEN = 8           # bits before FAR: a change of a shorter prefix makes all that is known too old
    FREED = 255                 # length of a node that is free: it covers nothing

cdef uint64_t AGES = <uint64_t>1 << (64 - FAR)


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
    free(r.far)


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
        if r.jump != NULL and r.bits > FAR:
            r.far, r.age = <rib_far_t*>calloc(1 << FAR_PLACES_LOG2, sizeof(rib_far_t)), 1
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
    """Jumps to or past a prefix that comes or goes are no longer known."""
    cdef uint64_t first = kf_key_hi(net) >> (64 - FAR), slice
    if r.jump != NULL and len <= JUMP:
        memset(&r.jump[kf_key_slice(net, 0, JUMP)], 0, (<uint64_t>1 << (JUMP - len)) * sizeof(rib_jump_t))
    if r.far == NULL or len > FAR:
        return
    if len >= FAR - FAR_FORGOTTEN:
        for slice in range(first, first + (<uint64_t>1 << (FAR - len))):
            far_place(r, slice).key = 0
        return
    r.age += 1
    if r.age == AGES:
        memset(r.far, 0, (<uint64_t>1 << FAR_PLACES_LOG2) * sizeof(rib_far_t))
        r.age = 1


cdef void free_node(rib_t* r, uint32_t i) noexcept nogil:
    """A prefix that has gone, or a fork. What `far` knows is asked whether it covers, and a node of another prefix that
    does so is as good; but what `jump` knows has to be forgotten."""
    cdef rib_node_t* n = &r.node[i]
    if r.jump != NULL and n.len <= JUMP:
        memset(&r.jump[kf_key_slice(n.net, 0, JUMP)], 0, (<uint64_t>1 << (JUMP - n.len)) * sizeof(rib_jump_t))
    n.len = FREED
    r.node[i].child[0] = r.free_node
    r.free_node = i
    r.n_free += 1


cdef void descend(const rib_t* r, kf_key net, int limit, rib_jump_t* jump) noexcept nogil:
    """Go on from a jump to the lowest node of at most so many bits that covers them."""
    cdef uint32_t at = jump.node, held = jump.held
    while True:
        if r.node[at].held:
            held = at
        jump.node, jump.held = at, held
        at = r.node[at].child[branch(&r.node[at], net)]
        if at == 0 or not covers(&r.node[at], net, limit):
            break


cdef rib_jump_t start(const rib_t* r, kf_key net, int len) noexcept nogil:
    """A node that covers net/len, far down: where walks to what is inside may begin."""
    cdef rib_jump_t jump
    cdef rib_far_t* far = NULL
    cdef uint64_t key
    jump.node, jump.held = 0, RIB_NONE
    if r.jump == NULL or len <= JUMP:
        return jump
    if r.far != NULL and len > FAR:
        key = kf_key_hi(net) >> (64 - FAR)
        far = far_place(r, key)
        key |= r.age << FAR
        if far.key == key and covers(&r.node[far.jump.node], net, FAR):
            return far.jump
    if r.jump[kf_key_slice(net, 0, JUMP)].node == 0:
        descend(r, net, JUMP, &jump)
        r.jump[kf_key_slice(net, 0, JUMP)] = jump
    jump = r.jump[kf_key_slice(net, 0, JUMP)]
    if far != NULL:
        descend(r, net, FAR, &jump)
        far.key, far.jump = key, jump
    return jump


cdef uint32_t parent_of(const rib_t* r, uint32_t node) noexcept nogil:
    """By a walk from the root, or from a jump."""
    cdef uint32_t at = 0, parent = 0
    if r.jump != NULL and r.node[node].len > JUMP:
        at = r.jump[kf_key_slice(r.node[node].net, 0, JUMP)].node
    while at != node:
        parent, at = at, r.node[at].child[branch(&r.node[at], r.node[node].net)]
    return parent


cdef uint32_t rib_insert(rib_t* r, kf_key net, int len, uint32_t hop) noexcept nogil:
    """Add a prefix or replace its hop; its hop before, or RIB_NONE. The caller has reserved room."""
    cdef uint32_t at = start(r, net, len).node, next, fork, i = RIB_NONE, before
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
    cdef uint32_t first = start(r, net, len).node, at = first, parent = first, grandparent = first, only
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
    cdef rib_jump_t jump = start(r, address, longest)
    cdef uint32_t at = jump.node, found = jump.held
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
    cdef uint32_t at = start(r, net, len).node
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
