"""Sweeps over the prefixes inside a part of the addresses: the ranges of slices that have the same slot."""

from libc.stdint cimport uint32_t, uint64_t

from .arena cimport arena_t
from .rib cimport kf_key, rib_t

cdef struct range_t:
    uint32_t first              # slice
    uint32_t slot

cdef struct ranges_t:           # memory for ranges, kept between updates
    range_t* range
    uint64_t capacity

cdef struct update_t:           # children of these slices are drawn again, others stay
    uint32_t reference          # of the node; 0: the root
    int depth                   # bits before its slice
    int bits                    # of its slice
    uint32_t first
    uint32_t last

cdef struct drawing_t           # what the functions of one drawing share

# The slot that leads to the child behind `depth` bits of a key, which is that of a slice. Ranges from `at` are free.
ctypedef uint32_t (*draw_child_t)(drawing_t* d, kf_key key, int depth, uint32_t slice, uint32_t at,
                                  const update_t* update) noexcept nogil

cdef struct drawing_t:
    arena_t* a
    const rib_t* r
    range_t* range
    draw_child_t child
    int width
    bint is_full                # there was no room: the drawing is worthless
    bint is_tall                # nor levels enough for a tree, in
    int tall_window

cdef void ranges_free(ranges_t* k) noexcept nogil
cdef bint ranges_reserve(ranges_t* k, uint64_t ranges) noexcept nogil
cdef void drawing_begin(drawing_t* d, const ranges_t* k, arena_t* a, const rib_t* r, draw_child_t child) noexcept nogil
cdef uint32_t emit(drawing_t* d, uint32_t begin, uint32_t at, uint32_t first, uint32_t slot) noexcept nogil
cdef uint32_t sweep(drawing_t* d, kf_key key, int len, int depth, int bits, uint32_t at,
                    const update_t* update) noexcept nogil
cdef void store_slot(char* place, int width, uint32_t slot) noexcept nogil
