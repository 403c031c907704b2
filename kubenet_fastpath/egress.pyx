"""A routed packet leaves: POSTROUTING, fragments, the neighbour's MAC, then a port or the bridge's ports.

Source: net/ipv4/ip_output.c (ip_output, ip_finish_output2), net/ipv4/arp.c (arp_solicit, arp_create), their
counterparts in net/ipv6/ip6_output.c and ndisc.c (ndisc_solicit, ndisc_send_na),
net/bridge/br_device.c (br_dev_xmit), br_forward.c (br_dev_queue_push_xmit), br_netfilter_hooks.c
(br_nf_dev_queue_xmit); the duplicate filter is kubelet's and AgentBaker's ebtables chain (filter OUTPUT).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from .address_pool cimport POOL_NONE, in_prefix, pool_read
from .context cimport (
    IF_BRIDGE, IF_BRIDGE_PORT, IF_NONE, NO_CONN, NO_HOP, destination_of, emit, interface_t, node_t, packet_t, record, scratch, writable,
)
from .conntrack cimport CT_INVALID, CT_UNTRACKED
from .fdb cimport FDB_LOCAL, FDB_UNKNOWN, fdb_lookup
from .frame cimport (
    ARP_LEN, ARP_OP, ARP_REQUEST, ARP_SHA, ARP_SPA, ARP_THA, ARP_TPA, ETH_ARP, ETH_DST, ETH_IP, ETH_IP6, ETH_LEN, ETH_SRC,
    ETH_TYPE, ICMP6_SOLICIT, ICMP_CHECK, ICMP_LEN, ICMP_REST, ICMP_TYPE, IP6_DST, IP6_HOPS, IP6_LEN, IP6_NEXT, IP6_PAYLOAD,
    IP6_SRC, PROTO_ICMP6, csum_addresses, csum_fold, csum_partial, IP_DF, IP_DST, IP_FRAG, IP_SRC, VLAN_LEN, load16, load32, load_mac, store16, store32, store_mac,
)
from .fragment cimport FRAGMENT_BRIDGED, FRAGMENT_CLONED, fragment_next, fragment_start, fragment_start6, fragmenter_t, geometry_t
from .hooks cimport let_go, postrouting
from .neighbour cimport (
    NEIGH_ASK, NEIGH_SEND, NO_NEIGHBOUR, NUD_CONNECTED, NUD_PROBE, held_t, neigh_create, neigh_crowded, neigh_hold, neigh_resolve, neigh_table_t,
    neighbour_t, resolve_t,
)
from .path_mtu cimport path_mtu, path_mtu_forward
from .recorder cimport STAGE_BRIDGE, STAGE_DUPLICATE, STAGE_NEIGHBOUR, STAGE_POSTROUTING
from .route cimport owns, select_address
from .route6 cimport has_address6
from .verdict cimport (
    PASS, R_DEDUP, R_NEIGH_CREATEFAIL, R_NEIGH_QUEUEFULL, R_NEIGHBOUR, R_NO_DEVICE, R_NO_PORT, R_NOMEM, R_PKT_TOO_BIG, R_TRUNCATED, V_HELD, drop,
    fate,
)

cdef uint64_t BROADCAST = 0xFFFFFFFFFFFF

cdef enum:
    LEAST_MTU6 = 1280
    DISCOVERY_LEN = 24          # a solicitation or advertisement without options


cdef bint duplicate(const node_t* node, const packet_t* p, uint16_t dev) noexcept nogil:
    """Whether ebtables drops what the bridge itself sends: its own MAC, a pod's address."""
    cdef uint32_t src
    if not node.dedup or load_mac(p.frame + ETH_SRC) != node.interface[dev].mac:
        return False
    if node.dedup6 and p.ethertype == ETH_IP6:
        return not in_prefix(p.frame + p.l3 + IP6_SRC, &node.dedup_gateway6) and (
            in_prefix(p.frame + p.l3 + IP6_SRC, &node.dedup_pods6))
    if p.ethertype != ETH_IP:
        return False
    src = load32(p.frame + p.l3 + IP_SRC)
    return src != node.dedup_gateway and (src ^ node.dedup_pods.ip) & node.dedup_pods.mask == 0


