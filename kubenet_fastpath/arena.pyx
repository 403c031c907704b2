"""Pieces of a block, taken and given back; epochs of readers; the pool of next hops that slots cannot hold."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

cdef enum:
    UNIT_LINES = 16             # lines that are cut into units at a time
    POOL_SHARE = 4              # of every 4 places of the pool at most 3 are in use
    HASH = 0x9E3779B1           # 2**32 / golden ratio



cdef void arena_free(arena_t* a) noexcept nogil:
    cdef int epoch
    cdef uint32_t i
    for epoch in range(2):
        for i in range(a.limbo[epoch].n):
            if a.limbo[epoch].kept[i].size == CLASS_BLOCK:
                kf_block_free(a.limbo[epoch].kept[i].block)
        free(a.limbo[epoch].kept)
    if not a.borrowed:
        kf_block_free(a.block)


cdef kf_lpm* arena_block(int family, int engine, int width, uint32_t pool_size, uint64_t root,
                         uint64_t lines) noexcept nogil:
    """A block with a root of so many bytes and an arena of so many lines; NULL without memory.

    Only the head and the pool have contents.
    """
    cdef uint64_t pool = KF_LPM_HEAD
    cdef uint64_t at_root = pool + (<uint64_t>pool_size * sizeof(uint32_t) + LINE - 1) // LINE * LINE
    cdef uint64_t at_arena = at_root + (root + LINE - 1) // LINE * LINE
    cdef kf_lpm* b = kf_block_alloc(at_arena + lines * LINE)
    if b == NULL:
        return NULL
    memset(b, 0, KF_LPM_HEAD)
    memcpy(b, KF_LPM_MAGIC, 8)
    b.version = KF_LPM_VERSION
    b.family, b.engine, b.width = <uint8_t>family, <uint8_t>engine, <uint8_t>width
    b.pool, b.root, b.arena, b.size = pool, at_root, at_arena, at_arena
    b.pool_size = pool_size
    memset(<char*>b + pool, 0xFF, pool_size * sizeof(uint32_t))
    return b


cdef void arena_begin(arena_t* a, kf_lpm* block, uint64_t lines) noexcept nogil:
    """Start on an empty block, of which nobody knows yet."""
    memset(a, 0, sizeof(arena_t))
    memset(a.free_piece, 0xFF, sizeof(a.free_piece))
    a.block, a.capacity = block, <uint32_t>lines


cdef bint arena_trim(arena_t* a, uint64_t spare) noexcept nogil:
    """Move a block that nobody knows of yet to memory that has no more than so many lines to spare."""
    cdef kf_lpm* block
    if a.capacity - a.block.arena_size <= spare:
        return True
    block = kf_block_alloc(a.block.size + spare * LINE)
    if block == NULL:
        return False
    memcpy(block, a.block, a.block.size)
    kf_block_free(a.block)
    a.block, a.capacity = block, <uint32_t>(block.arena_size + spare)
    return True


cdef void arena_replace(arena_t* a, arena_t* other) noexcept nogil:
    """Take over another arena's block, for new readers; the old one goes when its readers have gone."""
    cdef kf_lpm* old = a.block
    cdef uint32_t i
    cdef int epoch
    arena_settle(a)
    for epoch in range(2):      # pieces of a block that goes itself
        for i in range(a.limbo[epoch].n):
            if a.limbo[epoch].kept[i].size != CLASS_BLOCK:
                a.limbo[epoch].kept[i].size, a.limbo[epoch].kept[i].block = CLASS_BLOCK, NULL
    publish_block(&a.block, other.block)
    a.capacity, a.unit, a.unit_end, a.n_pool = other.capacity, other.unit, other.unit_end, other.n_pool
    memcpy(a.free_piece, other.free_piece, sizeof(a.free_piece))
    if old != NULL and not a.borrowed:
        retire(a, old, 0, CLASS_BLOCK)
    a.borrowed = other.borrowed


