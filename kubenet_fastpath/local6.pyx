"""What the node itself answers of IPv6: echo requests, neighbour discovery, closed ports, unknown headers.

Source: net/ipv6/ip6_input.c (ip6_protocol_deliver_rcu), icmp.c (icmpv6_rcv, icmpv6_echo_reply), udp.c (__udp6_lib_rcv),
tcp_ipv6.c (tcp_v6_send_reset), exthdrs.c (ipv6_destopt_rcv, ipv6_rthdr_rcv), reassembly.c (ipv6_frag_rcv).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from .context cimport NO_HOP, PACKET_HOST, ROUTE_LOCAL, ROUTE_UNICAST, nexthop_t, record
from .address_pool cimport POOL_NONE, pool_intern, pool_read
from .extension cimport extension_skip
from .frame cimport (
    EXT_DESTINATION, EXT_FRAGMENT, EXT_NONE, EXT_ROUTING, FRAGMENT_LEN, ICMP6_ECHO, ICMP6_ECHOREPLY, ICMP6_PARAMETER, ICMP6_REDIRECT,
    ICMP6_SOLICIT_ROUTER, ICMP6_TOO_BIG, ICMP6_UNREACH, ICMP_CHECK, ICMP_LEN, ICMP_REST, ICMP_TYPE, IP6_DST, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, IP6_SRC, PROTO_ICMP6,
    PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, TCP_CHECK, TCP_LEN, UDP_CHECK, UDP_LEN, UDP_LENGTH, csum_addresses, csum_fold,
    csum_partial, load16, load32, store16,
)
from .header6 cimport lacks_headers
from .hooks cimport input_hook
from .icmp6 cimport icmp6_send, local_packet6, reject6, send6
from .local cimport wants_reset, write_reset
from .neighbour cimport NO_NEIGHBOUR, neigh_find
from .ndisc cimport ndisc_receive
from .options6 cimport options6_parse
from .path_mtu cimport path_told6
from .recorder cimport STAGE_INPUT
from .route6 cimport is_multicast6, route6_output, select_address6
from .verdict cimport PASS, R_LOCAL_DELIVERY, R_NO_ENDPOINTS, V_LOCAL, drop, fate

cdef enum:
    PORT_UNREACH = 4
    BAD_FIELD = 0               # of a parameter problem
    UNKNOWN_HEADER = 1
    INCOMPLETE_HEADERS = 3


cdef bint intact(const packet_t* p, const uint8_t* l4, uint32_t n) noexcept nogil:
    """Whether the checksum over n bytes and the pseudo header holds."""
    return p.missing != 0 or csum_fold(csum_partial(l4, n, csum_addresses(p.frame + p.l3) + p.proto + n)) == 0


cdef void answer_echo(node_t* node, packet_t* p, const uint8_t* l4, uint32_t n, bint unicast) noexcept nogil:
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint8_t[16] speaker
    cdef uint16_t dev = p.dev
    cdef packet_t made
    cdef uint8_t* reply
    cdef uint32_t hop
    memcpy(speaker, l3 + IP6_DST, 16)
    if not unicast:
        hop = route6_output(node, dev, l3 + IP6_SRC)
        if hop == NO_HOP or node.hops[hop].dev != dev:
            return
        pool_read(node.pool, select_address6(node, dev, l3 + IP6_SRC), speaker)
    reply = local_packet6(node, &made, p, PROTO_ICMP6, speaker, l3 + IP6_SRC, n)
    if reply == NULL:
        return
    made.frame[made.l3] |= l3[0] & 15                   # traffic class, without the flow label
    made.frame[made.l3 + 1] |= l3[1] & 0xF0
    memcpy(reply, l4, n)
    made.missing = p.missing
    reply[ICMP_TYPE] = ICMP6_ECHOREPLY
    store16(reply + ICMP_CHECK, 0)
    store16(reply + ICMP_CHECK, csum_fold(csum_partial(reply, n, csum_addresses(made.frame + made.l3) + PROTO_ICMP6 + n)))
    send6(node, &made, dev)


cdef void learn_path(node_t* node, const packet_t* p, const uint8_t* quote, uint32_t n, uint32_t mtu) noexcept nogil:
    """"Packet too big", about n bytes of an ICMPv6 packet, whosever that was (icmpv6_notify, ip6_update_pmtu)."""
    cdef uint8_t proto
    cdef uint16_t fragment
    cdef uint32_t hop, dst, neighbour
    cdef const nexthop_t* next
    cdef int32_t at
    if n < IP6_LEN:
        return
    proto = quote[IP6_NEXT]
    at = extension_skip(quote, n, IP6_LEN, &proto, &fragment)
    if at < 0 or proto != PROTO_ICMP6 or n < <uint32_t>at + ICMP_LEN or is_multicast6(quote + IP6_DST):
        return
    hop = route6_output(node, p.dev, quote + IP6_DST)
    if hop == NO_HOP or node.hops[hop].type != ROUTE_UNICAST:
        return
    next = &node.hops[hop]
    dst = pool_intern(node.pool, quote + IP6_DST)
    if dst == POOL_NONE:
        return
    neighbour = neigh_find(node.neighbours6, next.dev, next.gateway if next.gateway else dst)
    if neighbour != NO_NEIGHBOUR:                       # dst_confirm_neigh
        node.neighbours6.row[neighbour].confirmed = node.now
    path_told6(node.path_mtus, hop, dst, node.interface[next.dev].mtu, mtu, node.now)


cdef void answer_icmp(node_t* node, packet_t* p, const uint8_t* l4, uint32_t n, bint unicast) noexcept nogil:
    if n < ICMP_LEN or not intact(p, l4, n):
        return
    if l4[ICMP_TYPE] == ICMP6_ECHO:
        answer_echo(node, p, l4, n, unicast)
    elif ICMP6_SOLICIT_ROUTER <= l4[ICMP_TYPE] <= ICMP6_REDIRECT and p.missing == 0:
        ndisc_receive(node, p, l4, n)
    elif l4[ICMP_TYPE] == ICMP6_TOO_BIG and p.missing == 0:
        learn_path(node, p, l4 + ICMP_LEN, n - ICMP_LEN, load32(l4 + ICMP_REST))


cdef void reset_tcp(node_t* node, packet_t* p, const uint8_t* l4, uint32_t n) noexcept nogil:
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef packet_t made
    cdef uint8_t* rst
    if not wants_reset(l4, n) or not intact(p, l4, n):
        return
    rst = local_packet6(node, &made, p, PROTO_TCP, l3 + IP6_DST, l3 + IP6_SRC, TCP_LEN)
    if rst == NULL:
        return
    made.frame[made.l3] |= l3[0] & 15
    made.frame[made.l3 + 1] |= l3[1] & 0xC0             # without ECN
    write_reset(rst, l4, n)
    store16(rst + TCP_CHECK, csum_fold(csum_partial(
        rst, TCP_LEN, csum_addresses(made.frame + made.l3) + PROTO_TCP + TCP_LEN)))
    send6(node, &made, p.dev)


cdef void refuse_udp(node_t* node, packet_t* p, const uint8_t* l4, uint32_t n) noexcept nogil:
    cdef uint32_t length
    if n < UDP_LEN:
        return
    length = load16(l4 + UDP_LENGTH)
    if length == 0:
        length = n
    if length > n or length < UDP_LEN or load16(l4 + UDP_CHECK) == 0 or not intact(p, l4, length):
        return
    icmp6_send(node, p, ICMP6_UNREACH, PORT_UNREACH, 0)


cdef inline bint is_whole(const uint8_t* l3, uint32_t total, uint32_t at) noexcept nogil:
    """Whether a fragment header says that nothing comes before or behind (RFC 6946: an atomic fragment)."""
    return at + FRAGMENT_LEN <= total and load16(l3 + IP6_PAYLOAD) != 0 and not load16(l3 + at + 2) & 0xFFF9


cdef void refuse_fragment(node_t* node, packet_t* p, uint32_t at, bint second) noexcept nogil:
    """A fragment that conntrack did not gather, for what is wrong with it (ipv6_frag_rcv); or it is the second header."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t total = p.length - p.l3
    if second or load16(l3 + IP6_PAYLOAD) == 0 or at + FRAGMENT_LEN > total:
        icmp6_send(node, p, ICMP6_PARAMETER, BAD_FIELD, at)
    elif lacks_headers(l3, total, at):
        icmp6_send(node, p, ICMP6_PARAMETER, INCOMPLETE_HEADERS, 0)
    elif l3[at + 3] & 1 and (total - at) & 7:           # more follow, but it ends in the middle of 8 bytes
        icmp6_send(node, p, ICMP6_PARAMETER, BAD_FIELD, IP6_PAYLOAD)


