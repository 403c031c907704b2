"""The node's ARP."""

from .context cimport node_t, packet_t

cdef int arp_receive(node_t* node, packet_t* p) noexcept nogil