cdef uint32_t arena_take(arena_t* a, uint32_t size) noexcept nogil:
    """A piece of a class, numbered in units or in lines from the arena; NO_PIECE where there is no room."""
    cdef uint32_t piece = a.free_piece[size], lines
    if piece != NO_PIECE:
        a.free_piece[size] = (<uint32_t*>arena_piece(a, piece, size))[0]
        return piece
    if size <= UNITS:
        if a.unit + size > a.unit_end:
            piece = arena_take(a, UNITS + UNIT_LINES)
            if piece == NO_PIECE:
                return NO_PIECE
            a.unit = piece * (LINE // UNIT)
            a.unit_end = a.unit + UNIT_LINES * (LINE // UNIT)
        piece = a.unit
        a.unit += size
        return piece
    lines = size - UNITS
    if a.capacity - a.block.arena_size < lines:
        return NO_PIECE
    piece = a.block.arena_size
    a.block.arena_size += lines
    a.block.size += <uint64_t>lines * LINE
    return piece


cdef void give_back(arena_t* a, uint32_t piece, uint32_t size) noexcept nogil:
    (<uint32_t*>arena_piece(a, piece, size))[0] = a.free_piece[size]
    a.free_piece[size] = piece


cdef void retire(arena_t* a, kf_lpm* block, uint32_t piece, uint32_t size) noexcept nogil:
    """Free a block, or else a piece, as soon as no reader can see it."""
    cdef limbo_t* limbo = &a.limbo[a.epoch]
    cdef uint32_t capacity
    cdef kept_t* kept
    if a.readers[0] + a.readers[1] == 0:
        if size == CLASS_BLOCK:
            kf_block_free(block)
        else:
            give_back(a, piece, size)
        return
    if limbo.n == limbo.capacity:
        capacity = 2 * limbo.capacity + 16
        kept = <kept_t*>realloc(limbo.kept, capacity * sizeof(kept_t))
        if kept == NULL:
            return              # no memory to remember it: it is lost
        limbo.kept, limbo.capacity = kept, capacity
    limbo.kept[limbo.n].block, limbo.kept[limbo.n].piece, limbo.kept[limbo.n].size = block, piece, size
    limbo.n += 1


cdef void arena_retire(arena_t* a, uint32_t piece, uint32_t size) noexcept nogil:
    """A piece that new readers cannot find any more."""
    retire(a, NULL, piece, size)


cdef void arena_settle(arena_t* a) noexcept nogil:
    """Free what no reader can see any more.

    What went out of use in an epoch was visible to readers of that epoch and of the one before. A new epoch
    begins only when the readers of the one before the present have left, so the old limbo is free then.
    """
    cdef int turn
    cdef limbo_t* limbo
    for turn in range(2):
        if a.readers[1 - a.epoch]:
            return
        a.epoch = 1 - a.epoch
        limbo = &a.limbo[a.epoch]
        while limbo.n:
            limbo.n -= 1
            if limbo.kept[limbo.n].size == CLASS_BLOCK:
                kf_block_free(limbo.kept[limbo.n].block)
            else:
                give_back(a, limbo.kept[limbo.n].piece, limbo.kept[limbo.n].size)


cdef bint fits(const kf_lpm* b, uint32_t hop) noexcept nogil:
    """Whether a slot holds the hop itself."""
    return not b.pooled and (hop < <uint32_t>0x8000 if b.width == 2 else hop >> 31 == 0)


cdef uint32_t pool_place(const kf_lpm* b, uint32_t hop) noexcept nogil:
    """Where a hop is or belongs."""
    cdef const uint32_t* pool = <const uint32_t*>(<const char*>b + b.pool)
    cdef uint32_t i = (hop * <uint32_t>HASH) & (b.pool_size - 1)
    while pool[i] != KF_MISS and pool[i] != hop:
        i = (i + 1) & (b.pool_size - 1)
    return i


cdef uint32_t arena_encode(arena_t* a, uint32_t hop) noexcept nogil:
    """What a slot holds for a next hop or KF_MISS. `arena_has_room` has said that there is a place."""
    cdef kf_lpm* b = a.block
    cdef uint32_t* pool = <uint32_t*>(<char*>b + b.pool)
    cdef uint32_t i
    if hop == KF_MISS or fits(b, hop):
        return hop
    i = pool_place(b, hop)
    if pool[i] == KF_MISS:
        pool[i] = hop
        a.n_pool += 1
    return i if b.width == 2 else KF_POOL | i


cdef bint arena_has_room(const arena_t* a, uint64_t lines, uint32_t hop) noexcept nogil:
    """Whether the block has so many lines never used, and a place for a hop."""
    cdef const kf_lpm* b = a.block
    if a.capacity - b.arena_size < lines:
        return False
    if hop == KF_MISS or fits(b, hop):
        return True
    if b.pool_size == 0 or (b.width == 2 and not b.pooled):
        return False
    return (<const uint32_t*>(<const char*>b + b.pool))[pool_place(b, hop)] == hop or (
        POOL_SHARE * (<uint64_t>a.n_pool + 1) <= (POOL_SHARE - 1) * <uint64_t>b.pool_size)
