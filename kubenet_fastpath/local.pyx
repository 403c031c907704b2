"""What the node itself answers: echo and timestamp requests, closed ports, unknown protocols.

Nothing listens on the node but its kernel. Source: net/ipv4/ip_input.c (ip_local_deliver_finish), icmp.c (icmp_rcv,
icmp_echo, icmp_timestamp), udp.c (__udp4_lib_rcv), tcp_ipv4.c (tcp_v4_send_reset); RFC 9293 section 3.5.2.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from .context cimport NO_HOP, PACKET_HOST, ROUTE_LOCAL, ROUTE_UNICAST, nexthop_t, node_t, packet_t, record
from .frame cimport (
    ICMP_CHECK, ICMP_CODE, ICMP_ECHO, ICMP_ECHOREPLY, ICMP_LEN, ICMP_REST, ICMP_TIMESTAMP, ICMP_TIMESTAMPREPLY, ICMP_TYPE, ICMP_UNREACH,
    IP_DF, IP_DST, IP_FRAG, IP_ID, IP_LEN, IP_PROTO, IP_SRC, IP_TOS, IP_TOTAL, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_IGMP,
    PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_ACKFLAG, TCP_CHECK, TCP_FIN, TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_RST,
    TCP_SEQ, TCP_SYN, UDP_CHECK, UDP_LEN, UDP_LENGTH, csum, csum_fold, csum_partial, csum_pseudo, load16, load32,
    store16, store32,
)
from .hooks cimport input_hook
from .icmp cimport icmp_send, local_out, local_packet, reject
from .path_mtu cimport path_told
from .recorder cimport STAGE_INPUT
from .route cimport owns, route_find
from .verdict cimport PASS, R_LOCAL_DELIVERY, R_NO_ENDPOINTS, V_LOCAL, drop, fate

cdef enum:
    PORT_UNREACH = 3
    FRAG_NEEDED = 4
    PROT_UNREACH = 2
    DAY_MS = 86_400_000


cdef void send(node_t* node, packet_t* made) noexcept nogil:
    cdef int end = local_out(node, made)
    if end != PASS and end >> 8 == 0:
        node.generated_drops += 1


cdef void learn_path(node_t* node, const uint8_t* quote, uint32_t n, uint32_t mtu) noexcept nogil:
    """"Fragmentation needed", about n bytes of a packet (icmp_unreach, ipv4_update_pmtu).

    Of all that the node says only answers to echo requests count (icmp_err): for the rest a socket would have to be there.
    """
    cdef uint32_t header, dst, hop
    cdef const nexthop_t* next
    if n < IP_LEN:
        return
    header = (quote[0] & 15) * 4
    if header < IP_LEN or n < header + ICMP_LEN or quote[IP_PROTO] != PROTO_ICMP or quote[header] != ICMP_ECHOREPLY:
        return
    dst = load32(quote + IP_DST)
    if not owns(node, load32(quote + IP_SRC)) or dst == 0 or dst >> 28 == 14:
        return
    hop = route_find(node, dst)
    if hop == NO_HOP or node.hops[hop].type != ROUTE_UNICAST:
        return
    next = &node.hops[hop]
    if quote[IP_SRC] == 127 and not node.interface[next.dev].route_localnet:
        return
    node.changes += path_told(node.path_mtus, hop, dst, node.interface[next.dev].mtu, mtu, node.now)


cdef void answer_icmp(node_t* node, packet_t* p, const uint8_t* l3, const uint8_t* l4, uint32_t n,
                      bint unicast) noexcept nogil:
    cdef packet_t made
    cdef uint8_t* reply
    cdef uint32_t ms
    if n < ICMP_LEN or not unicast or (p.missing == 0 and csum(l4, n) != 0):
        return
    if l4[ICMP_TYPE] == ICMP_ECHO:
        reply = local_packet(node, &made, p, PROTO_ICMP, load32(l3 + IP_DST), load32(l3 + IP_SRC), l3[IP_TOS], n)
        if reply == NULL:
            return
        memcpy(reply, l4, n)
        reply[ICMP_TYPE] = ICMP_ECHOREPLY
    elif l4[ICMP_TYPE] == ICMP_TIMESTAMP and n >= ICMP_LEN + 4:
        reply = local_packet(node, &made, p, PROTO_ICMP, load32(l3 + IP_DST), load32(l3 + IP_SRC), l3[IP_TOS],
                             ICMP_LEN + 12)
        if reply == NULL:
            return
        memcpy(reply, l4, ICMP_LEN + 4)
        ms = <uint32_t>(node.now // 1_000_000 % DAY_MS)
        store32(reply + ICMP_LEN + 4, ms)
        store32(reply + ICMP_LEN + 8, ms)
        reply[ICMP_TYPE] = ICMP_TIMESTAMPREPLY
        n = ICMP_LEN + 12
    else:
        if l4[ICMP_TYPE] == ICMP_UNREACH and l4[ICMP_CODE] == FRAG_NEEDED and p.missing == 0:
            learn_path(node, l4 + ICMP_LEN, n - ICMP_LEN, load16(l4 + ICMP_REST + 2))
        return
    made.missing = p.missing
    store16(reply + ICMP_CHECK, 0)
    store16(reply + ICMP_CHECK, csum(reply, n))
    send(node, &made)


cdef bint intact(const packet_t* p, const uint8_t* l3, const uint8_t* l4, uint32_t n) noexcept nogil:
    """Whether the TCP or UDP checksum over n bytes holds."""
    if p.missing:
        return True
    return csum_fold(csum_partial(l4, n, csum_pseudo(load32(l3 + IP_SRC), load32(l3 + IP_DST), l3[IP_PROTO], n))) == 0


cdef bint wants_reset(const uint8_t* l4, uint32_t n) noexcept nogil:
    """Whether n bytes are a segment that a closed port answers."""
    cdef uint32_t offset
    if n < TCP_LEN:
        return False
    offset = (l4[TCP_OFFSET] >> 4) * 4
    return TCP_LEN <= offset <= n and not l4[TCP_FLAGS] & TCP_RST


cdef void write_reset(uint8_t* rst, const uint8_t* l4, uint32_t n) noexcept nogil:
    cdef uint8_t flags = l4[TCP_FLAGS]
    cdef uint32_t offset = (l4[TCP_OFFSET] >> 4) * 4
    store16(rst + L4_SPORT, load16(l4 + L4_DPORT))
    store16(rst + L4_DPORT, load16(l4 + L4_SPORT))
    if flags & TCP_ACKFLAG:
        store32(rst + TCP_SEQ, load32(l4 + TCP_ACK))
        store32(rst + TCP_ACK, 0)
        rst[TCP_FLAGS] = TCP_RST
    else:
        store32(rst + TCP_SEQ, 0)
        store32(rst + TCP_ACK, load32(l4 + TCP_SEQ) + (flags & TCP_SYN != 0) + (flags & TCP_FIN != 0) + n - offset)
        rst[TCP_FLAGS] = TCP_RST | TCP_ACKFLAG
    rst[TCP_OFFSET] = TCP_LEN // 4 << 4
    store32(rst + TCP_FLAGS + 1, 0)                     # window and checksum
    store16(rst + TCP_CHECK + 2, 0)                     # urgent pointer


cdef void reset_tcp(node_t* node, packet_t* p, const uint8_t* l3, const uint8_t* l4, uint32_t n) noexcept nogil:
    cdef packet_t made
    cdef uint8_t* rst
    cdef uint8_t* out
    cdef uint32_t src = load32(l3 + IP_SRC), dst = load32(l3 + IP_DST)
    if not wants_reset(l4, n) or not intact(p, l3, l4, n):
        return
    rst = local_packet(node, &made, p, PROTO_TCP, dst, src, l3[IP_TOS], TCP_LEN)
    if rst == NULL:
        return
    out = made.frame + made.l3
    store16(out + IP_ID, 0)                             # IP_PMTUDISC_DO: DF, and no identification
    store16(out + IP_FRAG, IP_DF)
    write_reset(rst, l4, n)
    store16(rst + TCP_CHECK, csum_fold(csum_partial(rst, TCP_LEN, csum_pseudo(dst, src, PROTO_TCP, TCP_LEN))))
    send(node, &made)


cdef void refuse_udp(node_t* node, packet_t* p, const uint8_t* l3, const uint8_t* l4, uint32_t n) noexcept nogil:
    cdef uint32_t length
    if n < UDP_LEN:
        return
    length = load16(l4 + UDP_LENGTH)
    if length > n or length < UDP_LEN:
        return
    if load16(l4 + UDP_CHECK) != 0 and not intact(p, l3, l4, length):
        return
    icmp_send(node, p, ICMP_UNREACH, PORT_UNREACH, 0)


cdef int local_deliver(node_t* node, packet_t* p) noexcept nogil:
    """INPUT, then whoever is there (ip_local_deliver)."""
    cdef uint8_t* l3
    cdef uint8_t* l4
    cdef uint32_t n
    cdef bint unicast = p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_LOCAL
    cdef int end = input_hook(node, p)
    record(node, p, STAGE_INPUT, 0, end)
    if end != PASS:
        if end == drop(R_NO_ENDPOINTS):
            reject(node, p)
        return end
    l3 = p.frame + p.l3
    l4 = l3 + (l3[0] & 15) * 4
    n = load16(l3 + IP_TOTAL) - (l3[0] & 15) * 4
    if l3[IP_PROTO] == PROTO_ICMP:
        answer_icmp(node, p, l3, l4, n, unicast)
    elif l3[IP_PROTO] == PROTO_TCP:
        if unicast and p.type == PACKET_HOST:           # tcp_v4_rcv
            reset_tcp(node, p, l3, l4, n)
    elif l3[IP_PROTO] == PROTO_UDP:
        if unicast:
            refuse_udp(node, p, l3, l4, n)
    elif l3[IP_PROTO] != PROTO_IGMP and unicast:
        icmp_send(node, p, ICMP_UNREACH, PROT_UNREACH, 0)
    return fate(V_LOCAL, R_LOCAL_DELIVERY)
