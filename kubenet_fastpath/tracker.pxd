"""C interface of connection tracking: what a packet is to the connections of a table."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .connection cimport ctinfo_t, segment_t
from .flowtable cimport ct_t
from .frame cimport ICMP_PARAMETER, ICMP_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_UNREACH

# nf_conntrack_in. CT_INVALID and CT_DROP come with NO_CONN; with CT_NEW the connection is unconfirmed, unless
# it is known and unanswered. After a reset that ends it, the connection is IPS_DYING, and still translates.
cdef ctinfo_t ct_track(ct_t* t, segment_t* seg, int64_t now, uint32_t* conn) noexcept nogil

# The same for a packet that is no ICMP error or unknown ICMP type, its tuple whole (tuple_ports) and hashed.
cdef ctinfo_t ct_track_hashed(ct_t* t, const segment_t* seg, uint64_t hash, int64_t now,
                              uint32_t* conn) noexcept nogil


cdef inline bint is_icmp_error(uint8_t kind) noexcept nogil:
    return (kind == ICMP_UNREACH or kind == ICMP_QUENCH or kind == ICMP_REDIRECT
            or kind == ICMP_TIME_EXCEEDED or kind == ICMP_PARAMETER)
