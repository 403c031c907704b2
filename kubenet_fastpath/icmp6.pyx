"""ICMPv6 errors: when, from which address, how much of the packet is quoted, and how many a second.

Source: net/ipv6/icmp.c (icmp6_send, is_ineligible, icmpv6_xrlim_allow), net/ipv6/netfilter/nf_reject_ipv6.c; RFC 4443.
The peers' buckets are those of `icmp`, and so is the limit for all.
"""

from libc.string cimport memcpy, memset

from .address_pool cimport pool_intern, pool_read
from .conntrack cimport CT_ESTABLISHED_REPLY, CT_INVALID, CT_RELATED, CT_RELATED_REPLY, NO_CONN
from .context cimport (
    NO_HOP, PACKET_HOST, PACKET_OTHERHOST, ROUTE_ANYCAST, ROUTE_LOCAL, destination_of,
    nexthop_t, record, scratch,
)
from .egress cimport ip_output
from .frame cimport (
    ETH_IP6, ETH_LEN, EXT_FRAGMENT, ICMP6_ECHOREPLY, ICMP6_PARAMETER, ICMP6_TOO_BIG, ICMP6_UNREACH, ICMP_CHECK,
    ICMP_CODE, ICMP_LEN, ICMP_REST, ICMP_TYPE, IP6_DST, IP6_HOPS, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, IP6_SRC, PROTO_ICMP6,
    PROTO_TCP, PROTO_UDP, csum_addresses, csum_fold, csum_partial, store16, store32,
)
from .hooks cimport output_hook
from .icmp cimport find_peer, spend_global, spend_token
from .recorder cimport STAGE_OUTPUT
from .route6 cimport (
    is_loopback6, is_multicast6, is_unspecified6, owns6, route6_output, select_address6,
)
from .verdict cimport PASS, R_IP_INNOROUTES, R_LOCAL_DELIVERY, V_LOCAL, drop, fate

cdef enum:
    HOP_LIMIT = 64              # net.ipv6.conf.*.hop_limit
    PORT_UNREACH = 4
    UNKNOWN_OPTION = 2
    QUOTE = 1280 - IP6_LEN - ICMP_LEN


cdef bint allowed6(node_t* node, const uint8_t* dst, uint8_t type) noexcept nogil:
    """The rate limits; "packet too big" alone is free of both (net.ipv6.icmp.ratemask). """
    if type == ICMP6_TOO_BIG or type == ICMP6_ECHOREPLY:
        return True
    if not spend_global(node):
        return False
    # without a limit of its own it still empties the bucket that redirects share
    if not spend_token(node, find_peer(node, &node.icmp6, pool_intern(node.pool, dst)), node.icmp6.interval):
        return False
    node.icmp.credit -= 1
    return True


cdef uint8_t* local_packet6(node_t* node, packet_t* made, const packet_t* cause, uint8_t proto, const uint8_t* src,
                            const uint8_t* dst, uint32_t payload) noexcept nogil:
    """Begin a packet of the node's own, `payload` bytes to fill in; their place, NULL without memory."""
    cdef uint8_t* l3
    memset(made, 0, sizeof(packet_t))
    made.length = ETH_LEN + IP6_LEN + payload
    made.frame = scratch(node, made.length)
    if made.frame == NULL:
        return NULL
    made.l3, made.conn, made.hop, made.info = ETH_LEN, NO_CONN, NO_HOP, CT_INVALID
    made.now, made.source, made.ethertype, made.ours = node.now, cause.source, ETH_IP6, True
    made.l4, made.proto, made.port = IP6_LEN, proto, cause.port
    l3 = made.frame + ETH_LEN
    memset(made.frame, 0, ETH_LEN + IP6_LEN)
    l3[0], l3[IP6_NEXT], l3[IP6_HOPS] = 0x60, proto, HOP_LIMIT
    store16(l3 + IP6_PAYLOAD, <uint16_t>payload)
    memcpy(l3 + IP6_SRC, src, 16)
    memcpy(l3 + IP6_DST, dst, 16)
    node.generated += 1
    return l3 + IP6_LEN


cdef int local_out6(node_t* node, packet_t* p, uint16_t dev) noexcept nogil:
    """Run OUTPUT, route, send (ip6_local_out). `dev` is whose link a link-local destination is on."""
    cdef uint32_t dst = destination_of(node, p)
    cdef nexthop_t* hop
    cdef int end
    p.hop = route6_output(node, dev, p.frame + p.l3 + IP6_DST)
    record(node, p, STAGE_OUTPUT, p.hop, PASS)
    if p.hop == NO_HOP or node.hops[p.hop].type > ROUTE_LOCAL:
        return drop(R_IP_INNOROUTES)
    end = output_hook(node, p)
    if end != PASS:
        return end
    if destination_of(node, p) != dst:                  # ip6_route_me_harder
        dst = destination_of(node, p)
        p.hop = route6_output(node, dev, p.frame + p.l3 + IP6_DST)
        if p.hop == NO_HOP or node.hops[p.hop].type > ROUTE_LOCAL:
            return drop(R_IP_INNOROUTES)
    hop = &node.hops[p.hop]
    if hop.type == ROUTE_LOCAL:
        return fate(V_LOCAL, R_LOCAL_DELIVERY)
    return ip_output(node, p, hop.dev, hop.gateway if hop.gateway else dst)