cdef int transmit(node_t* node, packet_t* p, uint16_t dev) noexcept nogil:
    """Send a whole frame by an interface (dev_queue_xmit). PASS when it left by a port at least."""
    cdef interface_t* device = &node.interface[dev]
    cdef uint64_t dst
    cdef int32_t port
    cdef uint32_t k
    cdef bint left = False
    if device.kind == IF_NONE:
        return drop(R_NO_DEVICE)
    if device.kind != IF_BRIDGE:
        return PASS if emit(node, p, dev) else drop(R_NOMEM)
    device.tx_packets += 1
    device.tx_bytes += p.length
    if duplicate(node, p, dev):
        record(node, p, STAGE_DUPLICATE, dev, drop(R_DEDUP))
        return drop(R_DEDUP)
    dst = load_mac(p.frame + ETH_DST)
    port = FDB_UNKNOWN if dst >> 40 & 1 else fdb_lookup(node.fdb, dst, 0)
    record(node, p, STAGE_BRIDGE, <uint32_t>port, PASS)
    if port >= 0:
        return push(node, p, <uint16_t>port, False)
    if port == FDB_LOCAL:
        return drop(R_NO_PORT)
    for k in range(node.n_interfaces):
        if node.interface[k].kind == IF_BRIDGE_PORT and node.interface[k].bridge == dev:
            left |= push(node, p, <uint16_t>k, True) == PASS
    return PASS if left else drop(R_NO_PORT)


cdef uint32_t begin_fragments(node_t* node, const packet_t* p, fragmenter_t* f, uint32_t mtu, const geometry_t* origin,
                              uint8_t flags) noexcept nogil:
    """fragment_start, of either family."""
    if p.ethertype == ETH_IP:
        return fragment_start(f, p.frame, p.l3, p.length, mtu, origin, flags)
    node.fragment_id += 1
    return fragment_start6(f, p.frame, p.l3, p.length, mtu, origin, flags, node.fragment_id)


cdef inline uint32_t piece_room(const packet_t* p, uint32_t mtu) noexcept nogil:
    return p.l3 + max(mtu, <uint32_t>LEAST_MTU6)


cdef int push_fragments(node_t* node, packet_t* p, uint16_t port, uint32_t mtu, bint cloned) noexcept nogil:
    cdef packet_t piece = p[0]
    cdef fragmenter_t f
    cdef bint left = False
    if p.missing:
        return drop(R_TRUNCATED)
    if not begin_fragments(node, p, &f, mtu, p.origin, FRAGMENT_BRIDGED | (FRAGMENT_CLONED if cloned else 0)):
        return drop(R_PKT_TOO_BIG)
    while True:
        piece.frame = scratch(node, piece_room(p, mtu))
        if piece.frame == NULL:
            return drop(R_NOMEM)
        piece.length = fragment_next(&f, piece.frame)
        if piece.length == 0:
            return PASS if left else drop(R_PKT_TOO_BIG)
        if piece.length <= node.interface[port].mtu + ETH_LEN + VLAN_LEN:   # is_skb_forwardable
            left = True
            if not emit(node, &piece, port):
                return drop(R_NOMEM)


cdef int push(node_t* node, packet_t* p, uint16_t port, bint cloned) noexcept nogil:
    """Let a frame leave by a bridge port (br_nf_dev_queue_xmit, br_dev_queue_push_xmit)."""
    cdef uint32_t mtu = node.interface[port].mtu
    cdef uint32_t limit, largest
    if p.hooked and p.length - p.l3 > (min(mtu, p.origin.max_size) if p.origin != NULL else mtu):
        limit = node.interface[node.interface[port].bridge].mtu     # of the route, which is the bridge's own
        if p.origin != NULL:
            largest = p.origin.max_size
        elif p.ethertype != ETH_IP:
            largest = p.length - p.l3
        else:
            largest = 0xFFFF if load16(p.frame + p.l3 + IP_FRAG) & IP_DF else 0
        return drop(R_PKT_TOO_BIG) if largest > limit else push_fragments(node, p, port, limit, cloned)
    if p.length > mtu + ETH_LEN + VLAN_LEN:
        return drop(R_PKT_TOO_BIG)
    return PASS if emit(node, p, port) else drop(R_NOMEM)


