"""The rank engine: compact tables of IPv4, all tables of IPv6 (csrc/rank.h has the layout)."""

from libc.stdint cimport uint32_t, uint64_t

from .arena cimport arena_t
from .rib cimport kf_key, rib_t

cdef struct range_t:
    uint32_t first              # slice
    uint32_t slot

cdef struct rank_t:             # memory for ranges, kept between updates
    range_t* range
    uint64_t capacity

cdef void rank_free(rank_t* k) noexcept nogil
cdef bint rank_build(rank_t* k, arena_t* a, const rib_t* r, int width, uint32_t pool_size) noexcept nogil
cdef bint rank_draw(rank_t* k, arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil
