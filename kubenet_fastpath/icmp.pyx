"""ICMP errors: when, from which address, how much of the packet is quoted, and how many a second.

Source: net/ipv4/icmp.c (__icmp_send, icmp_route_lookup, icmp_global_allow), net/ipv4/inetpeer.c
(inet_peer_xrlim_allow), net/ipv4/route.c (ip_rt_send_redirect, ip_error); RFC 1812 section 4.3.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from .conntrack cimport CT_ESTABLISHED_REPLY, CT_INVALID, CT_RELATED, CT_RELATED_REPLY, NO_CONN
from .context cimport (
    NO_HOP, PACKET_HOST, PACKET_OTHERHOST, ROUTE_BROADCAST, ROUTE_LOCAL, icmp_limit_t, icmp_peer_t, nexthop_t,
    node_t, packet_t, record, scratch,
)
from .egress cimport ip_output
from .frame cimport (
    ETH_IP, ETH_LEN, ICMP_CHECK, ICMP_CODE, ICMP_ECHO, ICMP_ECHOREPLY, ICMP_LEN, ICMP_MAX_TYPE,
    ICMP_REDIRECT, ICMP_REST, ICMP_TIMESTAMP, ICMP_TYPE, ICMP_UNREACH, IP_CHECK, IP_DST, IP_FRAG,
    IP_ID, IP_LEN, IP_OFFSET, IP_PROTO, IP_SRC, IP_TOS, IP_TOTAL, IP_TTL, PROTO_ICMP, PROTO_TCP, PROTO_UDP, UDP_CHECK, csum, csum_fold,
    csum_partial, csum_pseudo, load16, load32, store16, store32,
)
from .hooks cimport output_hook
from .options cimport OPTIONS_MAX, OPTIONS_NO_ECHO, options_answer_to, options_echo
from .path_mtu cimport path_mtu
from .recorder cimport STAGE_OUTPUT
from .route cimport route_find, select_address
from .verdict cimport PASS, R_IP_INNOROUTES, R_LOCAL_DELIVERY, V_LOCAL, drop, fate

cdef enum:
    DEFAULT_TTL = 64            # net.ipv4.ip_default_ttl
    PORT_UNREACH = 3
    QUOTE_PACKET = 576          # an error is at most this long (RFC 1812 4.3.2.3)
    INTERNETCONTROL = 0xC0      # IPTOS_PREC_INTERNETCONTROL
    RATE_MASK = 0x1818          # types 3, 4, 11, 12 (net.ipv4.icmp_ratemask)
    XRLIM_BURST = 6
    REDIRECTS = 9               # ip_rt_redirect_number

cdef int64_t SECOND = 1_000_000_000
cdef int64_t REDIRECT_LOAD = 20_000_000             # ip_rt_redirect_load, HZ / 50
cdef int64_t REDIRECT_SILENCE = 20_480_000_000      # load << (number + 1)
cdef int64_t IDLE = 60_000_000_000                  # a peer that slept so long is as good as new
cdef uint32_t MOST_PEERS = 65_536                   # about inet_peer_threshold


cdef uint32_t awake(const node_t* node, const icmp_limit_t* l, int64_t idle) noexcept nogil:
    """Peers that were asked about within so many ns."""
    cdef uint32_t i, n = 0
    for i in range(l.mask + 1):
        n += l.peer[i].ip != 0 and node.now - l.peer[i].last < idle
    return n


cdef bint make_room(const node_t* node, icmp_limit_t* l) noexcept nogil:
    """Make the table anew, twice as large as who is kept: those of the last minute, or of less if they are too many."""
    cdef icmp_peer_t* old = l.peer
    cdef uint32_t i, kept = 0, size = 64, rows = 0
    cdef int64_t idle = IDLE
    if old != NULL:
        rows, kept = l.mask + 1, awake(node, l, idle)
        while kept > MOST_PEERS:
            idle //= 2
            kept = awake(node, l, idle)
    while size < 2 * kept:
        size *= 2
    l.peer = <icmp_peer_t*>calloc(size, sizeof(icmp_peer_t))
    if l.peer == NULL:
        l.peer = old
        return False
    l.mask, l.used = size - 1, kept
    for i in range(rows):
        if old[i].ip != 0 and node.now - old[i].last < idle:
            slot_of(l, old[i].ip)[0] = old[i]
    free(old)
    return True


cdef icmp_peer_t* slot_of(const icmp_limit_t* l, uint32_t ip) noexcept nogil:
    """The peer's row, or the free one where it would be."""
    cdef uint32_t i = ip * <uint32_t>0x9E3779B1
    i ^= i >> 15
    while l.peer[i & l.mask].ip != 0 and l.peer[i & l.mask].ip != ip:
        i += 1
    return &l.peer[i & l.mask]


