"""The bridge: br_netfilter's PREROUTING, learning, FDB lookup, flooding, br_netfilter's FORWARD and POSTROUTING.

Source: net/bridge/br_input.c (br_handle_frame, br_handle_frame_finish), br_forward.c (br_forward, br_flood,
should_deliver), br_netfilter_hooks.c (br_nf_pre_routing, br_nf_forward, br_nf_post_routing, br_nf_local_in). A frame
that PREROUTING drops is not learned. Multicast is snooped (see `multicast`).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from .conntrack cimport CT_INVALID, NO_CONN
from .context cimport (
    IF_BRIDGE_PORT, NO_HOP, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, destination_of, interface_t, node_t,
    packet_t, record, source_of,
)
from .egress cimport hold, push, solicit
from .fdb cimport FDB_LOCAL, FDB_UNKNOWN, fdb_learn, fdb_lookup
from .forward cimport check_header, enter_netfilter
from .header6 cimport check_header6, enter_netfilter6
from .frame cimport (
    ETH_DST, ETH_IP, ETH_IP6, ETH_SRC, ICMP6_TOO_BIG, IP6_DST, IP6_LEN, IP6_NEXT, IP_DST, IP_LEN, IP_PROTO, PROTO_IGMP, load32, load_mac,
    store_mac,
)
from .hooks cimport confirm, forward_hook, let_go, postrouting
from .icmp cimport reject
from .icmp6 cimport icmp6_send_bridged, reject6
from .igmp cimport igmp_receive
from .mld cimport address_at, mld_receive
from .multicast cimport SNOOP_BAD, SNOOP_FLOOD, SNOOP_ROUTERS, address128_t, multicast_confined, multicast_t, snoop_t
from .neighbour cimport NEIGH_ASK, NEIGH_SEND, NO_NEIGHBOUR, neigh_create, neigh_resolve, neigh_table_t, resolve_t
from .recorder cimport STAGE_BRIDGE, STAGE_FORWARD, STAGE_ROUTE
from .route cimport route_input
from .route6 cimport route6_input
from .verdict cimport (
    PASS, R_BROADCAST, R_FDB, R_IP_RPFILTER, R_LINK_LOCAL, R_TRUNCATED, R_MARTIAN_DESTINATION, R_MARTIAN_SOURCE, R_MULTICAST, R_MULTICAST_INVALID,
    R_NEIGH_CREATEFAIL, R_NEIGHBOUR, R_NO_ENDPOINTS, R_NO_PORT, R_PAUSE, R_PKT_TOO_BIG, R_SAME_PORT, R_SOURCE_MAC, R_UNKNOWN_UNICAST, V_BRIDGED, V_DROP,
    V_FLOODED, V_HELD, drop, fate,
)

cdef uint64_t LINK_LOCAL = 0x0180C2000000
cdef uint64_t BROADCAST = 0xFFFFFFFFFFFF


cdef bint deliverable(const node_t* node, const packet_t* p, uint32_t port, uint32_t bridge) noexcept nogil:
    """should_deliver: another port of this bridge, or the same one if it reflects."""
    cdef const interface_t* device = &node.interface[port]
    return device.kind == IF_BRIDGE_PORT and device.bridge == bridge and (port != p.port or device.hairpin)


cdef void refuse(node_t* node, packet_t* p) noexcept nogil:
    if p.ethertype == ETH_IP:
        reject(node, p)
    else:
        reject6(node, p, True)


cdef int filter_bridged(node_t* node, packet_t* p, uint32_t bridge) noexcept nogil:
    """FORWARD and POSTROUTING as the bridge runs them, in and out by itself."""
    cdef int end
    if not p.hooked:
        return PASS
    end = forward_hook(node, p)
    record(node, p, STAGE_FORWARD, bridge, end)
    if end != PASS:
        if end == drop(R_NO_ENDPOINTS):
            refuse(node, p)
        return end
    return postrouting(node, p, bridge, destination_of(node, p))


cdef int leave(node_t* node, packet_t* p, uint32_t port, uint32_t bridge, bint cloned) noexcept nogil:
    """push; of IPv6 the sender is told what is too big for the bridge (ip6_fragment)."""
    cdef int end = push(node, p, port, cloned)
    cdef uint32_t mtu = node.interface[bridge].mtu
    if end == drop(R_PKT_TOO_BIG) and p.ethertype == ETH_IP6 and p.hooked and (
            (p.length - p.l3 if p.origin == NULL else p.origin.max_size) > mtu):
        icmp6_send_bridged(node, p, ICMP6_TOO_BIG, 0, mtu)
    return end


cdef int deliver(node_t* node, packet_t* p, uint32_t port, uint32_t bridge, bint cloned) noexcept nogil:
    cdef int end
    if not deliverable(node, p, port, bridge):
        return drop(R_SAME_PORT)
    end = filter_bridged(node, p, bridge)
    if end == PASS:
        end = leave(node, p, port, bridge, cloned)
    return fate(V_BRIDGED, R_FDB) if end == PASS else end


cdef int flood(node_t* node, packet_t* p, uint32_t bridge, bint confined, bint cloned) noexcept nogil:
    """Every other port gets the frame, or those that the group's frames go to (br_multicast_flood).

    The hooks see it once for each; the first time decides, and what REJECT refuses is answered each time. The port that
    joined the bridge first gets the frame itself, the others clones, unless the host still needs it (`cloned`).
    """
    cdef multicast_t* groups = &node.multicast
    cdef uint32_t k
    cdef int end = drop(R_NO_PORT), left
    cdef bint filtered = False, refused = False, out = False
    for k in range(node.n_interfaces):
        if not deliverable(node, p, k, bridge):
            continue
        if confined and (k >= groups.n_ports or groups.port[k].wanted != groups.serial):
            continue
        if refused:
            refuse(node, p)
            continue
        if not filtered:
            end = filter_bridged(node, p, bridge)
            refused = end == drop(R_NO_ENDPOINTS)
            if refused:
                continue
            if end != PASS:
                return end
            filtered = True
        left = leave(node, p, k, bridge, cloned)
        cloned = True
        if left == PASS:
            out = True
        else:
            end = left
    if not out:
        return end
    if p.type == PACKET_BROADCAST:
        return fate(V_FLOODED, R_BROADCAST)
    return fate(V_FLOODED, R_MULTICAST if p.type == PACKET_MULTICAST else R_UNKNOWN_UNICAST)


cdef int redirect(node_t* node, packet_t* p, uint32_t bridge) noexcept nogil:
    """PREROUTING has changed the destination: find the MAC that goes with it (br_nf_pre_routing_finish).

    "Bridged DNAT": towards another port of this bridge only the destination MAC changes, and TTL stays. Towards
    anywhere else the frame is now the router's. PASS, or the fate of the frame.
    """
    cdef bint six = p.ethertype != ETH_IP
    cdef neigh_table_t* t = node.neighbours6 if six else node.neighbours
    cdef uint32_t dst = destination_of(node, p), index, next_hop
    cdef resolve_t state
    cdef int end = route6_input(node, p) if six else route_input(node, p, source_of(node, p), dst, False)
    cdef packet_t waiting
    record(node, p, STAGE_ROUTE, p.hop, end)
    if end == drop(R_MARTIAN_SOURCE) or end == drop(R_MARTIAN_DESTINATION) or end == drop(R_IP_RPFILTER):
        return end
    if six and end != PASS:                             # br_nf_pre_routing_finish_ipv6: no way, no word
        return end
    p.redirect = False                                  # the bridge's notes overwrite the flag: one skb->cb for both
    if end != PASS:
        p.hop = NO_HOP                                  # the router asks again, and answers
    if p.hop == NO_HOP or node.hops[p.hop].dev != bridge:
        store_mac(p.frame + ETH_DST, node.interface[bridge].mac)
        p.type = PACKET_HOST
        return PASS
    next_hop = node.hops[p.hop].gateway if node.hops[p.hop].gateway else dst
    index = neigh_create(t, <uint16_t>bridge, next_hop, p.now)
    if index == NO_NEIGHBOUR:
        return drop(R_NEIGH_CREATEFAIL)
    state = neigh_resolve(t, index, p.now)
    if state == NEIGH_SEND:
        store_mac(p.frame + ETH_DST, t.row[index].mac)
        return PASS
    waiting = p[0]
    waiting.bridged = True
    p.conn = NO_CONN                                    # the waiting packet has it
    hold(node, t, index, &waiting)
    if state == NEIGH_ASK:
        solicit(node, t, index, p.source)
    return fate(V_HELD, R_NEIGHBOUR)


cdef int snoop(node_t* node, const packet_t* p, bint* confined) noexcept nogil:
    """Learn from a multicast frame and see how far it goes (br_multicast_rcv, br_mdb_entry_skb_get)."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef snoop_t what
    cdef address128_t group
    cdef uint32_t n = p.length - p.l3
    cdef bint six = p.ethertype == ETH_IP6
    confined[0] = False
    if node.multicast.off or (p.ethertype != ETH_IP and not six):
        return PASS
    if p.missing and (n - min(n, p.missing) < <uint32_t>(IP6_LEN if six else IP_LEN)
                      or (l3[IP6_NEXT] == 0 if six else l3[IP_PROTO] == PROTO_IGMP)):
        return drop(R_TRUNCATED)
    what = mld_receive(&node.multicast, l3, n, p.port, p.now) if six else (
        igmp_receive(&node.multicast, l3, n, p.port, p.now))
    if what == SNOOP_BAD:
        return drop(R_MULTICAST_INVALID)
    if what != SNOOP_FLOOD:
        if six:
            group = address_at(l3 + IP6_DST)
        else:
            group.hi, group.lo = 0, load32(l3 + IP_DST)
        confined[0] = multicast_confined(&node.multicast, group, what == SNOOP_ROUTERS, p.now)
    return PASS


