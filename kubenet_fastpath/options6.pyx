"""Options of IPv6's hop-by-hop and destination headers: padding, and what to do with unknown ones.

Source: net/ipv6/exthdrs.c (ip6_parse_tlv, ip6_tlvopt_unknown, ipv6_hop_ra, ipv6_hop_jumbo); RFC 8200, 4.2.
"""

from libc.stdint cimport uint8_t

from .frame cimport ICMP6_PARAMETER, IP6_DST
from .icmp6 cimport icmp6_send
from .route6 cimport is_multicast6

cdef enum:
    PAD1 = 0
    PADN = 1
    ROUTER_ALERT = 5
    MOST = 8                    # options of one header (max_hbh_opts_number, max_dst_opts_number)
    MOST_PADDING = 7
    UNKNOWN_OPTION = 2


cdef bint unknown(node_t* node, packet_t* p, uint32_t at) noexcept nogil:
    """The two highest bits of a type say what happens to the packet."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef int what = l3[at] >> 6
    if what == 0:
        return True
    if what == 2 or (what == 3 and not is_multicast6(l3 + IP6_DST)):
        icmp6_send(node, p, ICMP6_PARAMETER, UNKNOWN_OPTION, at)
    return False


cdef bint options6_parse(node_t* node, packet_t* p, uint32_t at, bint hop_by_hop) noexcept nogil:
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t end = at + (<uint32_t>l3[at + 1] + 1) * 8, size, padding = 0, options = 0, i
    if end > p.length - p.l3:
        return False
    at += 2
    while at < end:
        if l3[at] == PAD1:
            padding += 1
            if padding > MOST_PADDING:
                return False
            at += 1
            continue
        if end - at < 2:
            return False
        size = <uint32_t>l3[at + 1] + 2
        if size > end - at:
            return False
        if l3[at] == PADN:
            padding += size
            if padding > MOST_PADDING:
                return False
            for i in range(2, size):
                if l3[at + i] != 0:
                    return False
        else:
            options += 1
            if options > MOST:
                return False
            if hop_by_hop and l3[at] == ROUTER_ALERT:
                if size != 4:
                    return False
            elif not unknown(node, p, at):
                return False
            padding = 0
        at += size
    return True
