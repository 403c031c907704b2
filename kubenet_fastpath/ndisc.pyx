"""Neighbour discovery messages that reach the node: answer for its addresses, learn who owns which (RFC 4861).

Source: net/ipv6/ndisc.c (ndisc_rcv, ndisc_recv_ns, ndisc_recv_na, ndisc_recv_rs, ndisc_router_discovery,
ndisc_send_redirect). The node is a router: advertisements of others change no route of it, redirects none either. Its
own addresses are past duplicate address detection. A solicitation of an anycast address is answered at once, where the
kernel waits up to `proxy_delay`.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .address_pool cimport pool_find, pool_read
from .connection cimport CT_UNTRACKED
from .context cimport NO_HOP, ROUTE_ANYCAST, ROUTE_LOCAL, destination_of, interface_t, source_of
from .egress cimport finish, group_mac6, send_discovery
from .frame cimport (
    ETH_LEN, ICMP6_ADVERTISE, ICMP6_REDIRECT, ICMP6_ROUTER, ICMP6_SOLICIT, ICMP6_SOLICIT_ROUTER, ICMP_CHECK, ICMP_CODE,
    ICMP_LEN, ICMP_REST, ICMP_TYPE, IP6_DST, IP6_HOPS, IP6_LEN, IP6_SRC, PROTO_ICMP6, csum_addresses, csum_fold,
    csum_partial, load32, load_mac, store16, store_mac,
)
from .icmp cimport find_peer, spend_token
from .icmp6 cimport local_packet6
from .neighbour cimport (
    NO_NEIGHBOUR, NUD_FAILED, NUD_REACHABLE, NUD_STALE, NUD_VALID, neigh_create, neigh_find, neighbour_t,
)
from .resolution cimport learn_neighbour
from .route6 cimport (
    has_address6, is_link_local6, is_multicast6, is_unspecified6, route6_anycast, route6_output, select_address6,
)

cdef enum:
    MESSAGE = 24                # a solicitation or advertisement without options
    SOURCE_ADDRESS = 1          # options
    TARGET_ADDRESS = 2
    REDIRECTED = 4
    ADVERTISEMENT = 16
    REDIRECT = 40

cdef uint32_t ROUTER = <uint32_t>0x80000000         # flags of an advertisement
cdef uint32_t SOLICITED = 0x40000000
cdef uint32_t OVERRIDE = 0x20000000
cdef uint64_t UNKNOWN = <uint64_t>1 << 48           # no MAC
cdef uint64_t BAD = <uint64_t>1 << 49
cdef int64_t SECOND = 1_000_000_000

cdef uint8_t[16] ALL_NODES
ALL_NODES[0], ALL_NODES[1], ALL_NODES[15] = 0xFF, 2, 1


cdef uint64_t option_mac(const uint8_t* option, uint32_t n, uint8_t type) noexcept nogil:
    """The MAC that the first option of a type tells; UNKNOWN: none does, BAD: the options make no sense."""
    cdef uint64_t found = UNKNOWN
    cdef uint32_t size
    while n > 0:
        size = <uint32_t>option[1] * 8 if n >= 2 else 0
        if size == 0 or size > n:
            return BAD
        if option[0] == type and found == UNKNOWN:
            found = load_mac(option + 2) if size == 8 else <uint64_t>BAD
        option += size
        n -= size
    return found


cdef void learn(node_t* node, packet_t* p, uint32_t handle, uint64_t mac, bint create) noexcept nogil:
    """A sender told its MAC by the way."""
    cdef uint32_t index
    if create:
        index = neigh_create(node.neighbours6, p.dev, handle, p.now)
    else:
        index = neigh_find(node.neighbours6, p.dev, handle)
    if index != NO_NEIGHBOUR:
        learn_neighbour(node, node.neighbours6, index, mac, NUD_STALE, True, True, p)


cdef void solicited(node_t* node, packet_t* p, const uint8_t* icmp, uint32_t n) noexcept nogil:
    cdef const uint8_t* src = p.frame + p.l3 + IP6_SRC
    cdef const uint8_t* dst = p.frame + p.l3 + IP6_DST
    cdef const uint8_t* target = icmp + ICMP_LEN
    cdef const uint8_t* to = src
    cdef uint8_t[16] speaker
    cdef uint64_t mac
    cdef bint detecting = is_unspecified6(src), mine, group = is_multicast6(dst)
    cdef uint32_t handle
    if n < MESSAGE or is_multicast6(target):
        return
    if detecting and not (load32(dst) == (<uint32_t>0xFF02 << 16) and load32(dst + 4) == 0 and load32(dst + 8) == 1 and dst[12] == 0xFF):
        return
    mac = option_mac(icmp + MESSAGE, n - MESSAGE, SOURCE_ADDRESS)
    if mac == BAD or (detecting and mac != UNKNOWN):
        return
    if detecting:
        to = ALL_NODES
    mine = has_address6(node, p.dev, target)
    if not mine and not route6_anycast(node, p.dev, target):
        return
    memcpy(speaker, target, 16)
    if not mine:
        pool_read(node.pool, select_address6(node, p.dev, to), speaker)
    if detecting:
        send_discovery(node, p.dev, ICMP6_ADVERTISE, ROUTER | (OVERRIDE if mine else <uint32_t>0), speaker, ALL_NODES, target,
                       TARGET_ADDRESS, group_mac6(ALL_NODES), p.source)
        return
    handle = source_of(node, p)
    learn(node, p, handle, mac, not group or mac != UNKNOWN)
    if neigh_find(node.neighbours6, p.dev, handle) == NO_NEIGHBOUR:
        return
    send_discovery(node, p.dev, ICMP6_ADVERTISE, ROUTER | SOLICITED | (OVERRIDE if mine and group else <uint32_t>0), speaker,
                   src, target, TARGET_ADDRESS if group else 0, 0, p.source)


cdef void advertised(node_t* node, packet_t* p, const uint8_t* icmp, uint32_t n) noexcept nogil:
    cdef const uint8_t* target = icmp + ICMP_LEN
    cdef uint32_t index, flags
    cdef uint64_t mac
    if n < MESSAGE or is_multicast6(target):
        return
    flags = load32(icmp + ICMP_REST)
    if is_multicast6(p.frame + p.l3 + IP6_DST) and flags & SOLICITED:
        return
    mac = option_mac(icmp + MESSAGE, n - MESSAGE, TARGET_ADDRESS)
    if mac == BAD or has_address6(node, p.dev, target):
        return
    index = neigh_find(node.neighbours6, p.dev, pool_find(node.pool, target))
    if index == NO_NEIGHBOUR or node.neighbours6.row[index].state & NUD_FAILED:
        return
    learn_neighbour(node, node.neighbours6, index, mac, NUD_REACHABLE if flags & SOLICITED else NUD_STALE,
                    flags & OVERRIDE != 0, True, p)


cdef void ndisc_receive(node_t* node, packet_t* p, const uint8_t* icmp, uint32_t n) noexcept nogil:
    """One of the five messages, its checksum right (ndisc_rcv)."""
    cdef const uint8_t* src = p.frame + p.l3 + IP6_SRC
    cdef uint32_t header = ICMP_LEN if icmp[ICMP_TYPE] == ICMP6_SOLICIT_ROUTER else ADVERTISEMENT
    cdef uint64_t mac
    if p.frame[p.l3 + IP6_HOPS] != 255 or icmp[ICMP_CODE] != 0:
        return
    if icmp[ICMP_TYPE] == ICMP6_SOLICIT:
        solicited(node, p, icmp, n)
    elif icmp[ICMP_TYPE] == ICMP6_ADVERTISE:
        advertised(node, p, icmp, n)
    elif icmp[ICMP_TYPE] != ICMP6_REDIRECT and n >= header and not is_unspecified6(src):
        if icmp[ICMP_TYPE] == ICMP6_ROUTER and not is_link_local6(src):
            return
        mac = option_mac(icmp + header, n - header, SOURCE_ADDRESS)
        if mac != BAD:
            learn(node, p, source_of(node, p), mac, True)


cdef void send_redirect6(node_t* node, packet_t* p, uint16_t dev, uint32_t target) noexcept nogil:
    """Tell a neighbour of the better way (ndisc_send_redirect): at most once a second to it, and about a destination."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef const interface_t* out = &node.interface[p.dev]
    cdef uint32_t hop, index, size, quote, there = p.length - p.l3
    cdef uint8_t[16] address
    cdef const neighbour_t* n
    cdef packet_t made
    cdef uint8_t* icmp
    cdef bint known
    if not spend_token(node, find_peer(node, &node.icmp6, destination_of(node, p)), SECOND) or out.n_addresses6 == 0:
        return
    pool_read(node.pool, target, address)
    if memcmp(l3 + IP6_DST, address, 16) != 0 and not is_link_local6(address):
        return
    hop = route6_output(node, p.dev, l3 + IP6_SRC)
    if hop == NO_HOP or node.hops[hop].type >= ROUTE_ANYCAST or node.hops[hop].gateway:
        return
    if not spend_token(node, find_peer(node, &node.icmp6, source_of(node, p)), SECOND):
        return
    index = neigh_create(node.neighbours6, dev, target, p.now)
    if index == NO_NEIGHBOUR:
        return
    if node.hops[hop].type == ROUTE_LOCAL:              # to itself, who believes no redirect from a global address
        return
    n = &node.neighbours6.row[index]
    known = n.state & NUD_VALID != 0
    size = REDIRECT + (8 if known else 0)
    quote = min(<uint32_t>1280 - IP6_LEN - size, there + 8) & ~<uint32_t>7
    icmp = local_packet6(node, &made, p, PROTO_ICMP6, out.address6[out.n_addresses6 - 1].prefix.ip, l3 + IP6_SRC,
                         size + quote)
    if icmp == NULL:
        return
    memset(icmp, 0, size + quote)
    made.frame[ETH_LEN + IP6_HOPS], made.info = 255, CT_UNTRACKED
    icmp[ICMP_TYPE] = ICMP6_REDIRECT
    memcpy(icmp + ICMP_LEN, address, 16)
    memcpy(icmp + ICMP_LEN + 16, l3 + IP6_DST, 16)
    if known:
        icmp[REDIRECT], icmp[REDIRECT + 1] = TARGET_ADDRESS, 1
        store_mac(icmp + REDIRECT + 2, n.mac)
    icmp[size], icmp[size + 1] = REDIRECTED, <uint8_t>(quote // 8)
    memcpy(icmp + size + 8, l3, quote - 8)
    store16(icmp + ICMP_CHECK, csum_fold(csum_partial(
        icmp, size + quote, csum_addresses(made.frame + ETH_LEN) + PROTO_ICMP6 + size + quote)))
    finish(node, &made, node.hops[hop].dev, destination_of(node, &made))
