"""An IPv4 packet arrives at an interface: local, forwarded or dropped."""

from .context cimport node_t, packet_t

cdef int check_header(packet_t* p) noexcept nogil
cdef int enter_netfilter(node_t* node, packet_t* p) noexcept nogil
cdef int ip_receive(node_t* node, packet_t* p) noexcept nogil
cdef int how(node_t* node, const packet_t* p) noexcept nogil
