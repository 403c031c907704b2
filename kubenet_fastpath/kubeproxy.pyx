"""What kube-proxy's iptables rules do with a new connection, and after them the rules of host ports.

    nat    KUBE-SERVICES -> KUBE-SVC | KUBE-SVL | KUBE-FW | KUBE-EXT -> KUBE-SEP; KUBE-NODEPORTS -> KUBE-EXT;
           CNI-HOSTPORT-DNAT
    filter KUBE-PROXY-FIREWALL: whom KUBE-FW did not let in; KUBE-SERVICES, KUBE-EXTERNAL-SERVICES: addresses that
           have no endpoint to go to

Source: kubernetes 1.28 pkg/proxy/iptables/proxier.go (syncProxyRules), containernetworking/plugins
plugins/meta/portmap. An endpoint is drawn at once, and not by one `statistic` rule after the other: each is as likely
either way, but for the 1e-10 to which kube-proxy rounds.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport address_read, in_prefix, pool_read
from .context cimport destination_of, header_length, protocol_of
from .frame cimport ETH_IP, L4_DPORT, PROTO_SCTP, PROTO_TCP, PROTO_UDP, load16
from .route cimport owns
from .route6 cimport owns6
from .service_table cimport (
    DOOR_CLUSTER_IP, DOOR_EXTERNAL_IP, NEAR, REFUSE_FORWARD, REFUSE_NO_ENDPOINTS, REFUSE_SOURCE_RANGE, SPACE_ADDRESS, SPACE_HOST_PORT, SPACE_IP6, SPACE_NODE_PORT, clients_check, clients_set,
    clients_t, door_find, door_t, host_port_t, one_of, range_t, service_table_t,
)
from .verdict cimport PASS, R_NO_ENDPOINTS, R_NO_LOCAL_ENDPOINTS, R_SOURCE_RANGE, R_WIRESERVER, drop

cdef int64_t SECOND = 1_000_000_000


cdef inline bint in_cluster(const node_t* node, uint32_t ip, uint8_t family) noexcept nogil:
    cdef uint8_t[16] address
    if family == 6:
        pool_read(node.pool, ip, address)
        return in_prefix(address, &node.cluster6)
    return (ip ^ node.cluster.ip) & node.cluster.mask == 0


cdef inline bint is_own(const node_t* node, uint32_t ip, uint8_t family) noexcept nogil:
    cdef uint8_t[16] address
    if family == 4:
        return owns(node, ip)
    pool_read(node.pool, ip, address)
    return owns6(node, address)


cdef const endpoint_t* draw(node_t* node, packet_t* p, const door_t* door, bint local,
                            const tuple_t* to) noexcept nogil:
    """KUBE-SVC, or KUBE-SVL for this node's endpoints alone; NULL when there are none."""
    cdef uint32_t first = door.first + (door.n if local else <uint32_t>0)
    cdef uint32_t n = door.n_local if local else door.n, chosen = 0, i
    cdef clients_t** clients = node.services.clients + first
    cdef const endpoint_t* endpoint = &node.services.endpoint[first]
    if n == 0:
        return NULL
    if door.kind == DOOR_CLUSTER_IP and not in_cluster(node, to.src, to.family):
        p.mark |= MARK_MASQ
    if door.affinity:
        for i in range(n):
            if clients_check(clients[i], to.src, door.affinity * SECOND, p.now):
                chosen = i
                break
        else:
            chosen = one_of(&node.rng, n)
        clients_set(clients[chosen], to.src, p.now)
    else:
        chosen = one_of(&node.rng, n)
        if n <= NEAR and not local:
            endpoint = door.near
    endpoint += chosen
    if endpoint.ip == to.src:
        p.mark |= MARK_MASQ
    return endpoint


cdef const endpoint_t* external(node_t* node, packet_t* p, const door_t* door, const tuple_t* to) noexcept nogil:
    """KUBE-EXT: what comes by a node port or an external address."""
    if not door.external_local:
        p.mark |= MARK_MASQ
        return draw(node, p, door, False, to)
    if in_cluster(node, to.src, to.family):
        return draw(node, p, door, False, to)
    if is_own(node, to.src, to.family):
        p.mark |= MARK_MASQ
        return draw(node, p, door, False, to)
    return draw(node, p, door, True, to)


