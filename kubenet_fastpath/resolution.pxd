"""A neighbour's MAC has become known: what waited for it goes on."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from .context cimport node_t, packet_t
from .neighbour cimport neigh_table_t, nud_t

cdef void release(node_t* node, neigh_table_t* t, uint32_t neighbour, int32_t source) noexcept nogil
cdef void learn_neighbour(node_t* node, neigh_table_t* t, uint32_t index, uint64_t mac, nud_t state, bint override,
                          bint weak, const packet_t* p) noexcept nogil
