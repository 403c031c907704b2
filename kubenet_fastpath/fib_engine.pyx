"""Which engine draws a table, and lookups in batches.

An IPv4 table gets `16-8-8` while that takes no more than a core's second-level cache, then `24-8`, and `rank` where the
next hops or the chunks are too many for slots of two bytes. IPv6 has `b+tree`. The choice is made anew
whenever everything is drawn: at first, when an update finds no room, when half of the prefixes have gone.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from .arena cimport (
    KF_BTREE, KF_DENSE16, KF_DENSE24, KF_RANK, arena_begin, arena_free, arena_replace, arena_t, kf_lpm,
)
from .fib_btree cimport btree_build, btree_draw
from .fib_dense cimport DENSE_CHUNKS, dense_build, dense_chunks, dense_draw
from .fib_rank cimport rank_build, rank_draw
from .fib_sweep cimport ranges_free
from .rib cimport RIB_NONE, kf_key, rib_next, rib_t, rib_walk, rib_walk_t

cdef extern from "csrc/lookup.h" nogil:
    void kf_lpm_lookup4(const kf_lpm* t, int isa, const uint32_t* key, size_t n, uint32_t* hop)
    void kf_lpm_lookup6(const kf_lpm* t, int isa, bint octets, const char* key, size_t n, uint32_t* hop)

cdef enum:
    DIRECT = 0x8000             # next hops below fit into a slot of two bytes
    WIDE = 1 << 31              # next hops below fit into one of four
    POOLED = 24000              # different next hops that a pool of 2**15 places takes
    SET_BITS = 16
    SMALL_CHUNKS = 1536         # with the root 0.9 MB
    MANY = 64                   # prefixes below which a table never shrinks
    HASH = 0x9E3779B1

cdef struct census_t:           # what the next hops ask for
    bint is_direct              # all are below DIRECT
    uint64_t different          # as far as POOLED + 1
    uint64_t wide               # not below WIDE, with repetitions


cdef bint count_hops(census_t* c, const rib_t* r) noexcept nogil:
    cdef rib_walk_t walk
    cdef uint32_t i, hop, place
    cdef uint32_t* seen = <uint32_t*>calloc(1 << SET_BITS, sizeof(uint32_t))
    if seen == NULL:
        return False
    c.is_direct, c.different, c.wide = True, 0, 0
    rib_walk(&walk, 0)
    while True:
        i = rib_next(&walk, r)
        if i == RIB_NONE:
            break
        hop = r.node[i].hop
        c.is_direct = c.is_direct and hop < DIRECT
        c.wide += hop >= <uint32_t>WIDE
        if c.different > POOLED:
            continue
        place = (hop * <uint32_t>HASH) >> (32 - SET_BITS)
        while seen[place] != 0 and seen[place] != hop + 1:
            place = (place + 1) & ((1 << SET_BITS) - 1)
        if seen[place] == 0:
            seen[place] = hop + 1
            c.different += 1
    free(seen)
    return True


cdef fib_status draw_ranges(fib_t* f, arena_t* a, const rib_t* r, const census_t* hops) noexcept nogil:
    """Draw the engine of the family that has nodes of ranges: narrow where that can be."""
    cdef bint is_ipv4 = r.bits == 32, drawn = False
    cdef uint32_t narrow_pool = 0 if hops.is_direct else DIRECT
    if hops.is_direct or hops.different <= POOLED:
        drawn = rank_build(&f.ranges, a, r, 2, narrow_pool) if is_ipv4 else btree_build(&f.ranges, a, r, 2, narrow_pool)
    if not drawn:
        drawn = (rank_build(&f.ranges, a, r, 4, wide_pool(hops)) if is_ipv4
                 else btree_build(&f.ranges, a, r, 4, wide_pool(hops)))
    return FIB_DRAWN if drawn else FIB_NO_MEMORY


cdef fib_status draw_ipv4(fib_t* f, arena_t* a, const rib_t* r, const census_t* hops) noexcept nogil:
    cdef bint narrow = hops.is_direct or hops.different <= POOLED
    cdef uint64_t small = dense_chunks(r, 16), large = dense_chunks(r, 24)
    cdef int engine = f.engine
    if engine == ENGINE_ANY:
        engine = KF_RANK
        if narrow and small <= SMALL_CHUNKS:
            engine = KF_DENSE16
        elif narrow and large < DENSE_CHUNKS:
            engine = KF_DENSE24
    if engine == KF_BTREE:
        return FIB_BEYOND
    if engine == KF_RANK:
        return draw_ranges(f, a, r, hops)
    if engine == KF_DENSE24:
        small = large
    if not narrow or small > DENSE_CHUNKS:
        return FIB_BEYOND
    if not dense_build(a, r, 16 if engine == KF_DENSE16 else 24, small, small // 4 + 64, not hops.is_direct):
        return FIB_NO_MEMORY
    return FIB_DRAWN


cdef uint32_t wide_pool(const census_t* hops) noexcept nogil:
    """Places for the hops that need one, and for as many more."""
    cdef uint32_t size = 256
    if hops.wide == 0:
        return 0
    while size < 3 * hops.wide and size < <uint32_t>1 << 28:
        size *= 2
    return size


cdef fib_status fib_redraw(fib_t* f, const rib_t* r) noexcept nogil:
    """Draw everything again; unless FIB_DRAWN the arrays have not changed."""
    cdef arena_t fresh
    cdef census_t hops
    cdef fib_status status
    memset(&fresh, 0, sizeof(fresh))
    if not count_hops(&hops, r):
        return FIB_NO_MEMORY
    if r.bits == 32:
        status = draw_ipv4(f, &fresh, r, &hops)
    elif f.engine not in (ENGINE_ANY, KF_BTREE):
        status = FIB_BEYOND
    else:
        status = draw_ranges(f, &fresh, r, &hops)
    if status == FIB_DRAWN:
        arena_replace(&f.arena, &fresh)
        f.drawn = r.count
    f.changes += 1
    return status


cdef fib_status fib_init(fib_t* f, const rib_t* r, int engine) noexcept nogil:
    """The arrays of a RIB, from zeroed memory."""
    f.engine = engine
    return fib_redraw(f, r)


cdef void fib_adopt(fib_t* f, kf_lpm* block) noexcept nogil:
    """Take arrays that somebody else keeps for as long as the table lives; the first change draws own ones."""
    cdef arena_t theirs
    arena_begin(&theirs, block, block.arena_size)
    theirs.borrowed = True
    arena_replace(&f.arena, &theirs)


cdef void fib_free(fib_t* f) noexcept nogil:
    arena_free(&f.arena)
    ranges_free(&f.ranges)


cdef fib_status fib_draw(fib_t* f, const rib_t* r, kf_key net, int len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there; unless FIB_DRAWN the arrays have not changed."""
    cdef bint shrunk = f.drawn > MANY and r.count < f.drawn // 2
    cdef bint drawn = False
    if not f.arena.borrowed and not shrunk:
        if f.arena.block.engine == KF_RANK:
            drawn = rank_draw(&f.ranges, &f.arena, r, net, len)
        elif f.arena.block.engine == KF_BTREE:
            drawn = btree_draw(&f.ranges, &f.arena, r, net, len)
        else:
            drawn = dense_draw(&f.arena, r, net, len)
    if not drawn:
        return fib_redraw(f, r)
    f.changes += 1
    return FIB_DRAWN


cdef void fib_lookup_ipv4(const kf_lpm* block, int isa, const uint32_t* key, size_t n, uint32_t* hop) noexcept nogil:
    """hop[i] = next hop of key[i], in host order; the arrays may be one and the same."""
    kf_lpm_lookup4(block, isa, key, n, hop)


cdef void fib_lookup_ipv6(const kf_lpm* block, int isa, bint octets, const char* key, size_t n,
                          uint32_t* hop) noexcept nogil:
    """hop[i] = next hop of a pair of uint64 in host order, or of 16 octets."""
    kf_lpm_lookup6(block, isa, octets, key, n, hop)
