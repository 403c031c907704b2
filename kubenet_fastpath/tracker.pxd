"""C interface of connection tracking: what a packet is to the connections of a table."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .connection cimport (
    IPS_ASSURED, IPS_CONFIRMED, IPS_FIXED_TIMEOUT, IPS_NAT_CLASH, IPS_SEEN_REPLY, conn_t, ctinfo_t, segment_t,
)
from .flowtable cimport EXPIRY_UDP, EXPIRY_UDP_STREAM, ct_t
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


cdef inline int64_t udp_timeout(const ct_t* t, conn_t* c, int64_t now) noexcept nogil:
    """How long a UDP flow lives behind a packet (nf_conntrack_udp_packet); a stream is assured."""
    if not c.status & IPS_SEEN_REPLY or now <= c.stream_after:
        return t.timeout[EXPIRY_UDP]
    if not c.status & (IPS_NAT_CLASH | IPS_ASSURED):     # what is not written can be read by several threads
        c.status |= IPS_ASSURED
    return t.timeout[EXPIRY_UDP_STREAM]


cdef inline void ct_account(conn_t* c, int direction, uint32_t ip_len) noexcept nogil:
    c.packets[direction] += 1
    c.bytes[direction] += ip_len


cdef inline void ct_refresh(conn_t* c, int direction, uint32_t ip_len, int64_t now, int64_t timeout) noexcept nogil:
    """Count a packet, and let the timeout start anew (nf_ct_refresh_acct)."""
    ct_account(c, direction, ip_len)
    if not c.status & IPS_FIXED_TIMEOUT:
        c.expires = timeout + now if c.status & IPS_CONFIRMED else timeout
