"""Drawing the lookup arrays from the RIB, whole or where a prefix has changed, and looking up in batches.

What keeps single updates right: the RIB is changed first, then `fib_draw` asks it what the changed prefix now
means. Its addresses get the next hop of the longest prefix that covers it whole: its own after an insertion,
the covering prefix's after a removal, FIB_MISS if there is none. Addresses of longer prefixes inside it are
left alone. A chunk exists exactly where the RIB has a longer prefix than the slot above it can tell.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from .rib cimport (
    RIB_NONE, prefix_size, rib_inside, rib_longer, rib_longest, rib_next, rib_node_t, rib_t, rib_walk,
    rib_walk_below, rib_walk_t,
)

cdef extern from *:
    """
    #define fib_publish(slot, value) __atomic_store_n((slot), (value), __ATOMIC_RELEASE)
    """
    void fib_publish(uint32_t* slot, uint32_t value) nogil
    void fib_publish_block "fib_publish"(uint32_t** slot, uint32_t* block) nogil

cdef extern from "stdlib.h" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef extern from "sys/mman.h" nogil:
    enum: MADV_HUGEPAGE
    int madvise(void* p, size_t size, int advice)

cdef enum:
    HUGE = 2 << 20              # bytes
    ROOT = 1 << 16
    CHUNK = 256
    CHUNKS_MAX = 1 << 24        # 2**32 slots
    BLOCK = 64                  # keys whose second slot is prefetched ahead


cdef uint32_t is_child(uint32_t v) noexcept nogil:
    return v >> 30 == FIB_CHILD


cdef uint32_t child(uint32_t v) noexcept nogil:
    """First slot of the chunk to which a slot leads."""
    return v << 8


cdef bint block_init(fib_block_t* b, uint64_t chunks, uint32_t wide) noexcept nogil:
    cdef uint64_t base = (ROOT + wide) // CHUNK, size = (base + chunks) * CHUNK * sizeof(uint32_t), i
    b.wide, b.n_wide, b.used, b.capacity, b.free_chunk, b.n_free = wide, 0, base, base + chunks, 0, 0
    if base + chunks > CHUNKS_MAX:
        return False
    b.slot = <uint32_t*>aligned_alloc(HUGE if size >= HUGE else 64, size)
    if b.slot == NULL:
        return False
    if size >= HUGE:
        madvise(b.slot, size, MADV_HUGEPAGE)    # with 4 KiB pages a lookup misses the TLB too
    for i in range(ROOT + wide):
        b.slot[i] = FIB_MISS
    return True


cdef uint32_t open_chunk(fib_block_t* b, uint32_t at) noexcept nogil:
    """First slot of the chunk below a slot; if there is none, a new one that gives the same answers."""
    cdef uint32_t v = b.slot[at], c = b.free_chunk
    cdef int i
    if is_child(v):
        return child(v)
    if b.n_free:
        b.free_chunk = b.slot[c * CHUNK]
        b.n_free -= 1
    else:
        c = b.used
        b.used += 1
    for i in range(CHUNK):
        b.slot[c * CHUNK + i] = v
    fib_publish(&b.slot[at], <uint32_t>FIB_CHILD << 30 | c)
    return c * CHUNK


cdef void open_path(fib_block_t* b, uint32_t net, int len) noexcept nogil:
    """Make the chunks whose slots tell a prefix apart."""
    cdef uint32_t at
    if len > 16:
        at = open_chunk(b, net >> 16)
        if len > 24:
            open_chunk(b, at | (net >> 8 & 255))


cdef uint32_t encode(fib_block_t* b, uint32_t hop) noexcept nogil:
    """What a slot holds for a next hop. The caller has reserved a wide slot."""
    cdef uint32_t i
    if hop >> 31 == 0 or hop == FIB_MISS:
        return hop
    i = hop * <uint32_t>0x9E3779B1
    while True:
        i &= b.wide - 1
        if b.slot[ROOT + i] == FIB_MISS:
            b.slot[ROOT + i] = hop
            b.n_wide += 1
        if b.slot[ROOT + i] == hop:
            return <uint32_t>FIB_WIDE << 30 | (ROOT + i)
        i += 1


cdef void fill(fib_block_t* b, uint64_t first, uint64_t end, uint32_t value) noexcept nogil:
    """Store a value for the addresses first..end - 1. A range that ends inside a slot finds a chunk there."""
    cdef uint32_t at, low
    cdef uint64_t stop, stop_low
    while first < end:
        if first & 0xFFFF == 0 and end - first >= 0x10000:
            fib_publish(&b.slot[first >> 16], value)
            first += 0x10000
            continue
        at = child(b.slot[first >> 16])
        stop = min(end, (first | 0xFFFF) + 1)
        while first < stop:
            if first & 0xFF == 0 and stop - first >= 0x100:
                fib_publish(&b.slot[at | (first >> 8 & 255)], value)
                first += 0x100
                continue
            low = child(b.slot[at | (first >> 8 & 255)])
            stop_low = min(stop, (first | 0xFF) + 1)
            while first < stop_low:
                fib_publish(&b.slot[low | (first & 255)], value)
                first += 1


cdef void free_chunk(fib_block_t* b, uint32_t c) noexcept nogil:
    b.slot[c * CHUNK] = b.free_chunk
    b.free_chunk = c
    b.n_free += 1


cdef void retire(fib_t* f, uint32_t* slot, uint32_t chunk) noexcept nogil:
    """Free a block, or else a chunk, as soon as no reader can see it."""
    cdef fib_limbo_t* limbo = &f.limbo[f.epoch]
    cdef uint32_t capacity
    cdef fib_kept_t* kept
    if f.readers[0] + f.readers[1] == 0:
        if slot != NULL:
            free(slot)
        else:
            free_chunk(&f.block, chunk)
        return
    if limbo.n == limbo.capacity:
        capacity = 2 * limbo.capacity + 16
        kept = <fib_kept_t*>realloc(limbo.kept, capacity * sizeof(fib_kept_t))
        if kept == NULL:
            return              # no memory to remember it: it is lost
        limbo.kept, limbo.capacity = kept, capacity
    limbo.kept[limbo.n].slot, limbo.kept[limbo.n].chunk = slot, chunk
    limbo.n += 1


cdef void settle(fib_t* f) noexcept nogil:
    """Free what no reader can see any more.

    What went out of use in an epoch was visible to readers of that epoch and of the one before. A new epoch
    begins only when the readers of the one before the present have left, so the old limbo is free then.
    """
    cdef int turn
    cdef fib_limbo_t* limbo
    for turn in range(2):
        if f.readers[1 - f.epoch]:
            return
        f.epoch = 1 - f.epoch
        limbo = &f.limbo[f.epoch]
        while limbo.n:
            limbo.n -= 1
            if limbo.kept[limbo.n].slot != NULL:
                free(limbo.kept[limbo.n].slot)
            elif limbo.kept[limbo.n].chunk:
                free_chunk(&f.block, limbo.kept[limbo.n].chunk)


cdef void close_chunk(fib_t* f, uint32_t at, uint32_t value) noexcept nogil:
    """Store a value where a slot may lead to a chunk, and retire that chunk."""
    cdef uint32_t old = f.block.slot[at], v
    cdef int i
    fib_publish(&f.block.slot[at], value)
    if not is_child(old):
        return
    for i in range(CHUNK):
        v = f.block.slot[child(old) | i]
        if is_child(v):
            retire(f, NULL, v & FIB_INDEX)
    retire(f, NULL, old & FIB_INDEX)


cdef bint redraw(fib_t* f, const rib_t* r, uint32_t spare_wide) noexcept nogil:
    """Draw everything into a new block; False without memory, and nothing has changed then."""
    cdef rib_walk_t walk
    cdef const rib_node_t* n
    cdef fib_block_t b
    cdef uint32_t* old = f.block.slot
    cdef uint32_t i, last16 = 0xFFFFFFFF, last24 = 0xFFFFFFFF, wide = 0
    cdef uint64_t chunks = 0, hops = spare_wide
    rib_walk(&walk, 0)
    while True:
        i = rib_next(&walk, r)
        if i == RIB_NONE:
            break
        n = &r.node[i]
        hops += n.hop >> 31
        if n.len > 16 and n.net >> 16 != last16:
            last16 = n.net >> 16
            chunks += 1
        if n.len > 24 and n.net >> 8 != last24:
            last24 = n.net >> 8
            chunks += 1
    if hops:
        wide = CHUNK
        while wide < 2 * hops:
            wide *= 2
    if not block_init(&b, chunks + chunks // 8 + 16, wide):
        return False
    rib_walk(&walk, 0)
    while True:
        i = rib_next(&walk, r)
        if i == RIB_NONE:
            break
        n = &r.node[i]
        open_path(&b, n.net, n.len)
        fill(&b, n.net, n.net + prefix_size(n.len), encode(&b, n.hop))
    settle(f)
    for i in range(f.limbo[0].n):
        f.limbo[0].kept[i].chunk = 0        # chunks of a block that goes itself
    for i in range(f.limbo[1].n):
        f.limbo[1].kept[i].chunk = 0
    fib_publish_block(&f.block.slot, b.slot)
    f.block = b
    if old != NULL:
        retire(f, old, 0)
    return True


cdef bint fib_redraw(fib_t* f, const rib_t* r) noexcept nogil:
    """Draw everything again; False without memory, and the arrays have not changed then."""
    return redraw(f, r, 0)


cdef bint fib_init(fib_t* f, const rib_t* r) noexcept nogil:
    """The arrays of a RIB, from zeroed memory; False without memory."""
    return redraw(f, r, 0)


cdef void fib_free(fib_t* f) noexcept nogil:
    cdef int epoch
    cdef uint32_t i
    for epoch in range(2):
        for i in range(f.limbo[epoch].n):
            free(f.limbo[epoch].kept[i].slot)
        free(f.limbo[epoch].kept)
    free(f.block.slot)


cdef bint fib_reserve(fib_t* f, const rib_t* r, uint32_t hop) noexcept nogil:
    """Make sure that the next fib_draw, for a prefix with this hop, finds room; False without memory."""
    cdef fib_block_t* b = &f.block
    cdef bint is_wide = hop >> 31
    if b.capacity - b.used + b.n_free >= 2 and (not is_wide or 2 * (b.n_wide + 1) <= b.wide):
        return True
    return redraw(f, r, is_wide)


cdef void fib_draw(fib_t* f, const rib_t* r, uint32_t net, uint8_t len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there."""
    cdef rib_walk_t walk
    cdef const rib_node_t* n
    cdef uint64_t at = net, end = net + prefix_size(len)
    cdef uint32_t i = rib_longest(r, net, len), value = FIB_MISS, slot
    settle(f)
    if i != RIB_NONE:
        value = encode(&f.block, r.node[i].hop)
    if len > 16 and not rib_longer(r, net, 16):
        close_chunk(f, net >> 16, value)
        return
    if len > 24 and not rib_longer(r, net, 24):
        close_chunk(f, open_chunk(&f.block, net >> 16) | (net >> 8 & 255), value)
        return
    open_path(&f.block, net, len)
    i = rib_inside(r, net, len)
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
        fill(&f.block, at, n.net, value)
        at = n.net + prefix_size(n.len)
    fill(&f.block, at, end, value)


