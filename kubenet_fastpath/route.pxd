"""Routing decisions for packets that come in and packets that the node makes."""

from libc.stdint cimport uint16_t, uint32_t

from .context cimport node_t, packet_t

cdef uint32_t route_find(const node_t* node, uint32_t ip) noexcept nogil
cdef int route_type(const node_t* node, uint32_t ip) noexcept nogil
cdef bint owns(const node_t* node, uint32_t ip) noexcept nogil
cdef uint32_t select_address(const node_t* node, uint16_t dev, uint32_t to) noexcept nogil
cdef int route_input(node_t* node, packet_t* p, uint32_t src, uint32_t dst, bint arp) noexcept nogil
