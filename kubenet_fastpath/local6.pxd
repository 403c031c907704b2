"""IPv6 delivery to the node's own stack."""

from .context cimport node_t, packet_t

cdef int local_deliver6(node_t* node, packet_t* p) noexcept nogil
