"""The router: header checks, PREROUTING, the routing decision, TTL, MTU, redirects, FORWARD, and out.

Source: net/ipv4/ip_input.c (ip_rcv_core), net/ipv4/ip_forward.c (ip_forward), net/ipv4/route.c (ip_error);
RFC 1812 section 5.3. The order is observable: an expired TTL and an oversized packet are answered before any filter
rule, quoting the packet as it came in.
"""

from libc.stdint cimport uint8_t, uint32_t

from .conntrack cimport CT_ESTABLISHED_REPLY, IPS_NAT_MASK, IPS_SRC_NAT, NO_CONN, conn_t, ct_conn
from .context cimport (
    NO_HOP, PACKET_HOST, PACKET_OTHERHOST, ROUTE_UNICAST, nexthop_t, node_t, packet_t, record, scratch,
    writable,
)
from .defrag cimport defrag_add
from .egress cimport ip_output
from .frame cimport (
    ICMP_PARAMETER, ICMP_TIME_EXCEEDED, ICMP_UNREACH, IP_CHECK, IP_DF, IP_DST, IP_FRAG, IP_LEN, IP_MF, IP_OFFSET, IP_SRC, IP_TOTAL,
    IP_TTL, csum, csum_ttl, load16, load32, store16,
)
from .hooks cimport forward_hook, prerouting
from .icmp cimport icmp_send, reject, send_redirect, spend_unreachable
from .local cimport local_deliver
from .options cimport OPTIONS_OK, OPTIONS_SOURCE_ROUTE, options_compile, options_forward
from .recorder cimport STAGE_FORWARD, STAGE_REASSEMBLY, STAGE_ROUTE
from .path_mtu cimport path_mtu_forward
from .reassembly cimport FATE_HELD, FATE_WHOLE, datagram_t
from .route cimport route_input
from .verdict cimport (
    PASS, R_FRAG_REASM, R_FRAGMENT, R_IP_CSUM, R_IP_INHDR, R_IP_INNOROUTES, R_MASQUERADE, R_NAT_REPLY, R_NO_ENDPOINTS,
    R_BLACKHOLE, R_NOMEM, R_OTHERHOST, R_PKT_TOO_BIG, R_PROHIBIT, R_ROUTE, R_SERVICE, R_SOURCE_ROUTE, R_TRUNCATED, R_TTL, R_UNICAST_IN_L2_MULTICAST, V_HELD,
    V_ROUTED, drop, fate,
)

cdef enum:
    NET_UNREACH = 0
    HOST_UNREACH = 1
    FRAG_NEEDED = 4
    PKT_FILTERED = 13


cdef int check_header(packet_t* p) noexcept nogil:
    """Check the IPv4 header and cut off what lies behind the packet (ip_rcv_core, br_validate_ipv4)."""
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint32_t n = p.length - p.l3, header, total
    if p.plain:
        p.length = p.l3 + load16(l3 + IP_TOTAL)
        return PASS
    if n < IP_LEN or l3[0] >> 4 != 4:
        return drop(R_IP_INHDR)
    header = (l3[0] & 15) * 4
    if header < IP_LEN or n < header:
        return drop(R_IP_INHDR)
    if n - header < p.missing:
        return drop(R_TRUNCATED)
    if csum(l3, header) != 0:
        return drop(R_IP_CSUM)
    total = load16(l3 + IP_TOTAL)
    if total > n or total < header:
        return drop(R_IP_INHDR)
    p.missing = 0 if p.missing <= n - total else p.missing - (n - total)
    p.length = p.l3 + total
    return PASS


cdef int gather(node_t* node, packet_t* p) noexcept nogil:
    """Hold a fragment until its datagram is whole, then go on with that (nf_ct_ipv4_gather_frags)."""
    cdef datagram_t* datagram
    cdef int outcome
    if p.missing:
        return drop(R_TRUNCATED)
    datagram = <datagram_t*>scratch(node, sizeof(datagram_t))
    if datagram == NULL:
        return drop(R_NOMEM)
    outcome = defrag_add(node.defrag, p.frame, p.l3, p.length, p.port != p.dev, p.port, p.now, datagram)
    if outcome == FATE_HELD:
        return fate(V_HELD, R_FRAGMENT)
    if outcome != FATE_WHOLE:
        return drop(R_FRAG_REASM)
    p.frame, p.length, p.l3, p.shared = datagram.frame, datagram.end, datagram.l3, False
    p.origin = &datagram.geometry
    return PASS


cdef int enter_netfilter(node_t* node, packet_t* p) noexcept nogil:
    """PREROUTING from the top: defragmentation, conntrack, destination NAT."""
    cdef int end
    if load16(p.frame + p.l3 + IP_FRAG) & (IP_MF | IP_OFFSET):
        end = gather(node, p)
        record(node, p, STAGE_REASSEMBLY, 0, end)
        if end != PASS:
            return end
    return prerouting(node, p)


