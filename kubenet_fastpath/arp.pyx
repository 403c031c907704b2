"""ARP packets that reach the node: answer for its addresses, learn who owns which (RFC 826).

Source: net/ipv4/arp.c (arp_rcv, arp_process, arp_is_garp) with arp_ignore, arp_filter and arp_accept 0;
net/core/neighbour.c (pneigh_enqueue, neigh_proxy_process).
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memmove, memset

from .context cimport (
    NO_HOP, PACKET_BROADCAST, PACKET_HOST, PACKET_OTHERHOST, PROXY_QLEN, ROUTE_LOCAL, ROUTE_UNICAST,
    interface_t, node_t, packet_t, proxied_t,
)
from .egress cimport send_arp
from .frame cimport (
    ARP_LEN, ARP_OP, ARP_REPLY, ARP_REQUEST, ARP_SHA, ARP_SPA, ARP_THA, ARP_TPA, ETH_IP, load16,
    load32, load_mac,
)
from .neighbour cimport (
    NO_NEIGHBOUR, NUD_REACHABLE, NUD_STALE, neigh_create, neigh_find, neighbour_t, nud_t,
)
from .resolution cimport learn_neighbour
from .route cimport owns, route_input, route_type
from .verdict cimport PASS, R_ARP, R_ARP_INVALID, R_OTHERHOST, V_LOCAL, drop, fate

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_splitmix(uint64_t* state)

cdef enum:
    LOCKTIME = 1_000_000_000    # ns before an entry may be overwritten with another MAC


cdef void learn(node_t* node, packet_t* p, uint32_t index, uint64_t mac, nud_t state, bint override) noexcept nogil:
    learn_neighbour(node, node.neighbours, index, mac, state, override, False, p)


cdef bint answers_for(node_t* node, packet_t* p, uint32_t spa, uint32_t tpa) noexcept nogil:
    """Whether a request is answered: for an address of the node, or by proxy for what is routed elsewhere."""
    if route_input(node, p, spa, tpa, True) != PASS or p.hop == NO_HOP:
        return False
    if node.hops[p.hop].type == ROUTE_LOCAL:
        return True
    return node.interface[p.dev].proxy_arp and node.hops[p.hop].type == ROUTE_UNICAST and (
        node.hops[p.hop].dev != p.dev)


cdef void answer(node_t* node, packet_t* p, uint64_t sha, uint32_t spa, uint32_t tpa) noexcept nogil:
    cdef uint32_t index = neigh_create(node.neighbours, p.dev, spa, p.now)
    if index != NO_NEIGHBOUR:
        learn(node, p, index, sha, NUD_STALE, True)
        send_arp(node, p.dev, ARP_REPLY, sha, sha, spa, tpa, p.source)


cdef bint answered_later(node_t* node, packet_t* p, uint64_t sha, uint32_t spa, uint32_t tpa) noexcept nogil:
    """Proxies answer what was broadcast after a random delay, so that the owner of the address comes first."""
    cdef uint32_t index
    if node.hops[p.hop].type == ROUTE_LOCAL or p.type == PACKET_HOST or node.proxy_delay == 0:
        return False
    index = neigh_create(node.neighbours, p.dev, spa, p.now)
    if index != NO_NEIGHBOUR:
        learn(node, p, index, sha, NUD_STALE, True)
    enqueue(node, p, sha, spa, tpa)
    return True


cdef void enqueue(node_t* node, const packet_t* p, uint64_t sha, uint32_t spa, uint32_t tpa) noexcept nogil:
    """Wait for the answer's time. Each interface has a queue of its own (proxy_qlen); all lie in one array, which is
    walked for every request that waits and for every one that is answered."""
    cdef uint32_t i, waiting = 0, room
    cdef proxied_t* grown
    for i in range(node.n_proxied):
        waiting += node.proxied[i].dev == p.dev
    if waiting > PROXY_QLEN:
        return
    if node.n_proxied == node.proxied_room:
        room = 2 * node.proxied_room or PROXY_QLEN
        grown = <proxied_t*>realloc(node.proxied, room * sizeof(proxied_t))
        if grown == NULL:
            return
        node.proxied, node.proxied_room = grown, room
    grown = &node.proxied[node.n_proxied]
    grown.due = p.now + <int64_t>(kf_splitmix(&node.rng) % <uint64_t>node.proxy_delay)
    grown.sha, grown.spa, grown.tpa, grown.dev = sha, spa, tpa, p.dev
    node.proxied_due = min(node.proxied_due, grown.due) if node.n_proxied else grown.due
    node.n_proxied += 1


cdef void forget(node_t* node, uint32_t i) noexcept nogil:
    cdef uint32_t k
    node.n_proxied -= 1
    memmove(&node.proxied[i], &node.proxied[i + 1], (node.n_proxied - i) * sizeof(proxied_t))
    node.proxied_due = INT64_MAX
    for k in range(node.n_proxied):
        node.proxied_due = min(node.proxied_due, node.proxied[k].due)


cdef void arp_proxy_answer(node_t* node) noexcept nogil:
    cdef int64_t due = node.proxied_due
    cdef uint32_t i = 0
    cdef proxied_t request
    cdef packet_t p
    while node.proxied[i].due != due:
        i += 1
    request = node.proxied[i]
    forget(node, i)
    node.now = max(node.now, due)
    memset(&p, 0, sizeof(packet_t))
    p.dev, p.now, p.source, p.type, p.hop = request.dev, node.now, -1, PACKET_BROADCAST, NO_HOP
    if answers_for(node, &p, request.spa, request.tpa):     # once more, for routes may have changed (parp_redo)
        answer(node, &p, request.sha, request.spa, request.tpa)


cdef void arp_forget(node_t* node, uint16_t dev) noexcept nogil:
    cdef uint32_t i = node.n_proxied
    while i > 0:
        i -= 1
        if node.proxied[i].dev == dev:
            forget(node, i)


cdef int arp_receive(node_t* node, packet_t* p) noexcept nogil:
    cdef uint8_t* arp = p.frame + p.l3
    cdef interface_t* dev = &node.interface[p.dev]
    cdef uint64_t sha
    cdef uint32_t spa, tpa, index
    cdef uint16_t op
    cdef bint gratuitous, override
    cdef neighbour_t* n
    if p.type == PACKET_OTHERHOST:
        return drop(R_OTHERHOST)
    if p.length - p.missing < p.l3 + ARP_LEN:
        return drop(R_ARP_INVALID)
    if load16(arp) != 1 or load16(arp + 2) != ETH_IP or arp[4] != 6 or arp[5] != 4:
        return drop(R_ARP_INVALID)
    op = load16(arp + ARP_OP)
    sha, spa, tpa = load_mac(arp + ARP_SHA), load32(arp + ARP_SPA), load32(arp + ARP_TPA)
    if (op != ARP_REQUEST and op != ARP_REPLY) or tpa >> 28 == 14 or (tpa >> 24 == 127 and not dev.route_localnet):
        return drop(R_ARP_INVALID)
    if spa == 0:                                        # duplicate address detection, RFC 5227
        if op == ARP_REQUEST and owns(node, tpa):
            send_arp(node, p.dev, ARP_REPLY, sha, sha, 0, tpa, p.source)
        return fate(V_LOCAL, R_ARP)
    if op == ARP_REQUEST and answers_for(node, p, spa, tpa):
        if not answered_later(node, p, sha, spa, tpa):
            answer(node, p, sha, spa, tpa)
        return fate(V_LOCAL, R_ARP)
    index = neigh_find(node.neighbours, p.dev, spa)
    if index != NO_NEIGHBOUR:
        n = &node.neighbours.row[index]
        gratuitous = spa == tpa and route_type(node, spa) == ROUTE_UNICAST and (
            op == ARP_REQUEST or load_mac(arp + ARP_THA) == sha)
        override = gratuitous or p.now > n.updated + LOCKTIME
        learn(node, p, index, sha, NUD_REACHABLE if op == ARP_REPLY and p.type == PACKET_HOST else NUD_STALE, override)
    return fate(V_LOCAL, R_ARP)
