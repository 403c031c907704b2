"""An IPv6 packet arrives at an interface: local, forwarded or dropped."""

from .context cimport node_t, packet_t

cdef int ip6_receive(node_t* node, packet_t* p) noexcept nogil