cdef bint let_in(const node_t* node, const door_t* door, const tuple_t* to) noexcept nogil:
    """KUBE-FW: whether a source is in one of the ranges."""
    cdef uint8_t[16] source
    cdef const range_t* row
    if door.ranges == 0:
        return True
    address_read(node.pool, to.src, to.family, source)
    row = &node.services.range[door.ranges - 1]
    while not in_prefix(source, &row.prefix) and not row.last:
        row += 1
    return in_prefix(source, &row.prefix)


cdef const endpoint_t* host_port(node_t* node, packet_t* p, const door_t* door, const tuple_t* to) noexcept nogil:
    cdef const host_port_t* row = &node.services.host_port[door.first]
    cdef uint8_t[16] source
    address_read(node.pool, to.src, to.family, source)
    if in_prefix(source, &row.masqueraded):
        p.mark |= row.mark
    return &row.pod


cdef const endpoint_t* service_endpoint(node_t* node, packet_t* p, const tuple_t* to) noexcept nogil:
    """Where the nat table sends a new connection, NULL: where it wants to go. Sets the packet's mark."""
    cdef const service_table_t* t = node.services
    cdef const endpoint_t* endpoint = NULL
    cdef const door_t* door
    cdef uint8_t six = 0
    if to.proto != PROTO_TCP and to.proto != PROTO_UDP and to.proto != PROTO_SCTP:
        return NULL
    if to.family == 6:
        six = SPACE_IP6
    door = door_find(t, &t.doors, SPACE_ADDRESS | six, to.dst, to.proto, to.dport)
    if door != NULL:
        if door.kind == DOOR_CLUSTER_IP:
            endpoint = draw(node, p, door, door.internal_local, to)
        elif let_in(node, door, to):
            endpoint = external(node, p, door, to)
    if endpoint == NULL:
        door = door_find(t, &t.doors, SPACE_NODE_PORT | six, 0, to.proto, to.dport)
        if door != NULL and is_own(node, to.dst, to.family):
            endpoint = external(node, p, door, to)
    if endpoint == NULL and t.host_doors.used:
        door = door_find(t, &t.host_doors, SPACE_HOST_PORT | six, to.dst, to.proto, to.dport)
        if door == NULL:
            door = door_find(t, &t.host_doors, SPACE_HOST_PORT | six, 0, to.proto, to.dport)
        if door != NULL and is_own(node, to.dst, to.family):
            endpoint = host_port(node, p, door, to)
    return endpoint


cdef int service_refusal(node_t* node, const packet_t* p, filter_hook_t hook) noexcept nogil:
    """What the filter table says to a packet whose ctstate is NEW: PASS, or a drop.

    R_NO_ENDPOINTS is a REJECT: the caller sends ICMP port unreachable.
    """
    cdef const service_table_t* t = node.services
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint8_t proto = protocol_of(p), family = 4 if p.ethertype == ETH_IP else 6, six = 0 if family == 4 else SPACE_IP6
    cdef uint32_t dst = destination_of(node, p)
    cdef uint16_t port
    cdef const door_t* door
    if proto != PROTO_TCP and proto != PROTO_UDP and proto != PROTO_SCTP:
        return PASS
    port = load16(l3 + header_length(p) + L4_DPORT)
    door = door_find(t, &t.refusals, SPACE_ADDRESS | six, dst, proto, port)
    if door != NULL and (hook == FILTER_INPUT and door.kind == DOOR_CLUSTER_IP
                         or hook == FILTER_OUTPUT and door.kind == DOOR_EXTERNAL_IP
                         and door.why != REFUSE_SOURCE_RANGE):
        door = NULL
    if door != NULL and door.why == REFUSE_FORWARD:
        if hook == FILTER_FORWARD:
            return drop(R_WIRESERVER)
        door = NULL
    if door == NULL and hook != FILTER_OUTPUT:         # forwarded is what was flooded
        door = door_find(t, &t.refusals, SPACE_NODE_PORT | six, 0, proto, port)
        if door != NULL and not is_own(node, dst, family):
            door = NULL
    if door == NULL or hook == FILTER_FORWARD and p.mark & MARK_MASQ and door.why != REFUSE_SOURCE_RANGE:
        return PASS
    if door.why == REFUSE_SOURCE_RANGE:
        return drop(R_SOURCE_RANGE)
    return drop(R_NO_ENDPOINTS) if door.why == REFUSE_NO_ENDPOINTS else drop(R_NO_LOCAL_ENDPOINTS)