cdef void send6(node_t* node, packet_t* made, uint16_t dev) noexcept nogil:
    cdef int end = local_out6(node, made, dev)
    if end != PASS and end >> 8 == 0:
        node.generated_drops += 1


cdef bint about_error(const packet_t* p) noexcept nogil:
    """Whether the packet is an ICMPv6 error itself, or too short to tell (is_ineligible)."""
    if p.l4 == 0 or p.proto != PROTO_ICMP6:
        return False
    return p.length < p.l3 + p.l4 + 1 or not p.frame[p.l3 + p.l4] & 0x80


cdef void tell(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest, bint bridged) noexcept nogil:
    """Send an error about `p`. To the stack a bridged packet has come from no interface (IP6CB is blank)."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef const uint8_t* to = l3 + IP6_SRC
    cdef uint8_t[16] speaker
    cdef uint8_t* icmp
    cdef uint16_t dev = p.iif
    cdef uint32_t hop, quote
    cdef bint mine = (owns6(node, l3 + IP6_DST) and not is_loopback6(l3 + IP6_DST)) or (p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_ANYCAST)
    cdef packet_t made
    if p.type != PACKET_HOST or is_multicast6(l3 + IP6_DST):
        if type != ICMP6_TOO_BIG and not (type == ICMP6_PARAMETER and code == UNKNOWN_OPTION and (
                p.length - p.l3 <= rest or l3[rest] & 0xC0 == 0x80)):
            return
        mine = False
    if is_unspecified6(to) or is_multicast6(to) or about_error(p):
        return
    hop = route6_output(node, dev, to)
    if hop == NO_HOP or node.hops[hop].type > ROUTE_LOCAL:
        return
    if node.hops[hop].type != ROUTE_LOCAL and not allowed6(node, to, type):
        return
    if mine:
        memcpy(speaker, l3 + IP6_DST, 16)
    elif node.hops[hop].source:
        pool_read(node.pool, node.hops[hop].source, speaker)
    else:
        pool_read(node.pool, select_address6(node, node.hops[hop].dev if bridged else dev, to), speaker)
    if is_unspecified6(speaker):
        return
    quote = min(p.length - p.l3, <uint32_t>QUOTE)
    icmp = local_packet6(node, &made, p, PROTO_ICMP6, speaker, to, ICMP_LEN + quote)
    if icmp == NULL:
        return
    icmp[ICMP_TYPE], icmp[ICMP_CODE] = type, code
    store16(icmp + ICMP_CHECK, 0)
    store32(icmp + ICMP_REST, rest)
    memcpy(icmp + ICMP_LEN, l3, quote)
    store16(icmp + ICMP_CHECK, csum_fold(csum_partial(
        icmp, ICMP_LEN + quote, csum_addresses(made.frame + made.l3) + PROTO_ICMP6 + ICMP_LEN + quote)))
    made.conn = p.conn                                  # nf_ct_attach: about it, the other way
    made.info = CT_RELATED if p.info >= CT_ESTABLISHED_REPLY else CT_RELATED_REPLY
    if p.conn == NO_CONN:
        made.info = CT_INVALID
    send6(node, &made, dev)


cdef void icmp6_send(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil:
    """Tell the sender of `p` what became of it, unless the rules forbid it."""
    tell(node, p, type, code, rest, False)


cdef void icmp6_send_bridged(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil:
    """The same of a packet that the bridge alone has seen so far."""
    tell(node, p, type, code, rest, True)


cdef void reject6(node_t* node, packet_t* p, bint bridged) noexcept nogil:
    """REJECT --reject-with icmp6-port-unreachable (nf_send_unreach6)."""
    cdef uint8_t type = p.type
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t n = p.length - p.l3 - p.l4
    if p.l4 == 0 or p.proto == EXT_FRAGMENT or p.l3 + p.l4 >= p.length:
        return
    if p.missing == 0 and (p.proto == PROTO_TCP or p.proto == PROTO_UDP) and csum_fold(csum_partial(
            l3 + p.l4, n, csum_addresses(l3) + p.proto + n)) != 0:
        return
    if p.type == PACKET_OTHERHOST:
        p.type = PACKET_HOST
    tell(node, p, ICMP6_UNREACH, PORT_UNREACH, 0, bridged)
    p.type = type
