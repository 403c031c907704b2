"""An IPv6 packet's headers, and PREROUTING from the top."""

from .context cimport node_t, packet_t

# Whether a bridge that snoops lets a multicast packet pass (ipv6_mc_check_mld).
cdef bint multicast_fits6(const packet_t* p) noexcept nogil
cdef int check_header6(packet_t* p) noexcept nogil
cdef int enter_netfilter6(node_t* node, packet_t* p) noexcept nogil
