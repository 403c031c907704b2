"""The node's ARP."""

from libc.stdint cimport uint16_t

from .context cimport node_t, packet_t

cdef int arp_receive(node_t* node, packet_t* p) noexcept nogil
cdef void arp_proxy_answer(node_t* node) noexcept nogil             # answer the earliest of node.proxied
cdef void arp_forget(node_t* node, uint16_t dev) noexcept nogil     # an interface is gone: so is what waits there
