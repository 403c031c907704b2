"""The lookup arrays that are drawn from the RIB: a trie of 16, 8 and 8 bits, of uint32 slots in one block.

Slots 0..65535 are the root, one for each /16. Then come `wide` slots (below), then chunks of 256 slots, one
for each /16 with a prefix longer than /16 inside, and one for each /24 with one longer than /24. Chunk c
begins at slot 256 * c. A slot holds

- a next hop below 2**31;
- CHILD | c: its addresses are decided in chunk c;
- WIDE | i: the next hop, 2**31 or more, is in slot i, of the `wide` ones (a hash table; FIB_MISS is empty);
- FIB_MISS.

Readers in other threads. Every change of an answer is one store of one slot, and a chunk is filled before the
slot that leads to it is stored, so each address is answered from before or after a change. What an
update takes out of use (a chunk, or the block when a larger one replaces it) is kept until all readers have
left that were there then. Readers come and go, and updates happen, while the GIL is held.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .rib cimport rib_t

cdef extern from "csrc/bucket.h" nogil:
    void kf_prefetch(const void* p)

cdef enum:
    FIB_MISS = 0xFFFFFFFF
    FIB_CHILD = 2               # the two highest bits of a slot
    FIB_WIDE = 3
    FIB_INDEX = 0x3FFFFFFF      # the others

cdef struct fib_block_t:
    uint32_t* slot
    uint32_t wide               # slots of the hash table, a power of two, or 0
    uint32_t n_wide             # of them in use
    uint32_t used               # chunks that have ever been used, the root and the wide slots included
    uint32_t capacity           # in chunks
    uint32_t free_chunk         # chain through the first slots, 0: empty
    uint32_t n_free

cdef struct fib_kept_t:
    uint32_t* slot              # a block, or NULL
    uint32_t chunk

cdef struct fib_limbo_t:        # what readers may still see
    fib_kept_t* kept
    uint32_t n
    uint32_t capacity

cdef struct fib_t:              # the lookup arrays; opaque to its users
    fib_block_t block
    uint32_t readers[2]         # by the epoch in which they came
    fib_limbo_t limbo[2]        # by the epoch in which it went out of use
    int epoch

cdef bint fib_init(fib_t* f, const rib_t* r) noexcept nogil
cdef void fib_free(fib_t* f) noexcept nogil
cdef bint fib_reserve(fib_t* f, const rib_t* r, uint32_t hop) noexcept nogil
cdef void fib_draw(fib_t* f, const rib_t* r, uint32_t net, uint8_t len) noexcept nogil
cdef bint fib_redraw(fib_t* f, const rib_t* r) noexcept nogil
cdef size_t fib_nbytes(const fib_t* f) noexcept nogil
cdef void fib_lookup_batch(const uint32_t* slot, const uint32_t* dst, Py_ssize_t n,
                           uint32_t* hop) noexcept nogil


cdef inline int fib_enter(fib_t* f) noexcept:
    """Become a reader: with the GIL, before lookups without it. Give the answer to fib_leave."""
    f.readers[f.epoch] += 1
    return f.epoch


cdef inline void fib_leave(fib_t* f, int epoch) noexcept:
    """No longer be a reader, with the GIL."""
    f.readers[epoch] -= 1


cdef inline uint32_t fib_answer(const uint32_t* slot, uint32_t dst) noexcept nogil:
    cdef uint32_t v = slot[dst >> 16]
    if v >> 30 == FIB_CHILD:
        v = slot[<uint32_t>(v << 8) | (dst >> 8 & 255)]     # the shift drops the two highest bits
        if v >> 30 == FIB_CHILD:
            v = slot[<uint32_t>(v << 8) | (dst & 255)]
    if v >> 30 == FIB_WIDE and v != FIB_MISS:
        v = slot[v & FIB_INDEX]
    return v


cdef inline uint32_t fib_lookup(const fib_t* f, uint32_t dst) noexcept nogil:
    """Next hop of an address in host order, or FIB_MISS."""
    return fib_answer(f.block.slot, dst)


cdef inline void fib_prefetch(const fib_t* f, uint32_t dst) noexcept nogil:
    """Ask for the first line that a lookup of dst reads."""
    kf_prefetch(&f.block.slot[dst >> 16])