cdef int unreachable(node_t* node, packet_t* p, int end) noexcept nogil:
    """Tell why there is no route (ip_error): at most one token a second, five saved."""
    cdef uint8_t code
    if end == drop(R_PROHIBIT):
        code = PKT_FILTERED
    elif end != drop(R_IP_INNOROUTES):
        return end
    else:
        code = NET_UNREACH if p.hop == NO_HOP or node.hops[p.hop].type == 9 else HOST_UNREACH
    if spend_unreachable(node, load32(p.frame + p.l3 + IP_SRC)):
        icmp_send(node, p, ICMP_UNREACH, code, 0)
    return end


cdef int how(node_t* node, const packet_t* p) noexcept nogil:
    """The fate of a routed packet, by what NAT did to it."""
    cdef conn_t* conn
    if p.conn != NO_CONN:
        conn = ct_conn(node.conntrack, p.conn)
        if conn.status & IPS_NAT_MASK:
            if p.info >= CT_ESTABLISHED_REPLY:
                return fate(V_ROUTED, R_NAT_REPLY)
            if conn.status & IPS_SRC_NAT:
                return fate(V_ROUTED, R_MASQUERADE)
            return fate(V_ROUTED, R_SERVICE)
    return fate(V_ROUTED, R_ROUTE)


cdef int ip_forward(node_t* node, packet_t* p) noexcept nogil:
    cdef uint8_t* l3 = p.frame + p.l3
    cdef nexthop_t* hop = &node.hops[p.hop]
    cdef uint32_t link = node.interface[hop.dev].mtu, next_hop
    cdef uint32_t mtu = path_mtu_forward(node.path_mtus, p.hop, load32(l3 + IP_DST), link, node.now)
    cdef int end
    if p.type != PACKET_HOST:
        return drop(R_UNICAST_IN_L2_MULTICAST)
    if l3[IP_TTL] <= 1:
        icmp_send(node, p, ICMP_TIME_EXCEEDED, 0, 0)
        return drop(R_TTL)
    if mtu != link:
        node.unsettled = True           # for so long as that holds
    if p.length - p.l3 > mtu and load16(l3 + IP_FRAG) & IP_DF and (
            p.origin == NULL or (p.origin.max_size > mtu and not p.hooked)):
        icmp_send(node, p, ICMP_UNREACH, FRAG_NEEDED, mtu)
        return drop(R_PKT_TOO_BIG)
    if not writable(node, p):
        return drop(R_NOMEM)
    l3 = p.frame + p.l3
    l3[IP_TTL] -= 1
    store16(l3 + IP_CHECK, csum_ttl(load16(l3 + IP_CHECK)))
    next_hop = hop.gateway if hop.gateway else load32(l3 + IP_DST)
    if p.redirect:
        node.unsettled = True           # how often it is said depends on what was said before
        send_redirect(node, p, next_hop)
    end = forward_hook(node, p)
    record(node, p, STAGE_FORWARD, hop.dev, end)
    if end != PASS:
        if end == drop(R_NO_ENDPOINTS):
            reject(node, p)
        return end
    if p.option_flags:
        options_forward(node, p)
    end = ip_output(node, p, hop.dev, next_hop)
    return how(node, p) if end == PASS else end


cdef int read_options(node_t* node, packet_t* p) noexcept nogil:
    """ip_rcv_options: PASS, or why the packet is dropped."""
    cdef uint32_t wrong
    if not writable(node, p):
        return drop(R_NOMEM)
    wrong = options_compile(node, p)
    if wrong == OPTIONS_OK:
        return PASS
    if wrong == OPTIONS_SOURCE_ROUTE:
        return drop(R_SOURCE_ROUTE)
    icmp_send(node, p, ICMP_PARAMETER, 0, wrong << 24)
    return drop(R_IP_INHDR)


cdef int ip_receive(node_t* node, packet_t* p) noexcept nogil:
    """ip_rcv and what follows; a packet that the bridge passed up has been through PREROUTING already."""
    cdef uint8_t* l3
    cdef int end, options
    if p.type == PACKET_OTHERHOST:
        return drop(R_OTHERHOST)
    if not p.hooked:
        end = check_header(p)
        if end == PASS:
            end = enter_netfilter(node, p)
        if end != PASS:
            return end
    end = PASS
    l3 = p.frame + p.l3
    if p.hop == NO_HOP:                                 # else the bridge has asked for its new destination
        end = route_input(node, p, load32(l3 + IP_SRC), load32(l3 + IP_DST), False)
        record(node, p, STAGE_ROUTE, p.hop, end)
    if l3[0] != 0x45 and (end == PASS or end == drop(R_IP_INNOROUTES) or end == drop(R_PROHIBIT)
                          or end == drop(R_BLACKHOLE)):
        options = read_options(node, p)
        if options != PASS:
            return options
    if end != PASS:
        return unreachable(node, p, end)
    if p.hop == NO_HOP or node.hops[p.hop].type != ROUTE_UNICAST:
        return local_deliver(node, p)
    return ip_forward(node, p)
