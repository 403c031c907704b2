"""The forwarding information base: lookup arrays that are drawn from the RIB by one of four engines."""

from libc.stdint cimport uint32_t, uint64_t

from .arena cimport KF_MISS, LINE, arena_enter, arena_leave, arena_t, kf_lpm
from .fib_sweep cimport ranges_t
from .rib cimport kf_key, rib_t

cdef extern from "csrc/lookup.h" nogil:
    uint32_t kf_lpm_answer4(const kf_lpm* t, uint32_t key)
    uint32_t kf_lpm_answer6(const kf_lpm* t, uint64_t hi, uint64_t lo)
    void kf_lpm_prefetch4(const kf_lpm* t, uint32_t key)
    void kf_btree_expect(const kf_lpm* t, uint64_t hi)
    int kf_lpm_isa(const kf_lpm* t, int isa)

cdef enum:
    ENGINE_ANY = -1

cdef enum fib_status:
    FIB_DRAWN
    FIB_NO_MEMORY               # nothing has changed
    FIB_BEYOND                  # the engine that was asked for cannot hold this table; nothing has changed

cdef struct fib_t:              # opaque to its users
    arena_t arena
    ranges_t ranges
    int engine                  # KF_*, or ENGINE_ANY
    uint32_t drawn              # prefixes when everything was drawn last
    uint64_t changes            # counts behind each change: an answer from before it may be wrong

cdef fib_status fib_init(fib_t* f, const rib_t* r, int engine) noexcept nogil
cdef void fib_adopt(fib_t* f, kf_lpm* block) noexcept nogil
cdef void fib_free(fib_t* f) noexcept nogil
cdef fib_status fib_draw(fib_t* f, const rib_t* r, kf_key net, int len) noexcept nogil
cdef fib_status fib_redraw(fib_t* f, const rib_t* r) noexcept nogil
cdef void fib_lookup_ipv4(const kf_lpm* block, int isa, const uint32_t* key, size_t n, uint32_t* hop) noexcept nogil
cdef void fib_lookup_ipv6(const kf_lpm* block, int isa, bint octets, const char* key, size_t n,
                          uint32_t* hop) noexcept nogil


cdef inline uint64_t fib_nbytes(const fib_t* f) noexcept nogil:
    """Bytes of the arrays, with what is kept free in them."""
    return f.arena.block.arena + <uint64_t>f.arena.capacity * LINE


cdef inline int fib_enter(fib_t* f) noexcept:
    """Become a reader: with the GIL, before lookups without it. Give the answer to fib_leave."""
    return arena_enter(&f.arena)


cdef inline void fib_leave(fib_t* f, int epoch) noexcept:
    """No longer be a reader, with the GIL."""
    arena_leave(&f.arena, epoch)


cdef inline uint32_t fib_lookup(const fib_t* f, uint32_t dst) noexcept nogil:
    """Next hop of an IPv4 address in host order, or KF_MISS."""
    return kf_lpm_answer4(f.arena.block, dst)


cdef inline uint32_t fib_lookup6(const fib_t* f, uint64_t hi, uint64_t lo) noexcept nogil:
    """Next hop of an IPv6 address whose halves are in host order, or KF_MISS."""
    return kf_lpm_answer6(f.arena.block, hi, lo)


cdef inline void fib_prefetch(const fib_t* f, uint32_t dst) noexcept nogil:
    """Ask for the first line that a lookup of dst reads."""
    kf_lpm_prefetch4(f.arena.block, dst)


cdef inline void fib_expect(const fib_t* f, uint64_t hi) noexcept nogil:
    """Ask for what a change of an IPv6 prefix will read; hi is the upper half of its network."""
    kf_btree_expect(f.arena.block, hi)
