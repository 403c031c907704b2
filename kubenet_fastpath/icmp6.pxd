"""ICMPv6 messages that the node makes, and its packets' way out."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from .context cimport node_t, packet_t

cdef uint8_t* local_packet6(node_t* node, packet_t* made, const packet_t* cause, uint8_t proto, const uint8_t* src,
                            const uint8_t* dst, uint32_t payload) noexcept nogil
cdef int local_out6(node_t* node, packet_t* p, uint16_t dev) noexcept nogil
cdef void send6(node_t* node, packet_t* made, uint16_t dev) noexcept nogil
cdef void icmp6_send(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil
cdef void icmp6_send_bridged(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil
cdef void reject6(node_t* node, packet_t* p, bint bridged) noexcept nogil
