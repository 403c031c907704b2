"""The IPv6 routing decision, who owns an address, and which address to speak from."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from .context cimport node_t, packet_t

cdef uint32_t route6_find(const node_t* node, const uint8_t* ip) noexcept nogil
cdef bint owns6(const node_t* node, const uint8_t* ip) noexcept nogil
cdef bint has_address6(const node_t* node, uint16_t dev, const uint8_t* ip) noexcept nogil
cdef uint32_t select_address6(const node_t* node, uint16_t dev, const uint8_t* to) noexcept nogil
cdef int route6_input(node_t* node, packet_t* p) noexcept nogil
cdef uint32_t route6_output(const node_t* node, uint16_t dev, const uint8_t* dst) noexcept nogil
cdef bint route6_anycast(const node_t* node, uint16_t dev, const uint8_t* ip) noexcept nogil
cdef bint is_member6(const node_t* node, uint16_t dev, const uint8_t* group) noexcept nogil


cdef inline bint is_multicast6(const uint8_t* ip) noexcept nogil:
    return ip[0] == 0xFF


cdef inline bint is_link_local6(const uint8_t* ip) noexcept nogil:
    return ip[0] == 0xFE and ip[1] & 0xC0 == 0x80


cdef inline bint is_unspecified6(const uint8_t* ip) noexcept nogil:
    cdef int i
    cdef uint8_t any = 0
    for i in range(16):
        any |= ip[i]
    return any == 0


cdef inline bint is_loopback6(const uint8_t* ip) noexcept nogil:
    cdef int i
    cdef uint8_t any = 0
    for i in range(15):
        any |= ip[i]
    return any == 0 and ip[15] == 1