cdef void deliver(node_t* node, packet_t* p, bint unicast) noexcept nogil:
    """Walk the headers to whoever is there."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t total = p.length - p.l3, at = IP6_LEN, next = IP6_NEXT
    cdef uint8_t proto = l3[IP6_NEXT]
    cdef bint gathered = p.origin != NULL and not p.hooked          # IP6SKB_FRAGMENTED
    if proto == 0:                                      # hop-by-hop options have been read
        next, at, proto = at, at + (<uint32_t>l3[at + 1] + 1) * 8, l3[at]
    while proto == EXT_DESTINATION or proto == EXT_ROUTING or (
            proto == EXT_FRAGMENT and not gathered and is_whole(l3, total, at)):
        if proto == EXT_FRAGMENT:                       # conntrack has left it for what is cut off behind
            gathered, next, at, proto = True, at, at + FRAGMENT_LEN, l3[at]
            continue
        if at + 8 > total or at + (<uint32_t>l3[at + 1] + 1) * 8 > total:
            return
        if proto == EXT_DESTINATION:
            if not options6_parse(node, p, at, False):
                return
        elif l3[at + 3] != 0:                           # segments left: nothing here routes by source
            icmp6_send(node, p, ICMP6_PARAMETER, BAD_FIELD, at + 2)
            return
        next, at, proto = at, at + (<uint32_t>l3[at + 1] + 1) * 8, l3[at]
    p.proto = proto
    if proto == PROTO_ICMP6:
        answer_icmp(node, p, l3 + at, total - at, unicast)
    elif proto == PROTO_TCP:
        if unicast and p.type == PACKET_HOST:           # tcp_v6_rcv
            reset_tcp(node, p, l3 + at, total - at)
    elif proto == PROTO_UDP or proto == PROTO_UDPLITE:
        if not is_multicast6(l3 + IP6_DST):
            refuse_udp(node, p, l3 + at, total - at)
    elif proto == EXT_FRAGMENT:
        refuse_fragment(node, p, at, gathered)
    elif proto != EXT_NONE:
        icmp6_send(node, p, ICMP6_PARAMETER, UNKNOWN_HEADER, next)


cdef int local_deliver6(node_t* node, packet_t* p) noexcept nogil:
    """INPUT, then whoever is there (ip6_input)."""
    cdef bint unicast = p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_LOCAL
    cdef int end = input_hook(node, p)
    record(node, p, STAGE_INPUT, 0, end)
    if end != PASS:
        if end == drop(R_NO_ENDPOINTS):
            reject6(node, p, False)
        return end
    deliver(node, p, unicast)
    return fate(V_LOCAL, R_LOCAL_DELIVERY)
