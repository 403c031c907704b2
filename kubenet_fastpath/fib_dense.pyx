"""Drawing the dense engines from the RIB, whole or where a prefix has changed.

What keeps single updates right: the RIB is changed first, then `dense_draw` asks it what the changed prefix now
means. Its addresses get the next hop of the longest prefix that covers it whole: its own after an insertion,
the covering prefix's after a removal, a miss if there is none. Addresses of longer prefixes inside it are left
alone. A chunk exists exactly where the RIB has a longer prefix than the slot above it can tell.
"""

from libc.stdint cimport int16_t, uint32_t, uint64_t

from .arena cimport (
    KF_DENSE16, KF_DENSE24, KF_MISS, UNITS, arena_begin, arena_block, arena_encode, arena_has_room, arena_retire,
    arena_settle, arena_t, arena_take, kf_lpm, publish_slot,
)
from .rib cimport (
    RIB_NONE, kf_key, kf_key_hi, rib_inside, rib_longer, rib_longest, rib_next, rib_node_t, rib_t, rib_walk,
    rib_walk_below, rib_walk_t,
)

cdef enum:
    CHUNK = 256
    CHUNK_LINES = 8
    CHUNK_SIZE = UNITS + CHUNK_LINES
    POOL = 1 << 15              # places that a slot can name


cdef uint32_t net_of(const rib_node_t* n) noexcept nogil:
    return <uint32_t>(kf_key_hi(n.net) >> 32)


cdef uint64_t size_of(int len) noexcept nogil:
    """Addresses of a prefix."""
    return <uint64_t>1 << (32 - len)


cdef int16_t* slots(const arena_t* a) noexcept nogil:
    return <int16_t*>(<char*>a.block + a.block.root)


cdef int root_bits_of(const arena_t* a) noexcept nogil:
    return 16 if a.block.engine == KF_DENSE16 else 24


cdef bint is_child(int v) noexcept nogil:
    return v < -1


cdef uint32_t child(int root_bits, int v) noexcept nogil:
    """First slot of the chunk to which a slot leads."""
    return (<uint32_t>1 << root_bits) + ((<uint32_t>v & 0x7FFF) << 8)


cdef uint32_t open_chunk(arena_t* a, int root_bits, uint32_t at) noexcept nogil:
    """First slot of the chunk below a slot; if there is none, a new one that gives the same answers."""
    cdef int16_t* slot = slots(a)
    cdef int v = slot[at]
    cdef uint32_t chunk, first
    cdef int i
    if is_child(v):
        return child(root_bits, v)
    chunk = arena_take(a, CHUNK_SIZE) // CHUNK_LINES
    first = child(root_bits, <int>chunk)
    for i in range(CHUNK):
        slot[first + i] = <int16_t>v
    publish_slot(&slot[at], <int16_t>(chunk | 0x8000))
    return first


cdef void open_path(arena_t* a, int root_bits, uint32_t net, int len) noexcept nogil:
    """Make the chunks whose slots tell a prefix apart."""
    cdef uint32_t at = net >> (32 - root_bits)
    if len > root_bits:
        at = open_chunk(a, root_bits, at)
        if root_bits == 16 and len > 24:
            open_chunk(a, root_bits, at | (net >> 8 & 255))


cdef void fill(arena_t* a, int root_bits, uint64_t first, uint64_t end, int value) noexcept nogil:
    """Store a value for the addresses first..end - 1. A range that ends inside a slot finds a chunk there."""
    cdef int16_t* slot = slots(a)
    cdef uint32_t at
    cdef uint64_t size, place
    cdef int shift
    while first < end:
        shift, at = 32 - root_bits, 0
        place = first >> shift
        while True:             # down to the slot whose addresses are all in the range
            size = <uint64_t>1 << shift
            if first & (size - 1) == 0 and end - first >= size:
                break
            at = child(root_bits, slot[at + place])
            shift -= 8
            place = first >> shift & 255
        while end - first >= size:
            publish_slot(&slot[at + place], <int16_t>value)
            first += size
            place += 1
            if at != 0 and place == CHUNK:
                break