cdef size_t fib_nbytes(const fib_t* f) noexcept nogil:
    return <size_t>f.block.capacity * CHUNK * sizeof(uint32_t)


cdef void fib_lookup_batch(const uint32_t* slot, const uint32_t* dst, Py_ssize_t n,
                           uint32_t* hop) noexcept nogil:
    """hop[i] = next hop of dst[i]; the arrays may be one and the same."""
    cdef uint32_t v, at, below, deeper
    cdef uint32_t second[BLOCK]
    cdef uint32_t key[BLOCK]
    cdef Py_ssize_t done = 0, i, size
    while done < n:
        size = min(<Py_ssize_t>BLOCK, n - done)
        deeper = 0
        for i in range(size):
            key[i] = dst[done + i]
            at = key[i] >> 16
            v = slot[at]
            below = (v << 8) | (key[i] >> 8 & 255)
            at ^= (at ^ below) & (0 - is_child(v))      # a choice without a branch: keys are hard to predict
            second[i] = at
            kf_prefetch(&slot[at])
        for i in range(size):
            v = slot[second[i]]
            hop[done + i] = v
            deeper |= (v + 1) >> 31         # neither a small hop nor FIB_MISS
        if deeper:                          # again from the root: the table may be changing
            for i in range(size):
                if (hop[done + i] + 1) >> 31:
                    hop[done + i] = fib_answer(slot, key[i])
        done += size
