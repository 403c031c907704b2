"""An IPv6 packet's headers, and PREROUTING from the top."""

from libc.stdint cimport uint8_t, uint32_t

from .context cimport node_t, packet_t

cdef int check_header6(packet_t* p) noexcept nogil
cdef void find_transport(packet_t* p) noexcept nogil
cdef bint lacks_headers(const uint8_t* l3, uint32_t n, uint32_t at) noexcept nogil
cdef int enter_netfilter6(node_t* node, packet_t* p) noexcept nogil
