"""From POSTROUTING to the wire: MTU, neighbour, Ethernet header, bridge or port."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from .context cimport node_t, packet_t
from .neighbour cimport held_t, neigh_table_t

cdef int ip_output(node_t* node, packet_t* p, uint16_t dev, uint32_t next_hop) noexcept nogil
cdef int transmit(node_t* node, packet_t* p, uint16_t dev) noexcept nogil
cdef int push(node_t* node, packet_t* p, uint16_t port, bint cloned) noexcept nogil
cdef int send_arp(node_t* node, uint16_t dev, uint16_t op, uint64_t eth_dst, uint64_t tha, uint32_t tpa,
                  uint32_t spa, int32_t source) noexcept nogil
# Neighbour discovery: a message about `target`, whose option tells the interface's MAC (0: none). eth_dst 0: ask who dst is.
cdef int send_discovery(node_t* node, uint16_t dev, uint8_t type, uint32_t flags, const uint8_t* src, const uint8_t* dst,
                        const uint8_t* target, uint8_t option, uint64_t eth_dst, int32_t source) noexcept nogil
cdef void solicit(node_t* node, neigh_table_t* t, uint32_t neighbour, int32_t source) noexcept nogil
cdef void hold(node_t* node, neigh_table_t* t, uint32_t neighbour, const packet_t* p) noexcept nogil
cdef uint64_t group_mac6(const uint8_t* group) noexcept nogil
cdef int finish(node_t* node, packet_t* p, uint16_t dev, uint32_t next_hop) noexcept nogil
cdef void lose(node_t* node, packet_t* p, int reason) noexcept nogil
cdef packet_t waited(node_t* node, held_t* h, int32_t source) noexcept nogil
