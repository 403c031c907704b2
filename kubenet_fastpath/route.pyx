"""Where a packet goes, and whether its source may have come this way.

Source: net/ipv4/route.c (ip_route_input_slow, __mkroute_input), net/ipv4/fib_frontend.c (fib_validate_source),
net/ipv4/devinet.c (inet_select_addr). The local table and the main table are one FIB here: the plan has left out of
it what the local table hides.
"""

from libc.stdint cimport uint16_t, uint32_t

from .context cimport (
    NO_HOP, ROUTE_BLACKHOLE, ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_PROHIBIT, ROUTE_UNICAST,
    interface_t, nexthop_t, node_t, packet_t,
)
from .fib cimport FIB_MISS, fib_lookup
from .verdict cimport (
    PASS, R_BLACKHOLE, R_IP_INNOROUTES, R_IP_RPFILTER, R_MARTIAN_DESTINATION, R_MARTIAN_SOURCE,
    R_NO_MULTICAST_ROUTE, R_PROHIBIT, drop,
)

cdef uint32_t EVERYONE = <uint32_t>0xFFFFFFFF        # 255.255.255.255

cdef enum:
    ALL_HOSTS = 0xE0000001      # 224.0.0.1: every host is a member
    LOOPBACK = 0xFFFF           # device of local routes


cdef uint32_t route_find(const node_t* node, uint32_t ip) noexcept nogil:
    """Index of the next hop for an address, or NO_HOP."""
    cdef uint32_t hop = fib_lookup(node.fib, ip)
    return NO_HOP if hop == FIB_MISS else hop


cdef int route_type(const node_t* node, uint32_t ip) noexcept nogil:
    """ROUTE_* of an address (inet_addr_type), 0 where there is no route."""
    cdef uint32_t hop = route_find(node, ip)
    return 0 if hop == NO_HOP else node.hops[hop].type


cdef bint owns(const node_t* node, uint32_t ip) noexcept nogil:
    return route_type(node, ip) == ROUTE_LOCAL


cdef uint32_t select_address(const node_t* node, uint16_t dev, uint32_t to) noexcept nogil:
    """The address to speak from: the interface's one whose subnet holds `to`, else its first, else another
    interface's first (inet_select_addr); 0 when the node has none."""
    cdef const interface_t* i = &node.interface[dev]
    cdef uint32_t k
    for k in range(i.n_addresses):
        if (i.address[k].ip ^ to) & i.address[k].mask == 0:
            return i.address[k].ip
    if i.n_addresses > 0:
        return i.address[0].ip
    for k in range(node.n_interfaces):
        if node.interface[k].n_addresses > 0:
            return node.interface[k].address[0].ip
    return 0


cdef bint on_link(const interface_t* dev, uint32_t ip) noexcept nogil:
    """Whether an address is in a subnet of the interface's."""
    cdef uint32_t k
    for k in range(dev.n_addresses):
        if (dev.address[k].ip ^ ip) & dev.address[k].mask == 0:
            return True
    return False


cdef int validate_source(const node_t* node, const packet_t* p, uint32_t src, uint16_t out) noexcept nogil:
    """1: fine and on the link of the ingress interface, 0: fine, -1: martian, -2: refused by rp_filter."""
    cdef const interface_t* dev = &node.interface[p.dev]
    cdef const nexthop_t* back
    cdef uint32_t hop
    if dev.rp_filter == 0 and (p.dev != out or not dev.send_redirects):
        return -1 if owns(node, src) else 0
    hop = route_find(node, src)
    if hop == NO_HOP or node.hops[hop].type >= ROUTE_BLACKHOLE:
        return -2 if dev.rp_filter else 0
    back = &node.hops[hop]
    if back.type != ROUTE_UNICAST:
        return -1
    if back.dev == p.dev:
        return back.gateway == 0
    if dev.n_addresses == 0:
        return -2 if dev.rp_filter else 0
    if dev.rp_filter == 1:
        return -2
    return on_link(dev, src)                            # asked once more, of this interface's routes alone


cdef int refused(int validity) noexcept nogil:
    return drop(R_MARTIAN_SOURCE) if validity == -1 else drop(R_IP_RPFILTER)


cdef int no_route(const nexthop_t* hop) noexcept nogil:
    if hop != NULL and hop.type == ROUTE_BLACKHOLE:
        return drop(R_BLACKHOLE)
    if hop != NULL and hop.type == ROUTE_PROHIBIT:
        return drop(R_PROHIBIT)
    return drop(R_IP_INNOROUTES)


cdef int route_input(node_t* node, packet_t* p, uint32_t src, uint32_t dst, bint arp) noexcept nogil:
    """Choose p.hop for a packet that came in on p.dev (ip_route_input_noref).

    PASS, or the fate of a packet that has no way. p.hop is set also for unreachable routes, so that the caller
    can send the right ICMP error; it is NO_HOP where no route matched.
    """
    cdef const interface_t* dev = &node.interface[p.dev]
    cdef nexthop_t* hop
    cdef int validity
    p.hop, p.redirect = NO_HOP, False
    if dst >> 28 == 14 and dst != ALL_HOSTS:
        return drop(R_NO_MULTICAST_ROUTE)
    if src >> 28 == 14 or src == EVERYONE:
        return drop(R_MARTIAN_SOURCE)
    if dst == ALL_HOSTS:                                # ip_mc_validate_source
        if src >> 24 == 127 and not dev.route_localnet:
            return drop(R_MARTIAN_SOURCE)
        validity = 0 if src == 0 else validate_source(node, p, src, LOOPBACK)
        return PASS if validity >= 0 else refused(validity)
    if dst == EVERYONE or (src == 0 and dst == 0):
        p.hop = route_find(node, EVERYONE)
        if arp:
            return drop(R_MARTIAN_DESTINATION)
        if src != 0 and validate_source(node, p, src, LOOPBACK) < 0:
            return drop(R_MARTIAN_SOURCE)
        return PASS
    if src == 0:                                        # of 0.0.0.0/8 this address alone, since Linux 5.3
        return drop(R_MARTIAN_SOURCE)
    if dst == 0:
        return drop(R_MARTIAN_DESTINATION)
    if not dev.route_localnet:
        if dst >> 24 == 127:
            return drop(R_MARTIAN_DESTINATION)
        if src >> 24 == 127:
            return drop(R_MARTIAN_SOURCE)
    p.hop = route_find(node, dst)
    if p.hop == NO_HOP:
        return no_route(NULL)
    hop = &node.hops[p.hop]
    if hop.type >= ROUTE_BLACKHOLE:
        return no_route(hop)
    if hop.type != ROUTE_UNICAST:
        if arp and hop.type == ROUTE_BROADCAST:
            return drop(R_MARTIAN_DESTINATION)
        validity = validate_source(node, p, src, LOOPBACK)
        return PASS if validity >= 0 else refused(validity)
    validity = validate_source(node, p, src, hop.dev)
    if validity < 0:
        return refused(validity)
    if hop.dev == p.dev:
        if arp:
            return drop(R_MARTIAN_DESTINATION)
        p.redirect = validity and dev.send_redirects
    return PASS
