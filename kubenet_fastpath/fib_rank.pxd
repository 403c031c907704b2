"""The rank engine: compact tables of IPv4 (csrc/rank.h has the layout)."""

from libc.stdint cimport uint32_t

from .arena cimport arena_t
from .fib_sweep cimport ranges_t
from .rib cimport kf_key, rib_t

cdef bint rank_build(ranges_t* k, arena_t* a, const rib_t* r, int width, uint32_t pool_size) noexcept nogil
cdef bint rank_draw(ranges_t* k, arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil
