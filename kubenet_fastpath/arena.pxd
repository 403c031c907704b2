"""The block that holds a table's lookup arrays (csrc/lpm.h): its pieces, and what readers may still see of it.

Readers in other threads. Every change of an answer is one store of one slot, entry or reference, made after all
that it leads to, so each address is answered from before or after a change. What an update takes out of use (a
piece, or the block when a larger one replaces it) is kept until all readers have left that were there then.
Readers come and go, and updates happen, while the GIL is held.
"""

from libc.stdint cimport int16_t, uint8_t, uint32_t, uint64_t

cdef extern from "csrc/lpm.h" nogil:
    ctypedef struct kf_lpm:
        uint8_t family, engine, width, pooled
        uint32_t version
        uint64_t size, pool, root, arena
        uint32_t pool_size, arena_size, prefixes, crc
    enum:
        KF_DENSE16
        KF_DENSE24
        KF_RANK
        KF_BTREE
        KF_LPM_HEAD
        KF_LPM_VERSION
    const char* KF_LPM_MAGIC
    uint32_t KF_MISS
    uint32_t KF_CHILD
    uint32_t KF_POOL
    uint32_t KF_PLACE
    void kf_hops_of(const kf_lpm* t, uint32_t* hop, size_t n)
    uint32_t kf_hop_of(const kf_lpm* t, uint32_t v)
    uint32_t kf_slot_load(const char* p, int width)
    bint kf_is_child(int width, uint32_t v)

cdef extern from "csrc/block.h" nogil:
    kf_lpm* kf_block_alloc(uint64_t size)
    void kf_block_free(kf_lpm* block)
    void publish_slot "kf_publish"(int16_t* place, int16_t value)
    void publish_word "kf_publish"(uint32_t* place, uint32_t value)
    void publish_entry "kf_publish"(uint64_t* place, uint64_t value)
    void publish_block "kf_publish"(kf_lpm** place, kf_lpm* value)

cdef enum:
    UNIT = 4                    # bytes; the smallest piece
    UNITS = 32                  # pieces of 1..32 units, and
    LINES = 256                 # of 1..256 lines
    LINE = 64
    CLASSES = UNITS + LINES + 1 # class c: c units, or c - UNITS lines
    CLASS_BLOCK = 0             # a whole block
    NO_PIECE = 0xFFFFFFFF

cdef struct kept_t:
    kf_lpm* block               # of class CLASS_BLOCK
    uint32_t piece
    uint32_t size               # class

cdef struct limbo_t:            # what readers may still see
    kept_t* kept
    uint32_t n
    uint32_t capacity

cdef struct arena_t:
    kf_lpm* block               # arena_size lines of its arena have ever been used
    uint32_t capacity           # lines
    uint32_t unit, unit_end     # of the lines that are being cut into units
    uint32_t free_piece[CLASSES]    # chains through the first words
    uint32_t n_pool             # hops in the pool
    uint32_t readers[2]         # by the epoch in which they came
    limbo_t limbo[2]            # by the epoch in which it went out of use
    int epoch
    bint borrowed               # the block belongs to somebody else, who keeps it

cdef void arena_free(arena_t* a) noexcept nogil
cdef kf_lpm* arena_block(int family, int engine, int width, uint32_t pool_size, uint64_t root,
                         uint64_t lines) noexcept nogil
cdef void arena_begin(arena_t* a, kf_lpm* block, uint64_t lines) noexcept nogil
cdef bint arena_trim(arena_t* a, uint64_t spare) noexcept nogil
cdef void arena_replace(arena_t* a, arena_t* other) noexcept nogil
cdef uint32_t arena_take(arena_t* a, uint32_t size) noexcept nogil
cdef void arena_retire(arena_t* a, uint32_t piece, uint32_t size) noexcept nogil
cdef void arena_settle(arena_t* a) noexcept nogil
cdef uint32_t arena_encode(arena_t* a, uint32_t hop) noexcept nogil
cdef bint arena_has_room(const arena_t* a, uint64_t lines, uint32_t hop) noexcept nogil


cdef inline char* arena_memory(const arena_t* a) noexcept nogil:
    return <char*>a.block + a.block.arena


cdef inline void* arena_piece(const arena_t* a, uint32_t piece, uint32_t size) noexcept nogil:
    return arena_memory(a) + <uint64_t>piece * (<uint64_t>LINE if size > UNITS else <uint64_t>UNIT)


cdef inline int arena_enter(arena_t* a) noexcept:
    """Become a reader: with the GIL, before lookups without it. Give the answer to arena_leave."""
    a.readers[a.epoch] += 1
    return a.epoch


cdef inline void arena_leave(arena_t* a, int epoch) noexcept:
    """No longer be a reader, with the GIL."""
    a.readers[epoch] -= 1
