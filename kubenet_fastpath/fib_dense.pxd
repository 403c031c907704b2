"""The dense engines of IPv4: a trie of 16, 8 and 8 bits for node-sized tables, one of 24 and 8 for full ones.

Slots of two bytes: one for each /16 or /24, and a chunk of 256 for each of them with a longer prefix inside, at 16-8-8
for each /24 with one as well. Chunk c is piece 8 * c of the arena.
"""

from libc.stdint cimport uint64_t

from .arena cimport arena_t
from .rib cimport kf_key, rib_t

cdef enum: DENSE_CHUNKS = 0x7FFF    # that a slot can name

cdef uint64_t dense_chunks(const rib_t* r, int root_bits) noexcept nogil
cdef bint dense_build(arena_t* a, const rib_t* r, int root_bits, uint64_t chunks, uint64_t spare,
                      bint pooled) noexcept nogil
cdef bint dense_draw(arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil
