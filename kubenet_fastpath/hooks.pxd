"""The netfilter hooks: conntrack, destination NAT, filter, source NAT, confirm."""

from libc.stdint cimport uint16_t, uint32_t

from .context cimport node_t, packet_t

cdef int prerouting(node_t* node, packet_t* p) noexcept nogil
cdef int forward_hook(node_t* node, packet_t* p) noexcept nogil
cdef int input_hook(node_t* node, packet_t* p) noexcept nogil
cdef int output_hook(node_t* node, packet_t* p) noexcept nogil
cdef int postrouting(node_t* node, packet_t* p, uint16_t out, uint32_t next_hop) noexcept nogil
cdef int confirm(node_t* node, packet_t* p) noexcept nogil
cdef void let_go(node_t* node, packet_t* p) noexcept nogil