cdef icmp_peer_t* find_peer(node_t* node, icmp_limit_t* l, uint32_t ip) noexcept nogil:
    """The peer's row, made if need be with a full bucket; NULL without memory, and for no address."""
    cdef icmp_peer_t* q
    if ip == 0:
        return NULL
    if l.peer != NULL:
        q = slot_of(l, ip)
        if q.ip == ip:
            return q
    if (l.peer == NULL or l.used * 4 >= (l.mask + 1) * 3) and not make_room(node, l):
        return NULL
    q = slot_of(l, ip)
    q.ip, q.last, q.tokens, q.redirects = ip, node.now - IDLE, 0, 0
    l.used += 1
    return q


cdef bint spend_unreachable(node_t* node, uint32_t ip) noexcept nogil:
    """Take the token that ip_error wants before an unreachable is sent (ip_rt_error_cost, _burst)."""
    cdef icmp_peer_t* q = find_peer(node, &node.icmp, ip)
    if q == NULL:
        return True
    q.tokens = min(q.tokens + node.now - q.last, 5 * SECOND)
    q.last = node.now
    if q.tokens < SECOND:
        return False
    q.tokens -= SECOND
    return True


cdef bint spend_global(node_t* node) noexcept nogil:
    """Whether all errors together may be one more (icmp_global_allow); whoever sends it takes one credit off."""
    cdef icmp_limit_t* l = &node.icmp
    cdef int64_t passed
    if l.credit <= 0:
        passed = min(node.now - l.stamp, SECOND)
        if passed < SECOND // 50:
            return False
        l.credit = min(l.credit + l.per_second * passed // SECOND, l.burst)
        l.stamp = node.now
        if l.credit <= 0:
            return False
    return True


cdef bint spend_token(const node_t* node, icmp_peer_t* q, int64_t interval) noexcept nogil:
    """inet_peer_xrlim_allow."""
    if q == NULL:
        return True
    # Without a limit this empties the bucket, which ip_error shares; not within its own tick.
    if node.now != q.last:
        q.tokens = min(q.tokens + node.now - q.last, XRLIM_BURST * interval)
        q.last = node.now
    if q.tokens < interval:
        return False
    q.tokens -= interval
    return True


cdef bint allowed(node_t* node, uint32_t ip, uint8_t type, uint8_t code) noexcept nogil:
    """The two rate limits of icmp.c, one per destination and one for all."""
    if (type == ICMP_UNREACH and code == 4) or not RATE_MASK >> type & 1:
        return True
    if not spend_global(node) or not spend_token(node, find_peer(node, &node.icmp, ip), node.icmp.interval):
        return False
    node.icmp.credit -= 1
    return True


cdef uint8_t* local_packet(node_t* node, packet_t* made, const packet_t* cause, uint8_t proto, uint32_t src,
                           uint32_t dst, uint8_t tos, uint32_t payload) noexcept nogil:
    """Begin a packet of the node's own: IPv4 header all but done, `payload` bytes to fill in behind it.

    Returns the payload's place; NULL without memory, or when the cause's options cannot be answered. Identification
    is set, DF is not.
    """
    cdef uint8_t options[OPTIONS_MAX]
    cdef uint8_t* l3
    cdef uint32_t n = options_echo(node, cause, src, options)
    memset(made, 0, sizeof(packet_t))
    if n == OPTIONS_NO_ECHO:
        return NULL
    made.length = ETH_LEN + IP_LEN + n + payload
    made.frame = scratch(node, made.length)
    if made.frame == NULL:
        return NULL
    made.l3, made.conn, made.hop, made.info = ETH_LEN, NO_CONN, NO_HOP, CT_INVALID
    made.now, made.source, made.ethertype, made.ours = node.now, cause.source, ETH_IP, True
    l3 = made.frame + ETH_LEN
    memset(made.frame, 0, ETH_LEN + IP_LEN)
    memcpy(l3 + IP_LEN, options, n)
    l3[0], l3[IP_TOS], l3[IP_TTL], l3[IP_PROTO] = <uint8_t>(0x45 + n // 4), tos, DEFAULT_TTL, proto
    store16(l3 + IP_TOTAL, <uint16_t>(IP_LEN + n + payload))
    store16(l3 + IP_ID, node.ip_id)
    node.ip_id += 1
    store32(l3 + IP_SRC, src)
    store32(l3 + IP_DST, dst)
    node.generated += 1
    return l3 + IP_LEN + n


cdef int local_out(node_t* node, packet_t* p) noexcept nogil:
    """Checksum the header, run OUTPUT, route, send (__ip_local_out)."""
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint32_t dst = load32(l3 + IP_DST)
    cdef nexthop_t* hop
    cdef int end
    store16(l3 + IP_CHECK, 0)
    store16(l3 + IP_CHECK, csum(l3, (l3[0] & 15) * 4))
    p.hop = route_find(node, dst)
    record(node, p, STAGE_OUTPUT, p.hop, PASS)
    if p.hop == NO_HOP or node.hops[p.hop].type >= ROUTE_BROADCAST:
        return drop(R_IP_INNOROUTES)
    end = output_hook(node, p)
    if end != PASS:
        return end
    if load32(p.frame + p.l3 + IP_DST) != dst:          # ip_route_me_harder
        dst = load32(p.frame + p.l3 + IP_DST)
        p.hop = route_find(node, dst)
        if p.hop == NO_HOP or node.hops[p.hop].type >= ROUTE_BROADCAST:
            return drop(R_IP_INNOROUTES)
    hop = &node.hops[p.hop]
    if hop.type == ROUTE_LOCAL:
        return fate(V_LOCAL, R_LOCAL_DELIVERY)
    return ip_output(node, p, hop.dev, hop.gateway if hop.gateway else dst)


cdef bint about_error(const packet_t* p, const uint8_t* l3, uint32_t header) noexcept nogil:
    """Whether the packet is an ICMP error itself (icmp_pointers), or too short or odd to tell."""
    cdef uint8_t type
    if l3[IP_PROTO] != PROTO_ICMP:
        return False
    if p.length < p.l3 + header + 1:
        return True
    type = l3[header]
    # Queries and their answers are none; router discovery and unassigned types count as errors.
    return not (type == ICMP_ECHO or type == ICMP_ECHOREPLY or ICMP_TIMESTAMP <= type <= ICMP_MAX_TYPE)


cdef void icmp_send(node_t* node, packet_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil:
    """Tell the sender of `p` what became of it, unless the rules forbid it (__icmp_send)."""
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint8_t* icmp
    cdef uint32_t src, dst = load32(l3 + IP_DST), speaker, hop, quote, room = QUOTE_PACKET
    cdef uint8_t options[OPTIONS_MAX]
    cdef packet_t made
    cdef int end
    if p.type != PACKET_HOST or load16(l3 + IP_FRAG) & IP_OFFSET or about_error(p, l3, (l3[0] & 15) * 4):
        return
    if dst >> 28 == 14 or (p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_BROADCAST):
        return
    src = options_answer_to(p)
    if src == 0:                                        # ip_route_output_key: that is the loopback
        return
    hop = route_find(node, src)
    if hop == NO_HOP or node.hops[hop].type >= ROUTE_BROADCAST:
        return
    if p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_LOCAL:
        speaker = dst
    elif node.hops[hop].type == ROUTE_LOCAL:            # about a masqueraded packet: to itself, until OUTPUT undoes it
        speaker = src
    elif node.hops[hop].source:
        speaker = node.hops[hop].source
    else:
        speaker = select_address(node, node.hops[hop].dev, node.hops[hop].gateway if node.hops[hop].gateway else src)
    if node.hops[hop].type != ROUTE_LOCAL and not allowed(node, src, type, code):
        return
    quote = options_echo(node, p, speaker, options)
    if quote == OPTIONS_NO_ECHO:
        return
    if node.hops[hop].type != ROUTE_LOCAL:
        room = min(room, path_mtu(node.path_mtus, hop, src, node.interface[node.hops[hop].dev].mtu, node.now))
    if room <= 2 * IP_LEN + ICMP_LEN + quote:           # not even the header has room
        return
    quote = min(p.length - p.l3, room - <uint32_t>(IP_LEN + ICMP_LEN) - quote)
    icmp = local_packet(node, &made, p, PROTO_ICMP, speaker, src, (l3[IP_TOS] & 0x1E) | INTERNETCONTROL,
                        ICMP_LEN + quote)
    if icmp == NULL:
        return
    icmp[ICMP_TYPE], icmp[ICMP_CODE] = type, code
    store16(icmp + ICMP_CHECK, 0)
    store32(icmp + ICMP_REST, rest)
    memcpy(icmp + ICMP_LEN, l3, quote)
    store16(icmp + ICMP_CHECK, csum(icmp, ICMP_LEN + quote))
    made.conn = p.conn                                  # nf_conntrack_attach: about it, the other way
    made.info = CT_RELATED if p.info >= CT_ESTABLISHED_REPLY else CT_RELATED_REPLY
    if p.conn == NO_CONN:
        made.info = CT_INVALID
    end = local_out(node, &made)
    if end != PASS and end >> 8 == 0:
        node.generated_drops += 1


cdef void reject(node_t* node, packet_t* p) noexcept nogil:
    """REJECT --reject-with icmp-port-unreachable (nf_send_unreach). To br_netfilter a bridged packet is the host's.

    A checksum that conntrack has not looked at is summed up with the IP header, as if that came to nothing: so it does
    not where options were written into and the header's own checksum is not made up for it yet (nf_ip_checksum).
    """
    cdef uint8_t type = p.type
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint32_t header = (l3[0] & 15) * 4, n = load16(l3 + IP_TOTAL) - header
    cdef bint summed = l3[IP_PROTO] == PROTO_TCP or (l3[IP_PROTO] == PROTO_UDP and load16(l3 + header + UDP_CHECK) != 0)
    if summed and p.missing == 0 and not (node.verify_checksums and node.conntrack.checksum) and csum_fold(csum_partial(
            l3, header + n, csum_pseudo(load32(l3 + IP_SRC), load32(l3 + IP_DST), l3[IP_PROTO], n))) != 0:
        return
    if p.type == PACKET_OTHERHOST:
        p.type = PACKET_HOST
    icmp_send(node, p, ICMP_UNREACH, PORT_UNREACH, 0)
    p.type = type


cdef void send_redirect(node_t* node, packet_t* p, uint32_t gateway) noexcept nogil:
    """Tell a neighbour of the better way, ever more seldom while it does not listen (ip_rt_send_redirect)."""
    cdef icmp_peer_t* q = find_peer(node, &node.icmp, load32(p.frame + p.l3 + IP_SRC))
    if q == NULL:
        return
    if node.now > q.last + REDIRECT_SILENCE:
        q.tokens, q.redirects = 0, 0
    if q.redirects >= REDIRECTS:
        q.last = node.now
        return
    if q.redirects == 0 or node.now > q.last + (REDIRECT_LOAD << q.redirects):
        icmp_send(node, p, ICMP_REDIRECT, 1, gateway)
        q = find_peer(node, &node.icmp, load32(p.frame + p.l3 + IP_SRC))
        q.last = node.now
        q.redirects += 1
