"""The IPv6 router: header checks, PREROUTING, the routing decision, hop limit, redirects, MTU, FORWARD, and out.

Source: net/ipv6/ip6_input.c (ip6_rcv_core, ip6_mc_input), net/ipv6/ip6_output.c (ip6_forward), net/ipv6/route.c
(ip6_pkt_drop). The order differs from IPv4's: a redirect comes before the MTU is looked at, and no bucket but ICMP's own
limits the unreachables.
"""

from libc.stdint cimport uint8_t, uint32_t

from .context cimport NO_HOP, PACKET_HOST, PACKET_OTHERHOST, ROUTE_PROHIBIT, ROUTE_UNICAST, destination_of, nexthop_t, record, writable
from .egress cimport ip_output
from .forward cimport how
from .frame cimport (
    EXT_HOP, ICMP6_TIME_EXCEEDED, ICMP6_TOO_BIG, ICMP6_UNREACH, IP6_DST, IP6_HOPS, IP6_LEN, IP6_NEXT, IP6_SRC,
)
from .header6 cimport check_header6, enter_netfilter6
from .hooks cimport forward_hook
from .icmp6 cimport icmp6_send, reject6
from .local6 cimport local_deliver6
from .ndisc cimport send_redirect6
from .options6 cimport options6_parse
from .path_mtu cimport path_mtu
from .recorder cimport STAGE_FORWARD, STAGE_ROUTE
from .route6 cimport is_link_local6, is_loopback6, is_member6, is_multicast6, is_unspecified6, route6_input
from .verdict cimport (
    PASS, R_BLACKHOLE, R_IP_INHDR, R_MARTIAN_SOURCE, R_NO_ENDPOINTS, R_NO_MULTICAST_ROUTE, R_NOMEM, R_OTHERHOST,
    R_PKT_TOO_BIG, R_TTL, R_UNHANDLED_PROTO, R_UNICAST_IN_L2_MULTICAST, drop,
)

cdef enum:
    NO_ROUTE = 0                # codes of an unreachable
    PROHIBITED = 1
    NOT_NEIGHBOUR = 2
    LEAST_MTU = 1280


cdef bint addresses_fit(const uint8_t* l3) noexcept nogil:
    """Whether a packet may have come from a link with these addresses."""
    cdef const uint8_t* dst = l3 + IP6_DST
    if is_loopback6(l3 + IP6_SRC) or is_loopback6(dst) or is_multicast6(l3 + IP6_SRC):
        return False
    return not is_multicast6(dst) or dst[1] & 15 > 1    # reserved and interface-local scope


cdef int ip6_forward(node_t* node, packet_t* p) noexcept nogil:
    cdef uint8_t* l3 = p.frame + p.l3
    cdef nexthop_t* hop = &node.hops[p.hop]
    cdef uint32_t mtu = max(node.interface[hop.dev].mtu, <uint32_t>LEAST_MTU), next_hop
    cdef int end
    if p.type != PACKET_HOST:
        return drop(R_UNICAST_IN_L2_MULTICAST)
    if l3[IP6_HOPS] <= 1:
        icmp6_send(node, p, ICMP6_TIME_EXCEEDED, 0, 0)
        return drop(R_TTL)
    next_hop = hop.gateway if hop.gateway else destination_of(node, p)
    if hop.dev == p.iif:
        send_redirect6(node, p, hop.dev, next_hop)
    elif is_unspecified6(l3 + IP6_SRC):
        return drop(R_MARTIAN_SOURCE)
    elif is_link_local6(l3 + IP6_SRC):
        icmp6_send(node, p, ICMP6_UNREACH, NOT_NEIGHBOUR, 0)
        return drop(R_MARTIAN_SOURCE)
    if p.length - p.l3 > mtu and (p.origin == NULL or (p.origin.max_size > mtu and not p.hooked)):   # ip6_pkt_too_big
        icmp6_send(node, p, ICMP6_TOO_BIG, 0, mtu)
        return drop(R_PKT_TOO_BIG)
    if not writable(node, p):
        return drop(R_NOMEM)
    p.frame[p.l3 + IP6_HOPS] -= 1
    end = forward_hook(node, p)
    record(node, p, STAGE_FORWARD, hop.dev, end)
    if end != PASS:
        if end == drop(R_NO_ENDPOINTS):
            reject6(node, p, False)
        return end
    end = ip_output(node, p, hop.dev, next_hop)
    if end == drop(R_PKT_TOO_BIG) and not p.missing and not (p.origin != NULL and p.hooked):     # ip6_fragment
        mtu = path_mtu(node.path_mtus, p.hop, destination_of(node, p), node.interface[hop.dev].mtu, node.now)
        icmp6_send(node, p, ICMP6_TOO_BIG, 0, mtu)
    return how(node, p) if end == PASS else end


cdef int ip6_receive(node_t* node, packet_t* p) noexcept nogil:
    """ipv6_rcv and what follows; a packet that the bridge passed up has been through PREROUTING already."""
    cdef int end
    if p.type == PACKET_OTHERHOST:
        return drop(R_OTHERHOST)
    if node.fib6 == NULL or node.interface[p.dev].n_addresses6 == 0:
        return drop(R_UNHANDLED_PROTO)
    p.iif = p.dev
    if p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_UNICAST:     # by the bridge, so the stack takes it to come from there
        p.iif = node.hops[p.hop].dev
    if not p.hooked:
        end = check_header6(p)
        if end != PASS:
            return end
    if not addresses_fit(p.frame + p.l3):
        return drop(R_IP_INHDR)
    if p.frame[p.l3 + IP6_NEXT] == EXT_HOP and not options6_parse(node, p, IP6_LEN, True):
        return drop(R_IP_INHDR)
    if not p.hooked:
        end = enter_netfilter6(node, p)
        if end != PASS:
            return end
    if is_multicast6(p.frame + p.l3 + IP6_DST):
        p.hop = NO_HOP
        if not is_member6(node, p.dev, p.frame + p.l3 + IP6_DST):
            return drop(R_NO_MULTICAST_ROUTE)
        return local_deliver6(node, p)
    if p.hop == NO_HOP:                                 # else the bridge has asked for its new destination
        end = route6_input(node, p)
        record(node, p, STAGE_ROUTE, p.hop, end)
        if end != PASS:
            if end != drop(R_BLACKHOLE):
                icmp6_send(node, p, ICMP6_UNREACH, PROHIBITED if p.hop != NO_HOP and (
                    node.hops[p.hop].type == ROUTE_PROHIBIT) else NO_ROUTE, 0)
            return end
    if node.hops[p.hop].type != ROUTE_UNICAST:
        return local_deliver6(node, p)
    return ip6_forward(node, p)
