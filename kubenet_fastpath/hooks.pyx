"""What netfilter does to a packet of either family at each of its five hooks, in order of priority.

Source: net/netfilter/nf_nat_core.c (nf_nat_inet_fn), nf_nat_proto.c (nf_nat_ipv4_fn), nf_nat_masquerade.c,
nf_conntrack_core.c (nf_conntrack_in, nf_confirm). Rules are data of the node: kube-proxy's (see `kubeproxy`), and
the masquerading that ip-masq-agent or kubenet install.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from .conntrack cimport (
    CONFIRM_CLASH, CONFIRM_OK, CT_DROP, CT_UNTRACKED, CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_INVALID, CT_NEW, CT_RELATED,
    CT_RELATED_REPLY, IPS_CONFIRMED, IPS_DST_NAT, IPS_DST_NAT_DONE, IPS_SRC_NAT, IPS_SRC_NAT_DONE, NO_CONN,
    confirm_t, conn_t, ct_confirm, ct_conn, ct_discard, ct_kill, ct_track, ct_track_hashed, ctinfo_t, segment_t,
)
from .connection cimport kf_tuple_copy
from .address_pool cimport POOL_NONE, in_prefix
from .context cimport (
    IF_BRIDGE, NO_HOP, ROUTE_LOCAL, destination_of, header_length, node_t, packet_t, protocol_of, record, snat_rule_t,
    source_of, writable,
)
from .frame cimport (
    ETH_IP, EXT_FRAGMENT, IP6_DST, IP_DST, IP_LEN, IP_PROTO, IP_SRC, L4_DPORT, PROTO_ICMP, PROTO_ICMP6, PROTO_TCP, PROTO_UDP, load16,
    load32,
)
from .kubeproxy cimport FILTER_FORWARD, FILTER_INPUT, FILTER_OUTPUT, MARK_HOST_PORT, MARK_MASQ, service_endpoint, service_refusal
from .nat cimport (
    MANIP_DST, MANIP_SRC, RANGE_PORTS, manip_t, nat_icmp_error, nat_packet, nat_range_t, nat_setup, nat_setup_null,
)
from .recorder cimport STAGE_CONFIRM, STAGE_CONNTRACK, STAGE_DESTINATION_NAT, STAGE_SERVICE, STAGE_SOURCE_NAT
from .route cimport owns, select_address
from .route6 cimport owns6, select_address6
from .service_table cimport endpoint_t
from .verdict cimport (
    PASS, R_CT_CLASH, R_CT_FULL, R_CT_INVALID, R_LOCALNET, R_MASQUERADE_MOVED, R_NAT_FAILED, R_NOMEM, drop,
)


cdef inline int tracked(node_t* node, packet_t* p) noexcept nogil:
    if p.info == CT_DROP:
        p.conn = NO_CONN
        record(node, p, STAGE_CONNTRACK, 0, drop(R_CT_FULL))
        return drop(R_CT_FULL)
    record(node, p, STAGE_CONNTRACK, 0, PASS)
    return PASS


cdef int track(node_t* node, packet_t* p, bint verify) noexcept nogil:
    """nf_conntrack_in: find or begin the packet's connection."""
    cdef segment_t seg
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint32_t header = header_length(p)
    cdef bint six = p.ethertype != ETH_IP
    if node.tracked:                    # by the fast path, which then gave the packet up
        node.tracked = False
        p.conn, p.info = node.tracked_conn, node.tracked_info
        return PASS
    seg.ip_len = p.length - p.l3
    if p.plain and verify:
        kf_tuple_copy(&seg.tuple, &node.look)
        seg.l3, seg.l4, seg.l4_len = NULL, l3 + IP_LEN, seg.ip_len - <uint32_t>IP_LEN
        seg.verify = node.verify_checksums and not p.summed
        p.info = <uint8_t>ct_track_hashed(node.conntrack, &seg, node.look.hash, p.now, &p.conn)
        return tracked(node, p)
    if six and (header == 0 or p.proto == EXT_FRAGMENT):     # nf_ct_get_tuple finds no protocol
        node.conntrack.counters.invalid += 1
        p.conn, p.info = NO_CONN, CT_INVALID
        record(node, p, STAGE_CONNTRACK, 0, PASS)
        return PASS
    seg.tuple.src, seg.tuple.dst = source_of(node, p), destination_of(node, p)
    if six and (seg.tuple.src == POOL_NONE or seg.tuple.dst == POOL_NONE):
        return drop(R_NOMEM)
    seg.tuple.proto, seg.tuple.family, seg.tuple.zone = protocol_of(p), 6 if six else 4, 0
    seg.l3, seg.l4, seg.l4_len = l3 if six else NULL, l3 + header, seg.ip_len - header if header < seg.ip_len else 0
    seg.verify = verify and node.verify_checksums and p.missing == 0 and not p.summed
    p.info = <uint8_t>ct_track(node.conntrack, &seg, p.now, &p.conn)
    return tracked(node, p)