cdef int bridge_finish(node_t* node, packet_t* p, packet_t* up) noexcept nogil:
    """Learn, look up, send on (br_handle_frame_finish). PASS: the host gets it; up.frame is set if it gets a copy."""
    cdef uint32_t bridge = p.dev
    cdef interface_t* br = &node.interface[bridge]
    cdef uint64_t dst = load_mac(p.frame + ETH_DST)
    cdef int32_t port = FDB_UNKNOWN
    cdef int end
    cdef bint copied, confined = False
    fdb_learn(node.fdb, load_mac(p.frame + ETH_SRC), 0, p.port, p.now)
    if not dst >> 40 & 1:
        port = fdb_lookup(node.fdb, dst, 0)
    record(node, p, STAGE_BRIDGE, <uint32_t>port, PASS)
    if not dst >> 40 & 1:
        if port == FDB_LOCAL:
            return PASS if p.type == PACKET_HOST else confirm(node, p)
    elif dst != BROADCAST:
        end = snoop(node, p, &confined)
        if end != PASS:
            return end
    copied = p.type != PACKET_OTHERHOST and (br.promiscuous or (dst >> 40 & 1 and not confined))
    if copied:
        up[0] = p[0]
        up.shared = p.shared = True
        node.local_copies += 1
    if port >= 0:
        end = deliver(node, p, port, bridge, br.promiscuous or copied)
    else:
        end = flood(node, p, bridge, confined, br.promiscuous or copied)
    if not copied:
        return end
    if br.promiscuous:                                  # nf_reset_ct
        up.conn, up.info = NO_CONN, CT_INVALID
    else:
        up.conn, up.info, p.conn = p.conn, p.info, NO_CONN
        if p.type != PACKET_HOST and confirm(node, up) != PASS:
            up.frame = NULL
    return end


