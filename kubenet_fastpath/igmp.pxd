"""C interface of the bridge's reading of IGMP."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from .multicast cimport multicast_t, snoop_t

cdef snoop_t igmp_receive(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port, int64_t now) noexcept nogil