cdef int send_arp(node_t* node, uint16_t dev, uint16_t op, uint64_t eth_dst, uint64_t tha, uint32_t tpa,
                  uint32_t spa, int32_t source) noexcept nogil:
    """Build and send an ARP packet (arp_create): RFC 826, 42 bytes."""
    cdef packet_t p
    cdef uint8_t* arp
    cdef uint64_t mac = node.interface[dev].mac
    memset(&p, 0, sizeof(packet_t))
    p.frame = scratch(node, ETH_LEN + ARP_LEN)
    if p.frame == NULL:
        return drop(R_NOMEM)
    p.length, p.l3, p.conn, p.hop = ETH_LEN + ARP_LEN, ETH_LEN, NO_CONN, NO_HOP
    p.now, p.source, p.ethertype, p.info = node.now, source, ETH_ARP, CT_INVALID
    store_mac(p.frame + ETH_DST, eth_dst)
    store_mac(p.frame + ETH_SRC, mac)
    store16(p.frame + ETH_TYPE, ETH_ARP)
    arp = p.frame + ETH_LEN
    store16(arp, 1)
    store16(arp + 2, ETH_IP)
    arp[4], arp[5] = 6, 4
    store16(arp + ARP_OP, op)
    store_mac(arp + ARP_SHA, mac)
    store32(arp + ARP_SPA, spa)
    store_mac(arp + ARP_THA, tha)
    store32(arp + ARP_TPA, tpa)
    node.generated += 1
    return transmit(node, &p, dev)


cdef uint64_t group_mac6(const uint8_t* group) noexcept nogil:
    """The MAC of an IPv6 group (RFC 2464, 7)."""
    return <uint64_t>0x3333 << 32 | load32(group + 12)


cdef int send_discovery(node_t* node, uint16_t dev, uint8_t type, uint32_t flags, const uint8_t* src, const uint8_t* dst,
                        const uint8_t* target, uint8_t option, uint64_t eth_dst, int32_t source) noexcept nogil:
    cdef packet_t p
    cdef uint8_t* l3
    cdef uint8_t* icmp
    cdef uint32_t n = DISCOVERY_LEN + (8 if option else 0)
    memset(&p, 0, sizeof(packet_t))
    p.length = ETH_LEN + IP6_LEN + n
    p.frame = scratch(node, p.length)
    if p.frame == NULL:
        return drop(R_NOMEM)
    memset(p.frame, 0, p.length)
    p.l3, p.conn, p.hop, p.l4, p.proto = ETH_LEN, NO_CONN, NO_HOP, IP6_LEN, PROTO_ICMP6
    p.now, p.source, p.ethertype, p.info, p.ours = node.now, source, ETH_IP6, CT_UNTRACKED, True
    l3 = p.frame + ETH_LEN
    l3[0], l3[IP6_NEXT], l3[IP6_HOPS] = 0x60, PROTO_ICMP6, 255
    store16(l3 + IP6_PAYLOAD, <uint16_t>n)
    memcpy(l3 + IP6_SRC, src, 16)
    memcpy(l3 + IP6_DST, dst, 16)
    icmp = l3 + IP6_LEN
    icmp[ICMP_TYPE] = type
    store32(icmp + ICMP_REST, flags)
    memcpy(icmp + ICMP_LEN, target, 16)
    if option:
        icmp[DISCOVERY_LEN], icmp[DISCOVERY_LEN + 1] = option, 1
        store_mac(icmp + DISCOVERY_LEN + 2, node.interface[dev].mac)
    store16(icmp + ICMP_CHECK, csum_fold(csum_partial(icmp, n, csum_addresses(l3) + PROTO_ICMP6 + n)))
    node.generated += 1
    if eth_dst == 0:
        return finish(node, &p, dev, destination_of(node, &p))
    store_mac(p.frame + ETH_DST, eth_dst)
    store_mac(p.frame + ETH_SRC, node.interface[dev].mac)
    store16(p.frame + ETH_TYPE, ETH_IP6)
    return transmit(node, &p, dev)


cdef void solicit6(node_t* node, const neighbour_t* n, int32_t source) noexcept nogil:
    """Ask for a neighbour's MAC (ndisc_solicit): from the waiting packet's address if the interface has that."""
    cdef const interface_t* dev = &node.interface[n.dev]
    cdef uint8_t[16] target, group
    cdef const uint8_t* src = NULL
    cdef packet_t* waiting
    pool_read(node.pool, n.ip, target)
    if n.last != NULL and n.first != NULL:
        waiting = <packet_t*>(n.last + 1)
        src = <uint8_t*>(n.last + 1) + n.last.record_size + waiting.l3 + IP6_SRC
        if not has_address6(node, n.dev, src):
            src = NULL
    if src == NULL:
        if dev.n_addresses6 == 0:
            return
        src = dev.address6[dev.n_addresses6 - 1].prefix.ip      # link-local
    if n.state == NUD_PROBE:
        send_discovery(node, n.dev, ICMP6_SOLICIT, 0, src, target, target, 1, n.mac, source)
        return
    memset(group, 0, 16)
    group[0], group[1], group[11], group[12] = 0xFF, 2, 1, 0xFF
    memcpy(&group[13], &target[13], 3)
    send_discovery(node, n.dev, ICMP6_SOLICIT, 0, src, group, target, 1, group_mac6(group), source)