cdef bint masqueraded6(const node_t* node, const uint8_t* dst) noexcept nogil:
    cdef uint32_t k
    if not node.masquerade6 or owns6(node, dst):
        return False
    for k in range(node.n_direct6):
        if in_prefix(dst, &node.direct6[k]):
            return False
    return True


cdef bint masqueraded(const node_t* node, const packet_t* p, uint32_t dst) noexcept nogil:
    """`-m addrtype ! --dst-type LOCAL`, then a RETURN for each CIDR that is left alone, then MASQUERADE."""
    cdef uint32_t k
    if not node.masquerade or (node.hops[p.hop].type == ROUTE_LOCAL if p.plain and p.hop != NO_HOP else owns(node, dst)):
        return False
    for k in range(node.n_direct):
        if (node.direct[k].ip ^ dst) & node.direct[k].mask == 0:
            return False
    return True


cdef const snat_rule_t* snat_rule(const node_t* node, const uint8_t* l3) noexcept nogil:
    """The SNAT rule that a packet meets, NULL: none."""
    cdef uint16_t port = load16(l3 + (l3[0] & 15) * 4 + L4_DPORT) if (
        l3[IP_PROTO] == PROTO_TCP or l3[IP_PROTO] == PROTO_UDP) else <uint16_t>0
    cdef const snat_rule_t* rule
    cdef uint32_t k
    for k in range(node.n_snat):
        rule = &node.snat[k]
        if (rule.dst == load32(l3 + IP_DST) and rule.proto == l3[IP_PROTO] and rule.port == port
                and (load32(l3 + IP_SRC) ^ rule.network) & rule.mask == 0):
            return rule
    return NULL


cdef bint setup_source(node_t* node, packet_t* p, uint16_t out, uint32_t next_hop) noexcept nogil:
    """Run the nat table's POSTROUTING rules for a new connection: CNI-HOSTPORT-MASQ, KUBE-POSTROUTING, the agent's,
    Azure CNI's SWIFT-POSTROUTING.

    False: no address to masquerade with.
    """
    cdef uint8_t* l3 = p.frame + p.l3
    cdef nat_range_t chosen
    cdef conn_t* conn
    cdef uint32_t marked = p.mark & (MARK_HOST_PORT | MARK_MASQ)
    cdef bint six = p.ethertype != ETH_IP
    cdef bint localhost = (node.mask_localhost and not marked and not six and l3[IP_SRC] == 127
                           and node.interface[out].kind == IF_BRIDGE)
    if marked == MARK_MASQ:
        p.mark ^= MARK_MASQ
    if not (marked or localhost or (masqueraded6(node, l3 + IP6_DST) if six else masqueraded(node, p, load32(l3 + IP_DST)))) or (
            not six and ct_conn(node.conntrack, p.conn).original.src == 0):
        if node.n_snat and not six and snat_rule(node, l3) != NULL:
            chosen.min_ip = chosen.max_ip = snat_rule(node, l3).to
            chosen.min_port = chosen.max_port = 0
            chosen.flags = 0
            nat_setup(node.conntrack, p.conn, &chosen, MANIP_SRC, p.now, &node.rng)
            return True
        nat_setup_null(node.conntrack, p.conn, MANIP_SRC, p.now, &node.rng)
        return True
    chosen.min_ip = chosen.max_ip = select_address6(node, out, l3 + IP6_DST) if six else select_address(node, out, next_hop)
    if chosen.min_ip == 0:
        return False
    chosen.min_port, chosen.max_port = node.masquerade_min_port, node.masquerade_max_port
    chosen.flags = node.masquerade_flags
    if marked:
        chosen.min_port = chosen.max_port = 0
        chosen.flags = node.service_flags if marked == MARK_MASQ else <uint8_t>0
    elif localhost:
        chosen.min_port = chosen.max_port = 0
        chosen.flags = 0
    conn = ct_conn(node.conntrack, p.conn)
    conn.masquerade = out + 1
    node.mask = chosen.min_ip
    nat_setup(node.conntrack, p.conn, &chosen, MANIP_SRC, p.now, &node.rng)
    return True


