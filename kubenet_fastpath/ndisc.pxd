"""Neighbour discovery: IPv6's ARP."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from .context cimport node_t, packet_t

cdef void ndisc_receive(node_t* node, packet_t* p, const uint8_t* icmp, uint32_t n) noexcept nogil
cdef void send_redirect6(node_t* node, packet_t* p, uint16_t dev, uint32_t target) noexcept nogil