cdef void solicit(node_t* node, neigh_table_t* t, uint32_t neighbour, int32_t source) noexcept nogil:
    """Ask for a neighbour's MAC (arp_solicit): from the waiting packet's address if that is ours."""
    cdef neighbour_t* n = &t.row[neighbour]
    cdef packet_t* waiting
    cdef uint32_t spa = 0
    if t.family == 6:
        solicit6(node, n, source)
        return
    if n.last != NULL and n.first != NULL:
        waiting = <packet_t*>(n.last + 1)
        spa = load32(<uint8_t*>(n.last + 1) + n.last.record_size + waiting.l3 + IP_SRC)
        if not owns(node, spa):
            spa = 0
    if spa == 0:
        spa = select_address(node, n.dev, n.ip)
    if n.state == NUD_PROBE:
        send_arp(node, n.dev, ARP_REQUEST, n.mac, 0, n.ip, spa, source)
    else:
        send_arp(node, n.dev, ARP_REQUEST, BROADCAST, 0, n.ip, spa, source)


cdef packet_t waited(node_t* node, held_t* h, int32_t source) noexcept nogil:
    """The packet that was held, with bytes of its own; its frame is NULL without memory. Frees `h`."""
    cdef packet_t p
    cdef size_t rest = h.record_size - sizeof(packet_t)
    cdef geometry_t* origin = NULL
    memcpy(&p, h + 1, sizeof(packet_t))
    p.frame = scratch(node, h.length)
    if p.frame != NULL and rest:
        origin = <geometry_t*>scratch(node, rest)
        if origin == NULL:
            p.frame = NULL
        else:
            memcpy(origin, <uint8_t*>(h + 1) + sizeof(packet_t), rest)
            origin.payload = <uint16_t*>(origin + 1)
    if p.frame != NULL:
        memcpy(p.frame, <uint8_t*>(h + 1) + h.record_size, h.length)
    p.now, p.source, p.shared, p.origin = node.now, source, False, origin
    free(h)
    return p


cdef const void* record_of(node_t* node, const packet_t* p, uint32_t* size) noexcept nogil:
    """What is kept beside a waiting packet's bytes: for the bridge also the fragments in which it came."""
    cdef uint8_t* made
    cdef size_t payload
    size[0] = sizeof(packet_t)
    if not p.bridged or p.origin == NULL:
        return p
    payload = p.origin.fragments * sizeof(uint16_t)
    made = scratch(node, sizeof(packet_t) + sizeof(geometry_t) + payload)
    if made == NULL:
        return p
    memcpy(made, p, sizeof(packet_t))
    memcpy(made + sizeof(packet_t), p.origin, sizeof(geometry_t))
    memcpy(made + sizeof(packet_t) + sizeof(geometry_t), p.origin.payload, payload)
    size[0] += sizeof(geometry_t) + payload
    return made


cdef void lose(node_t* node, packet_t* p, int reason) noexcept nogil:
    """A packet that had been held is gone."""
    node.generated_drops += 1
    node.reasons[reason] += 1
    if p.bridged:                                       # its connection was never confirmed
        let_go(node, p)


cdef void hold(node_t* node, neigh_table_t* t, uint32_t neighbour, const packet_t* p) noexcept nogil:
    """Let a packet wait for a MAC; the oldest ones make room for it."""
    cdef held_t* h
    cdef packet_t old
    cdef uint32_t size
    cdef const void* kept = record_of(node, p, &size)
    while True:
        h = neigh_crowded(t, neighbour, p.length)
        if h == NULL:
            break
        old = waited(node, h, -1)
        lose(node, &old, R_NEIGH_QUEUEFULL)
    if not neigh_hold(t, neighbour, kept, size, p.frame, p.length):
        old = p[0]
        lose(node, &old, R_NOMEM)


cdef inline uint32_t neighbour_of(node_t* node, uint16_t dev, uint32_t ip) noexcept nogil:
    """The neighbour's row, made if need be; NO_NEIGHBOUR without memory."""
    cdef uint32_t index = node.recent[ip & 63]
    if index < node.neighbours.n_rows and node.neighbours.row[index].ip == ip and (
            node.neighbours.row[index].dev == dev):
        return index
    index = neigh_create(node.neighbours, dev, ip, node.now)
    node.recent[ip & 63] = index
    return index


cdef inline uint32_t neighbour6_of(node_t* node, uint16_t dev, uint32_t handle) noexcept nogil:
    cdef uint32_t index = node.recent6[handle & 63]
    if index >= node.neighbours6.n_rows or node.neighbours6.row[index].ip != handle or (
            node.neighbours6.row[index].dev != dev):
        index = neigh_create(node.neighbours6, dev, handle, node.now)
        node.recent6[handle & 63] = index
    return index