cdef uint64_t dense_chunks(const rib_t* r, int root_bits) noexcept nogil:
    """How many chunks the prefixes need."""
    cdef rib_walk_t walk
    cdef uint32_t i, net, last16 = 0, last24 = 0
    cdef uint64_t chunks = 0
    cdef bint any16 = False, any24 = False
    rib_walk(&walk, 0)
    while True:
        i = rib_next(&walk, r)
        if i == RIB_NONE:
            return chunks
        net = net_of(&r.node[i])
        if root_bits == 16 and r.node[i].len > 16 and (not any16 or net >> 16 != last16):
            any16, last16 = True, net >> 16
            chunks += 1
        if r.node[i].len > 24 and (not any24 or net >> 8 != last24):
            any24, last24 = True, net >> 8
            chunks += 1


cdef bint dense_build(arena_t* a, const rib_t* r, int root_bits, uint64_t chunks, uint64_t spare,
                      bint pooled) noexcept nogil:
    """Draw everything into a new block with room for more chunks; False without memory."""
    cdef uint64_t lines = min(chunks + spare, <uint64_t>DENSE_CHUNKS) * CHUNK_LINES + 1, i
    cdef uint64_t root = (<uint64_t>1 << root_bits) * sizeof(int16_t)
    cdef kf_lpm* b = arena_block(4, KF_DENSE16 if root_bits == 16 else KF_DENSE24, 2, POOL if pooled else 0, root,
                                 lines)
    cdef rib_walk_t walk
    cdef uint32_t at
    cdef const rib_node_t* n
    if b == NULL:
        return False
    b.pooled = pooled
    arena_begin(a, b, lines)
    fill(a, root_bits, 0, <uint64_t>1 << 32, -1)
    rib_walk(&walk, 0)
    while True:
        at = rib_next(&walk, r)
        if at == RIB_NONE:
            return True
        n = &r.node[at]
        open_path(a, root_bits, net_of(n), n.len)
        fill(a, root_bits, net_of(n), net_of(n) + size_of(n.len), <int>arena_encode(a, n.hop))


cdef void retire_chunk(arena_t* a, int v) noexcept nogil:
    arena_retire(a, (<uint32_t>v & 0x7FFF) * CHUNK_LINES, CHUNK_SIZE)


cdef void close_chunk(arena_t* a, int root_bits, uint32_t at, int value) noexcept nogil:
    """Store a value where a slot may lead to a chunk, and retire that chunk."""
    cdef int16_t* slot = slots(a)
    cdef int old = slot[at], v
    cdef uint32_t first
    cdef int i
    publish_slot(&slot[at], <int16_t>value)
    if not is_child(old):
        return
    first = child(root_bits, old)
    for i in range(CHUNK):
        v = slot[first + i]
        if is_child(v):
            retire_chunk(a, v)
    retire_chunk(a, old)


cdef bint dense_draw(arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there; False where the block has no room for it."""
    cdef rib_walk_t walk
    cdef const rib_node_t* n
    cdef int root_bits = root_bits_of(a), value
    cdef uint32_t net = <uint32_t>(kf_key_hi(key) >> 32), i = rib_longest(r, key, len), hop = KF_MISS
    cdef uint64_t at = net, end = net + size_of(len)
    arena_settle(a)
    if i != RIB_NONE:
        hop = r.node[i].hop
    if not arena_has_room(a, 2 * CHUNK_LINES, hop):
        return False
    value = <int>arena_encode(a, hop)
    if len > root_bits and not rib_longer(r, key, root_bits):
        close_chunk(a, root_bits, net >> (32 - root_bits), value)
        return True
    if root_bits == 16 and len > 24 and not rib_longer(r, key, 24):
        close_chunk(a, root_bits, open_chunk(a, root_bits, net >> 16) | (net >> 8 & 255), value)
        return True
    open_path(a, root_bits, net, len)
    i = rib_inside(r, key, len)
    rib_walk(&walk, i)
    if i != RIB_NONE and r.node[i].len == len:
        walk.depth = 0
        rib_walk_below(&walk, &r.node[i])
    while walk.depth:                       # fill between the highest prefixes inside, each of which stays
        walk.depth -= 1
        n = &r.node[walk.node[walk.depth]]
        if not n.held:
            rib_walk_below(&walk, n)
            continue
        fill(a, root_bits, at, net_of(n), value)
        at = net_of(n) + size_of(n.len)
    fill(a, root_bits, at, end, value)
    return True
