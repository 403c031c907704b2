"""An IPv6 packet's headers, and PREROUTING from the top."""

from .context cimport node_t, packet_t

cdef int check_header6(packet_t* p) noexcept nogil
cdef int enter_netfilter6(node_t* node, packet_t* p) noexcept nogil