cdef void setup_destination(node_t* node, packet_t* p) noexcept nogil:
    """Run the nat table's PREROUTING or OUTPUT rules for a new connection."""
    cdef const endpoint_t* endpoint = NULL
    cdef nat_range_t chosen
    if node.services.doors.used or node.services.host_doors.used:
        endpoint = service_endpoint(node, p, &ct_conn(node.conntrack, p.conn).original)
    if endpoint == NULL:
        nat_setup_null(node.conntrack, p.conn, MANIP_DST, p.now, &node.rng)
        return
    record(node, p, STAGE_SERVICE, endpoint.ip, PASS)
    chosen.min_ip = chosen.max_ip = endpoint.ip
    chosen.min_port = chosen.max_port = endpoint.port
    chosen.flags = RANGE_PORTS
    nat_setup(node.conntrack, p.conn, &chosen, MANIP_DST, p.now, &node.rng)


cdef int nat_hook(node_t* node, packet_t* p, manip_t manip, bint rules, uint16_t out, uint32_t next_hop) noexcept nogil:
    """nf_nat_ipv4_fn and nf_nat_inet_fn. `rules`: this is POSTROUTING; of the source hooks it alone has rules."""
    cdef conn_t* conn
    cdef uint8_t proto
    cdef uint32_t done = IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
    if p.conn == NO_CONN:
        return PASS
    conn = ct_conn(node.conntrack, p.conn)
    if p.info == CT_RELATED or p.info == CT_RELATED_REPLY:
        proto = protocol_of(p)
        if proto == PROTO_ICMP or proto == PROTO_ICMP6:
            if not writable(node, p):
                return drop(R_NOMEM)
            if not nat_icmp_error(node.conntrack, conn, <ctinfo_t>p.info, manip, p.missing == 0, p.frame + p.l3,
                                  p.length - p.l3):
                return drop(R_NAT_FAILED)
            record(node, p, STAGE_SOURCE_NAT if manip == MANIP_SRC else STAGE_DESTINATION_NAT, 0, PASS)
            return PASS
    if (p.info == CT_NEW or p.info == CT_RELATED or p.info == CT_RELATED_REPLY) and not conn.status & done:
        if manip == MANIP_DST:
            setup_destination(node, p)
        elif not rules:
            nat_setup_null(node.conntrack, p.conn, manip, p.now, &node.rng)
        elif not setup_source(node, p, out, next_hop):
            return drop(R_NAT_FAILED)
        conn = ct_conn(node.conntrack, p.conn)
    elif rules and conn.masquerade and conn.masquerade != out + 1 and (
            p.info == CT_ESTABLISHED or p.info == CT_RELATED or p.info == CT_NEW):
        ct_kill(node.conntrack, p.conn)
        p.conn = NO_CONN
        return drop(R_MASQUERADE_MOVED)
    # the opposite direction undoes what the other hook did: nf_nat_packet's statusbit
    if conn.status & (IPS_SRC_NAT if (manip == MANIP_SRC) == (p.info < CT_ESTABLISHED_REPLY) else IPS_DST_NAT):
        if not writable(node, p):
            return drop(R_NOMEM)
        if not nat_packet(node.conntrack, conn, <ctinfo_t>p.info, manip, p.frame + p.l3, p.length - p.l3):
            return drop(R_NAT_FAILED)
        record(node, p, STAGE_SOURCE_NAT if manip == MANIP_SRC else STAGE_DESTINATION_NAT, 0, PASS)
    return PASS


