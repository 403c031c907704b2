"""Packets that the node makes: ICMP errors and replies, and the way out of the node's own stack."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from .context cimport icmp_limit_t, icmp_peer_t, node_t, packet_t

cdef uint8_t* local_packet(node_t* node, packet_t* made, const packet_t* cause, uint8_t proto, uint32_t src,
                           uint32_t dst, uint8_t tos, uint32_t payload) noexcept nogil
cdef int local_out(node_t* node, packet_t* p) noexcept nogil
cdef void icmp_send(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil
cdef void reject(node_t* node, packet_t* p) noexcept nogil
cdef void send_redirect(node_t* node, packet_t* p, uint32_t gateway) noexcept nogil
# The peer's row among those of its family, and whether the limits let an error to it be sent (without: global alone).
cdef icmp_peer_t* find_peer(node_t* node, icmp_limit_t* l, uint32_t ip) noexcept nogil
cdef bint spend_token(const node_t* node, icmp_peer_t* q, int64_t interval) noexcept nogil
cdef bint spend_global(node_t* node) noexcept nogil
cdef bint spend_unreachable(node_t* node, uint32_t ip) noexcept nogil