cdef int finish(node_t* node, packet_t* p, uint16_t dev, uint32_t next_hop) noexcept nogil:
    """Put the Ethernet header on and send, or wait for the next hop's MAC (ip_finish_output2)."""
    cdef neigh_table_t* t = node.neighbours
    cdef uint32_t index
    cdef resolve_t state
    cdef uint8_t* eth
    if p.ethertype == ETH_IP:
        index = neighbour_of(node, dev, next_hop)
    elif next_hop == POOL_NONE:
        return drop(R_NOMEM)
    else:
        t, index = node.neighbours6, neighbour6_of(node, dev, next_hop)
    if index == NO_NEIGHBOUR:
        return drop(R_NEIGH_CREATEFAIL)
    if not writable(node, p):
        return drop(R_NOMEM)
    p.frame += p.l3 - ETH_LEN
    p.length -= p.l3 - ETH_LEN
    p.l3 = ETH_LEN
    eth = p.frame
    store_mac(eth + ETH_SRC, node.interface[dev].mac)
    store16(eth + ETH_TYPE, p.ethertype)
    p.tagged, p.hooked, p.dev = False, False, dev
    state = NEIGH_SEND
    if not (t.row[index].state & NUD_CONNECTED and t.row[index].primed):
        state = neigh_resolve(t, index, p.now)
    if state == NEIGH_SEND:
        store_mac(eth + ETH_DST, t.row[index].mac)
        record(node, p, STAGE_NEIGHBOUR, next_hop, PASS)
        return transmit(node, p, dev)
    record(node, p, STAGE_NEIGHBOUR, next_hop, fate(V_HELD, R_NEIGHBOUR))
    hold(node, t, index, p)
    if state == NEIGH_ASK:
        solicit(node, t, index, p.source)
    return fate(V_HELD, R_NEIGHBOUR)


cdef uint32_t path_of(node_t* node, const packet_t* p, uint16_t dev) noexcept nogil:
    """The largest packet that goes whole (ip_skb_dst_mtu, ip6_skb_dst_mtu)."""
    cdef uint32_t link = node.interface[dev].mtu
    if node.path_mtus.row == NULL or p.hop == NO_HOP:
        return link
    if p.ethertype == ETH_IP and not p.ours:
        return path_mtu_forward(node.path_mtus, p.hop, load32(p.frame + p.l3 + IP_DST), link, node.now)
    return path_mtu(node.path_mtus, p.hop, destination_of(node, p), link, node.now)


cdef int ip_output(node_t* node, packet_t* p, uint16_t dev, uint32_t next_hop) noexcept nogil:
    """PASS when the packet left; HELD while its next hop's MAC is asked for; else why it was dropped."""
    cdef int end = postrouting(node, p, dev, next_hop)
    cdef uint32_t mtu = path_of(node, p, dev)
    cdef fragmenter_t f
    cdef packet_t piece
    cdef const geometry_t* origin = p.origin
    cdef geometry_t sizeless
    record(node, p, STAGE_POSTROUTING, dev, end)
    if end != PASS:
        return end
    if origin != NULL and p.hooked:     # ip_rcv has cleared what the bridge's defragmentation had noted in IPCB
        sizeless = origin[0]
        sizeless.max_size = 0xFFFF
        origin = &sizeless
    elif origin != NULL and p.ethertype != ETH_IP and not p.ours and origin.max_size > mtu:
        return drop(R_PKT_TOO_BIG)
    if origin != NULL and origin.max_size < mtu:
        mtu = origin.max_size
    if p.length - p.l3 <= mtu:
        return finish(node, p, dev, next_hop)
    if origin == NULL and p.ethertype != ETH_IP and not p.ours:
        return drop(R_PKT_TOO_BIG)
    if p.missing:
        return drop(R_TRUNCATED)
    if not begin_fragments(node, p, &f, mtu, origin, 0):
        return drop(R_PKT_TOO_BIG)
    piece = p[0]
    piece.shared, piece.origin = False, NULL
    while True:
        piece.frame, piece.l3 = scratch(node, piece_room(p, mtu)), p.l3
        if piece.frame == NULL:
            return drop(R_NOMEM)
        piece.length = fragment_next(&f, piece.frame)
        if piece.length == 0:
            return end
        end = finish(node, &piece, dev, next_hop)
        if end != PASS and end >> 8 != V_HELD:
            return end