cdef int confirm(node_t* node, packet_t* p) noexcept nogil:
    cdef confirm_t outcome
    if p.conn == NO_CONN or p.info >= CT_ESTABLISHED_REPLY:     # an error about an unconfirmed connection
        return PASS
    if ct_conn(node.conntrack, p.conn).status & IPS_CONFIRMED:
        return PASS
    outcome = ct_confirm(node.conntrack, &p.conn, p.now)
    if outcome == CONFIRM_OK:
        record(node, p, STAGE_CONFIRM, 0, PASS)
        return PASS
    p.conn = NO_CONN
    return drop(R_CT_CLASH) if outcome == CONFIRM_CLASH else drop(R_CT_FULL)


cdef int prerouting(node_t* node, packet_t* p) noexcept nogil:
    """conntrack, then destination NAT. Fragments have been gathered before."""
    cdef int end = track(node, p, True)
    return end if end != PASS else nat_hook(node, p, MANIP_DST, False, 0, 0)


cdef int forward_hook(node_t* node, packet_t* p) noexcept nogil:
    """filter FORWARD: AKS's own drops; kube-proxy's firewall, INVALID dropped, the marked let pass, lone services."""
    if p.conn == NO_CONN:
        return drop(R_CT_INVALID) if node.drop_invalid and p.info != CT_UNTRACKED else PASS
    if node.services.refusals.used and p.info == CT_NEW:
        return service_refusal(node, p, FILTER_FORWARD)
    return PASS


cdef int input_hook(node_t* node, packet_t* p) noexcept nogil:
    """filter INPUT: lone node ports, KUBE-FIREWALL; source NAT of what reaches the node itself; confirm."""
    cdef int end = PASS
    cdef uint8_t* l3 = p.frame + p.l3
    if node.services.refusals.used and p.conn != NO_CONN and p.info == CT_NEW:
        end = service_refusal(node, p, FILTER_INPUT)
    if end == PASS and node.drop_invalid and p.ethertype == ETH_IP and load32(l3 + IP_DST) >> 24 == 127 and load32(l3 + IP_SRC) >> 24 != 127:
        if p.conn == NO_CONN or (p.info == CT_NEW and not ct_conn(node.conntrack, p.conn).status & IPS_DST_NAT):
            end = drop(R_LOCALNET)
    if end == PASS:
        end = nat_hook(node, p, MANIP_SRC, False, 0, 0)
    return end if end != PASS else confirm(node, p)


cdef int output_hook(node_t* node, packet_t* p) noexcept nogil:
    """conntrack, unless the packet is about another one and has that one's connection, then destination NAT, filter."""
    cdef int end = track(node, p, False) if p.conn == NO_CONN and p.info != CT_UNTRACKED else PASS
    if end == PASS:
        end = nat_hook(node, p, MANIP_DST, False, 0, 0)
    if end == PASS and node.services.refusals.used and p.conn != NO_CONN and p.info == CT_NEW:
        end = service_refusal(node, p, FILTER_OUTPUT)
    return end


cdef int postrouting(node_t* node, packet_t* p, uint16_t out, uint32_t next_hop) noexcept nogil:
    """Source NAT with the masquerade rules, then confirm."""
    cdef int end = nat_hook(node, p, MANIP_SRC, True, out, next_hop)
    return end if end != PASS else confirm(node, p)


cdef void let_go(node_t* node, packet_t* p) noexcept nogil:
    """The packet is done: a connection that nobody confirmed ends with it (nf_conntrack_put)."""
    if p.conn != NO_CONN and not ct_conn(node.conntrack, p.conn).status & IPS_CONFIRMED:
        ct_discard(node.conntrack, p.conn)
    p.conn = NO_CONN
