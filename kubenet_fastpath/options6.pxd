"""Options of IPv6's hop-by-hop and destination headers."""

from libc.stdint cimport uint32_t

from .context cimport node_t, packet_t

# Read the options of the header at an offset from the network header. False: the packet is dropped, and its sender told.
cdef bint options6_parse(node_t* node, packet_t* p, uint32_t at, bint hop_by_hop) noexcept nogil
