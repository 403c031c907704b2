"""C interface of the bridge's reading of MLD."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from .multicast cimport address128_t, multicast_t, snoop_t

cdef snoop_t mld_receive(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port, int64_t now) noexcept nogil
cdef address128_t address_at(const uint8_t* ip) noexcept nogil
