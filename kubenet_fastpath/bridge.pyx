"""The bridge: br_netfilter's PREROUTING, learning, FDB lookup, flooding, br_netfilter's FORWARD and POSTROUTING.

Source: net/bridge/br_input.c (br_handle_frame, br_handle_frame_finish), br_forward.c (br_forward, br_flood,
should_deliver), br_netfilter_hooks.c (br_nf_pre_routing, br_nf_forward, br_nf_post_routing, br_nf_local_in). A frame
that PREROUTING drops is not learned. Multicast is flooded: there is no querier.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from .conntrack cimport CT_INVALID, NO_CONN
from .context cimport (
    IF_BRIDGE_PORT, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, interface_t, node_t, packet_t,
)
from .egress cimport push
from .fdb cimport FDB_LOCAL, FDB_UNKNOWN, fdb_learn, fdb_lookup
from .forward cimport check_header, enter_netfilter
from .frame cimport ETH_DST, ETH_IP, ETH_SRC, IP_DST, load32, load_mac
from .hooks cimport confirm, forward_hook, postrouting
from .verdict cimport (
    PASS, R_BROADCAST, R_FDB, R_LINK_LOCAL, R_MULTICAST, R_NO_PORT, R_PAUSE, R_SAME_PORT, R_SOURCE_MAC,
    R_UNKNOWN_UNICAST, V_BRIDGED, V_FLOODED, drop, fate,
)

cdef uint64_t LINK_LOCAL = 0x0180C2000000
cdef uint64_t BROADCAST = 0xFFFFFFFFFFFF


cdef bint deliverable(const node_t* node, const packet_t* p, uint32_t port, uint32_t bridge) noexcept nogil:
    """should_deliver: another port of this bridge, or the same one if it reflects."""
    cdef const interface_t* device = &node.interface[port]
    return device.kind == IF_BRIDGE_PORT and device.bridge == bridge and (port != p.port or device.hairpin)


cdef int filter_bridged(node_t* node, packet_t* p, uint32_t bridge) noexcept nogil:
    """FORWARD and POSTROUTING as the bridge runs them, in and out by itself."""
    cdef int end
    if not p.hooked:
        return PASS
    end = forward_hook(node, p)
    if end != PASS:
        return end
    return postrouting(node, p, bridge, load32(p.frame + p.l3 + IP_DST))


cdef int deliver(node_t* node, packet_t* p, uint32_t port, uint32_t bridge, bint cloned) noexcept nogil:
    cdef int end
    if not deliverable(node, p, port, bridge):
        return drop(R_SAME_PORT)
    end = filter_bridged(node, p, bridge)
    if end == PASS:
        end = push(node, p, port, cloned)
    return fate(V_BRIDGED, R_FDB) if end == PASS else end


cdef int flood(node_t* node, packet_t* p, uint32_t bridge) noexcept nogil:
    """Every other port gets the frame. The hooks see it once for each; the first time decides."""
    cdef uint32_t k
    cdef int end = drop(R_NO_PORT), left
    cdef bint filtered = False, out = False
    for k in range(node.n_interfaces):
        if not deliverable(node, p, k, bridge):
            continue
        if not filtered:
            end = filter_bridged(node, p, bridge)
            if end != PASS:
                return end
            filtered = True
        left = push(node, p, k, True)
        if left == PASS:
            out = True
        else:
            end = left
    if not out:
        return end
    if p.type == PACKET_BROADCAST:
        return fate(V_FLOODED, R_BROADCAST)
    return fate(V_FLOODED, R_MULTICAST if p.type == PACKET_MULTICAST else R_UNKNOWN_UNICAST)


cdef int bridge_receive(node_t* node, packet_t* p, packet_t* up) noexcept nogil:
    """Bridge a frame that came in by p.port.

    Returns its fate as a bridged frame, or PASS if it is for the host alone. Where the host gets it, or a copy of it,
    up.frame is set.
    """
    cdef uint32_t bridge = node.interface[p.port].bridge
    cdef interface_t* br = &node.interface[bridge]
    cdef uint64_t dst = load_mac(p.frame + ETH_DST), src = load_mac(p.frame + ETH_SRC)
    cdef int32_t port
    cdef int end
    cdef bint copied
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
    if node.bridge_nf and p.ethertype == ETH_IP and not p.tagged:
        end = check_header(p)
        if end == PASS:
            end = enter_netfilter(node, p)
        if end != PASS:
            return end
        p.hooked = True
    fdb_learn(node.fdb, src, 0, p.port, p.now)
    port = FDB_UNKNOWN
    if not dst >> 40 & 1:
        port = fdb_lookup(node.fdb, dst, 0)
        if port == FDB_LOCAL:
            up[0] = p[0]
            p.conn = NO_CONN
            end = PASS if p.type == PACKET_HOST else confirm(node, up)
            if end != PASS:
                up.frame = NULL
            return end
    copied = p.type != PACKET_OTHERHOST and (br.promiscuous or dst >> 40 & 1)
    if copied:
        up[0] = p[0]
        up.shared = p.shared = True
        node.mac_copies += 1
    if port >= 0:
        end = deliver(node, p, port, bridge, br.promiscuous or copied)
    else:
        end = flood(node, p, bridge)
    if not copied:
        return end
    if br.promiscuous:                                  # nf_reset_ct
        up.conn, up.info = NO_CONN, CT_INVALID
    else:
        up.conn, up.info, p.conn = p.conn, p.info, NO_CONN
        if p.type != PACKET_HOST and confirm(node, up) != PASS:
            up.frame = NULL
    return end
