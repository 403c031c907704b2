"""IPv6 headers: what a bridge's hooks and the stack both check, and where the transport's header is.

Source: net/ipv6/ip6_input.c (ip6_rcv_core), net/bridge/br_netfilter_ipv6.c (br_validate_ipv6), net/netfilter/utils.c
(nf_ip6_check_hbh_len); RFC 8200.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from .extension cimport extension_skip
from .frame cimport EXT_HOP, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, load16
from .hooks cimport prerouting
from .recorder cimport STAGE_REASSEMBLY
from .verdict cimport PASS, R_IP_INHDR, R_TRUNCATED, drop

cdef enum:
    PAD1 = 0
    JUMBO = 0xC2


cdef bint hop_options_fit(const uint8_t* l3, uint32_t n) noexcept nogil:
    """Whether the options of a hop-by-hop header fill it exactly; none of them is a jumbo payload, which no frame holds."""
    cdef uint32_t at = IP6_LEN + 2, end, size
    if n < IP6_LEN + 2:
        return False
    end = IP6_LEN + (<uint32_t>l3[IP6_LEN + 1] + 1) * 8
    if end > n:
        return False
    while at < end:
        if l3[at] == PAD1:
            at += 1
            continue
        if end - at < 2:
            return False
        size = <uint32_t>l3[at + 1] + 2
        if size > end - at or l3[at] == JUMBO:
            return False
        at += size
    return True


cdef void find_transport(packet_t* p) noexcept nogil:
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint16_t fragment
    cdef int32_t at
    p.proto = l3[IP6_NEXT]
    at = extension_skip(l3, p.length - p.l3, IP6_LEN, &p.proto, &fragment)
    p.l4 = 0 if at < 0 else <uint16_t>at


cdef int check_header6(packet_t* p) noexcept nogil:
    """Check the header and cut off what lies behind the packet."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t n = p.length - p.l3, total
    if n < IP6_LEN or l3[0] >> 4 != 6:
        return drop(R_IP_INHDR)
    if n - IP6_LEN < p.missing:
        return drop(R_TRUNCATED)
    total = IP6_LEN + load16(l3 + IP6_PAYLOAD)
    if total > n or (l3[IP6_NEXT] == EXT_HOP and not hop_options_fit(l3, n)):
        return drop(R_IP_INHDR)
    p.missing = 0 if p.missing <= n - total else p.missing - (n - total)
    p.length = p.l3 + total
    find_transport(p)
    return PASS


cdef int enter_netfilter6(node_t* node, packet_t* p) noexcept nogil:
    """PREROUTING from the top: conntrack, destination NAT."""
    return prerouting(node, p)
