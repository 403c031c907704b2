"""Delivery to the node's own stack."""

from libc.stdint cimport uint8_t, uint32_t

from .context cimport node_t, packet_t

# Write a reset that answers a segment of n bytes, but for its checksum, if one is due.
cdef void write_reset(uint8_t* rst, const uint8_t* l4, uint32_t n) noexcept nogil
cdef bint wants_reset(const uint8_t* l4, uint32_t n) noexcept nogil
cdef int local_deliver(node_t* node, packet_t* p) noexcept nogil