cdef void bridge_resume(node_t* node, packet_t* p, uint64_t dst) noexcept nogil:
    """A frame that waited for its new destination's MAC goes on; its copy goes up to the host, where it came to by then.

    Of a promiscuous bridge that has no connection any more; but its options are read, and its TTL may run out.
    """
    cdef packet_t up
    cdef int end
    up.frame = NULL
    store_mac(p.frame + ETH_DST, dst)
    end = bridge_finish(node, p, &up)
    if end == PASS or end >> 8 == V_DROP:
        node.generated_drops += 1
    let_go(node, p)
    if up.frame != NULL:
        node.stack(node, &up)
        let_go(node, &up)


cdef int bridge_receive(node_t* node, packet_t* p, packet_t* up) noexcept nogil:
    """Bridge a frame that came in by p.port.

    Returns its fate as a bridged frame, or PASS if it goes up to the host and nowhere else. If the host gets a copy
    of it, that is in `up`; else up.frame is NULL.
    """
    cdef uint32_t bridge = node.interface[p.port].bridge
    cdef uint8_t[16] to6
    cdef bint six = node.bridge_nf6 and p.ethertype == ETH_IP6
    cdef uint32_t to = 0
    cdef interface_t* br = &node.interface[bridge]
    cdef uint64_t dst = load_mac(p.frame + ETH_DST), src = load_mac(p.frame + ETH_SRC)
    cdef int end
    up.frame = NULL
    p.dev = bridge
    if src == 0 or src >> 40 & 1:
        return drop(R_SOURCE_MAC)
    if dst & ~<uint64_t>15 == LINK_LOCAL:
        if dst == LINK_LOCAL + 1:
            return drop(R_PAUSE)
        if dst != LINK_LOCAL and not br.group_fwd_mask >> (dst & 15) & 1:
            fdb_learn(node.fdb, src, 0, p.port, p.now)
            return drop(R_LINK_LOCAL)
    if dst == br.mac:
        p.type = PACKET_HOST
    if (six or (node.bridge_nf and p.ethertype == ETH_IP)) and not p.tagged:
        end = check_header6(p) if six else check_header(p)
        if end != PASS:
            return end
        if six:
            memcpy(to6, p.frame + p.l3 + IP6_DST, 16)
            end = enter_netfilter6(node, p)
        else:
            to = load32(p.frame + p.l3 + IP_DST)
            end = enter_netfilter(node, p)
        if end != PASS:
            return end
        p.hooked = True
        if memcmp(p.frame + p.l3 + IP6_DST, to6, 16) != 0 if six else load32(p.frame + p.l3 + IP_DST) != to:
            end = redirect(node, p, bridge)
            if end != PASS:
                return end
    return bridge_finish(node, p, up)
