"""One packet's way through the node, top to bottom, for every packet of a batch in order.

    receive -> bridge (PREROUTING: defragmentation, conntrack, destination NAT; FDB; FORWARD; source NAT)
            -> the node's stack: ARP, or IPv4, or IPv6 (PREROUTING, route, TTL, FORWARD, source NAT, neighbour, bridge out)

A batch means its packets one by one. What runs ahead of a packet's turn only brings memory nearer.

Longer than its neighbours, for here the stages meet: the order of a frame's way in, the timers that run between two
frames, the columns that come in and go out.
"""

cimport cython
cimport numpy as cnp
import numpy as np

from .isa import available

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from .address_pool cimport AddressPool, pool_intern, pool_keep, pool_pin, pool_sweep, prefix_t
from .arp cimport arp_forget, arp_proxy_answer, arp_receive
from .bridge cimport bridge_receive
from .conntrack cimport (
    CT_ESTABLISHED_REPLY, CT_INVALID, IPS_CONFIRMED, IPS_DYING, NO_CONN, ConnectionTable, conn_t, ct_conn, ct_t, tuple_t,
)
from .context cimport (
    IF_BRIDGE_PORT, IF_NONE, IF_ROUTED, MAX_ADDRESSES, MAX_CIDRS, MAX_SNAT_RULES, NO_HOP, NO_INTERFACE, PACKET_BROADCAST, PACKET_HOST,
    PACKET_MULTICAST, PACKET_OTHERHOST, ROUTE_LOCAL, destination_of, interface_t, nexthop_t, node_t, out_t, packet_t, record, release_scratch, scratch, source_of, unlikely,
)
from .defrag cimport defrag_expire, defrag_next_due, defrag_t, expired_t, queue_t
from .egress cimport lose, solicit, waited
from .fastpath cimport KF_KEYED, KF_UDP, batch_t, fastpath_free, fastpath_init, fastpath_learn, fastpath_run, fastpath_t
from .fdb cimport ForwardingDatabase, fdb_age
from .fib cimport RouteTable, fib_enter, fib_leave
from .forward cimport ip_receive
from .forward6 cimport ip6_receive
from .fragment_table cimport FragmentTable
from .frame cimport (
    ETH_ARP, ETH_DST, ETH_IP, ETH_IP6, ETH_LEN, ICMP6_TIME_EXCEEDED, ICMP6_UNREACH, ETH_QINQ, ETH_TYPE, ETH_VLAN, ICMP_TIME_EXCEEDED, ICMP_UNREACH, IP_DST, IP_FRAG, IP_MF, IP_OFFSET,
    IP_SRC, VLAN_LEN, load16, load32, load_mac,
)
from .header6 cimport find_transport
from .hooks cimport let_go
from .isa cimport isa_number
from .icmp cimport icmp_send
from .icmp6 cimport icmp6_send, icmp6_send_bridged
from .lookahead cimport fastpath_look
from .multicast cimport multicast_forget, multicast_free, multicast_init
from .neighbour cimport (
    NEIGH_KNOWN, NEIGH_NOTHING, NEIGH_PROBE, NUD_FAILED, NeighbourTable, event_t, held_t, neigh_table_t, neigh_take, neigh_timer,
)
from .options cimport options_read_again
from .path_mtu cimport NO_PATH, PATH_DEPTH, PathMtuTable, path_mtu_t, path_relinked
from .parallel cimport KF_CREW_MOST, parallel_check, parallel_free, parallel_new, parallel_run, parallel_shape, parallel_t
from .recorder cimport STAGE_RECEIVE, STAGE_VERDICT, recorder_rows, recorder_start, recorder_t
from .resolution cimport release
from .route cimport route_input
from .rows cimport outside_at
from .service_table cimport ServiceTable, clients_t
from .vector cimport vector, vector_data, vector_length, vector_new, vector_size
from .verdict cimport (
    N_REASONS, N_VERDICTS, PASS, R_FRAG_TIMEOUT, R_NEIGH_FAILED, R_NO_SUCH_PORT, R_NOMEM, R_OTHERHOST, R_PKT_TOO_SMALL, R_TRUNCATED,
    R_UNHANDLED_PROTO, V_DROP, drop,
)

cnp.import_array()

cdef enum:
    HOST_UNREACH = 1
    ADDRESS_UNREACH = 3         # ICMPv6's
    FREE_NEIGHBOUR = 0xFFFF     # device of a row that is free
    FRAGMENT_TIME = 1           # ICMP_EXC_FRAGTIME
    MAX_FRAME = ETH_LEN + 2 * VLAN_LEN + 65535

cdef uint64_t BROADCAST = 0xFFFFFFFFFFFF

cdef object NOTHING = np.empty(0, np.uint8)
NOTHING.flags.writeable = False


cdef inline object column(object values, int kind, Py_ssize_t n, str name):
    values = vector(values, kind, False, name)
    vector_length(values, n, name)
    return values


cdef void begin(packet_t* p, uint8_t* frame, uint32_t length, uint16_t port, int64_t now, int32_t source) noexcept nogil:
    p.frame, p.length, p.missing, p.l3 = frame, length, 0, ETH_LEN
    p.conn, p.hop, p.origin = NO_CONN, NO_HOP, NULL
    p.now, p.source, p.port, p.dev, p.info = now, source, port, port, CT_INVALID
    p.ethertype, p.type, p.mark = 0, PACKET_OTHERHOST, 0
    p.record_route = p.timestamp = p.label = p.source_route = p.option_flags = p.proto = 0
    p.iif, p.l4 = NO_INTERFACE, 0
    p.tagged = p.vlan_zero = p.shared = p.hooked = p.redirect = p.ours = p.bridged = p.plain = p.summed = False


cdef int untag(packet_t* p) noexcept nogil:
    """Take the outer VLAN tag off (skb_vlan_untag)."""
    if p.length < p.l3 + VLAN_LEN + 2:
        return drop(R_PKT_TOO_SMALL)
    p.vlan_zero = load16(p.frame + p.l3) & 0xFFF == 0
    p.ethertype = load16(p.frame + p.l3 + 2)
    p.l3 += VLAN_LEN
    p.tagged = True
    return PASS


cdef int stack(node_t* node, packet_t* p) noexcept nogil:
    """The host's protocols (__netif_receive_skb_core behind the bridge): priority tags come off, others end here."""
    cdef int end
    while p.tagged:
        if not p.vlan_zero:
            return drop(R_OTHERHOST)
        p.tagged = False
        if p.ethertype == ETH_VLAN or p.ethertype == ETH_QINQ:
            end = untag(p)
            if end != PASS:
                return end
    if p.length - p.missing < p.l3:
        return drop(R_TRUNCATED)
    if p.ethertype == ETH_IP:
        return ip_receive(node, p)
    if p.ethertype == ETH_ARP:
        return arp_receive(node, p)
    if p.ethertype == ETH_IP6:
        return ip6_receive(node, p)
    return drop(R_OTHERHOST) if p.type == PACKET_OTHERHOST else drop(R_UNHANDLED_PROTO)


cdef int receive(node_t* node, packet_t* p) noexcept nogil:
    """A frame comes in by a port: its fate."""
    cdef interface_t* port
    cdef packet_t up
    cdef uint64_t dst
    cdef int end, above
    if p.port >= node.n_interfaces:
        return drop(R_NO_SUCH_PORT)
    port = &node.interface[p.port]
    if port.kind != IF_ROUTED and port.kind != IF_BRIDGE_PORT:
        return drop(R_NO_SUCH_PORT)
    port.rx_packets += 1
    port.rx_bytes += p.length
    if p.length < ETH_LEN:
        return drop(R_PKT_TOO_SMALL)
    if p.length - p.missing < ETH_LEN:
        return drop(R_TRUNCATED)
    dst = load_mac(p.frame + ETH_DST)
    if dst == port.mac:
        p.type = PACKET_HOST
    elif dst >> 40 & 1:
        p.type = PACKET_BROADCAST if dst == BROADCAST else PACKET_MULTICAST
    else:
        p.type = PACKET_OTHERHOST
    p.ethertype = load16(p.frame + ETH_TYPE)
    if p.ethertype == ETH_VLAN or p.ethertype == ETH_QINQ:
        end = untag(p)
        if end != PASS:
            return end
    if port.kind == IF_ROUTED:
        end = stack(node, p)
        let_go(node, p)
        return end
    end = bridge_receive(node, p, &up)
    if end == PASS:
        end = stack(node, p)
    elif up.frame != NULL:
        above = stack(node, &up)
        let_go(node, &up)
        if end >> 8 == V_DROP and above >> 8 != V_DROP:
            end = above
    let_go(node, p)
    return end


cdef bint same_connection(node_t* node, const packet_t* p) noexcept nogil:
    """Whether the packet's connection is still the one it had when it began to wait: rows are used again."""
    cdef conn_t* conn = ct_conn(node.conntrack, p.conn)
    cdef tuple_t* tuple = &conn.original if p.info >= CT_ESTABLISHED_REPLY else &conn.reply
    return (conn.status & IPS_CONFIRMED and tuple.src == destination_of(node, p) and tuple.dst == source_of(node, p)
            and tuple.family == (4 if p.ethertype == ETH_IP else 6))


cdef void fail_neighbour(node_t* node, neigh_table_t* t, uint32_t index) noexcept nogil:
    """Nobody answered: every waiting packet dies, and its sender is told (neigh_invalidate, arp_error_report).

    An error may have to go to this very neighbour, and ask for it anew; then nobody else is told. Or the row is gone.
    """
    cdef held_t* h
    cdef packet_t p
    cdef uint32_t ip = t.row[index].ip
    cdef uint16_t dev = t.row[index].dev
    cdef bint told
    while t.row[index].ip == ip and t.row[index].dev == dev:
        told = t.row[index].state == NUD_FAILED
        h = neigh_take(t, index)
        if h == NULL:
            return
        p = waited(node, h, -1)
        if p.frame != NULL and not p.ours and told:
            if p.conn != NO_CONN and not p.bridged and not same_connection(node, &p):
                p.conn, p.info = NO_CONN, CT_INVALID
            if t.family == 6:
                icmp6_send(node, &p, ICMP6_UNREACH, ADDRESS_UNREACH, 0)
            elif options_read_again(node, &p):
                icmp_send(node, &p, ICMP_UNREACH, HOST_UNREACH, 0)
        lose(node, &p, R_NEIGH_FAILED)


cdef void end_reassembly(node_t* node, const expired_t* expired) noexcept nogil:
    """A datagram stayed incomplete. Of IPv4 the sender is told for one to the node itself alone (ip_expire), of IPv6 for
    any (ip6frag_expire_frag_queue). In the bridge's hooks all frames to one host are the node's (setup_pre_routing)."""
    cdef bint six, bridged = expired.user & 1
    cdef uint64_t dst
    cdef packet_t p
    node.reasons[R_FRAG_TIMEOUT] += expired.fragments
    node.generated_drops += expired.fragments
    if expired.frame == NULL:
        return
    begin(&p, scratch(node, expired.end), expired.end, expired.port, node.now, -1)
    if p.frame == NULL or expired.port >= node.n_interfaces or node.interface[expired.port].kind == IF_NONE:
        return
    memcpy(p.frame, expired.frame, expired.end)
    six = p.frame[expired.l3] >> 4 == 6
    p.l3, p.ethertype = expired.l3, ETH_IP6 if six else ETH_IP
    if node.interface[p.port].kind == IF_BRIDGE_PORT:
        p.dev = node.interface[p.port].bridge
    dst = load_mac(p.frame + ETH_DST)
    p.type = PACKET_HOST if dst == node.interface[p.dev].mac or (bridged and not dst >> 40 & 1) else PACKET_OTHERHOST
    if six:
        p.iif = p.dev
        find_transport(&p)
        if bridged:
            icmp6_send_bridged(node, &p, ICMP6_TIME_EXCEEDED, FRAGMENT_TIME, 0)
        else:
            icmp6_send(node, &p, ICMP6_TIME_EXCEEDED, FRAGMENT_TIME, 0)
    elif route_input(node, &p, load32(p.frame + p.l3 + IP_SRC), load32(p.frame + p.l3 + IP_DST), False) == PASS and (
            p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_LOCAL):
        icmp_send(node, &p, ICMP_TIME_EXCEEDED, FRAGMENT_TIME, 0)


cdef void run_timers(node_t* node, int64_t now) noexcept nogil:
    """Let everything happen that is due up to now, in order, each at its own time."""
    cdef uint32_t index
    cdef int64_t when
    cdef event_t event
    cdef expired_t expired
    cdef neigh_table_t* t
    cdef defrag_t* fragments
    while True:
        fragments = node.defrag if defrag_next_due(node.defrag) <= defrag_next_due(node.defrag6) else node.defrag6
        when = defrag_next_due(fragments)
        t = node.neighbours if node.neighbours.due <= node.neighbours6.due else node.neighbours6
        if node.n_proxied and node.proxied_due <= min(now, when, t.due):
            fdb_age(node.fdb, node.proxied_due)
            arp_proxy_answer(node)
        elif when <= now and when <= t.due:
            node.now = max(node.now, when)
            fdb_age(node.fdb, when)
            if defrag_expire(fragments, when, &expired):
                end_reassembly(node, &expired)
        elif t.due <= now:
            event = neigh_timer(t, min(now, t.due), &index, &when)
            if event == NEIGH_NOTHING:
                continue
            node.now = max(node.now, when)
            fdb_age(node.fdb, when)
            if event == NEIGH_PROBE:
                solicit(node, t, index, -1)
            elif event == NEIGH_KNOWN:
                release(node, t, index, -1)
            else:
                fail_neighbour(node, t, index)
        else:
            break
    fdb_age(node.fdb, now)
    node.now = max(node.now, now)


cdef prefix_t make_prefix(const uint8_t[::1] octets, uint8_t length):
    cdef prefix_t prefix
    memcpy(prefix.ip, &octets[0], 16)
    prefix.length = length
    return prefix


cdef void keep_addresses(node_t* node) noexcept nogil:
    """Give back the IPv6 addresses that no table needs any more, now that no packet is on its way."""
    cdef ct_t* ct = node.conntrack
    cdef conn_t* c
    cdef clients_t* list
    cdef queue_t* queue = node.defrag6.oldest
    cdef uint32_t i, k
    while queue != NULL:
        pool_keep(node.pool, queue.src)
        pool_keep(node.pool, queue.dst)
        queue = queue.newer
    for i in range(ct.used):
        c = ct_conn(ct, i)
        if c.original.family == 6 and not c.status & IPS_DYING:
            pool_keep(node.pool, c.original.src)
            pool_keep(node.pool, c.original.dst)
            pool_keep(node.pool, c.reply.src)
            pool_keep(node.pool, c.reply.dst)
    for i in range(node.neighbours6.n_rows):
        if node.neighbours6.row[i].dev != FREE_NEIGHBOUR:
            pool_keep(node.pool, node.neighbours6.row[i].ip)
    for i in range(node.path_mtus.n_buckets * PATH_DEPTH):
        if node.path_mtus.row[i].hop != NO_PATH and node.path_mtus.row[i].six:
            pool_keep(node.pool, node.path_mtus.row[i].ip)
    if node.icmp6.peer != NULL:
        for i in range(node.icmp6.mask + 1):
            if node.icmp6.peer[i].ip:
                pool_keep(node.pool, node.icmp6.peer[i].ip)
    for i in range(node.services.n_endpoints):
        list = node.services.clients[i]
        if list != NULL and node.services.endpoint[i].family == 6:
            for k in range(list.n):
                pool_keep(node.pool, list.ip[k])
    pool_sweep(node.pool)


@cython.final
cdef class Pipeline:
    """The compiled part of a node. `node.Node` owns one and is its only user."""

    cdef node_t node
    cdef recorder_t recorder
    cdef fastpath_t fast
    cdef parallel_t* parallel       # NULL: one thread does all
    cdef readonly RouteTable routes
    cdef readonly ForwardingDatabase fdb
    cdef readonly ConnectionTable connections
    cdef readonly NeighbourTable neighbours
    cdef readonly FragmentTable fragments
    cdef readonly ServiceTable services
    cdef readonly RouteTable routes6
    cdef readonly NeighbourTable neighbours6
    cdef readonly FragmentTable fragments6
    cdef readonly AddressPool addresses
    cdef readonly PathMtuTable path_mtus

    def __cinit__(self, RouteTable routes not None, ForwardingDatabase fdb not None,
                  ConnectionTable connections not None, NeighbourTable neighbours not None,
                  FragmentTable fragments not None, ServiceTable services not None, RouteTable routes6 not None,
                  NeighbourTable neighbours6 not None, FragmentTable fragments6 not None, AddressPool addresses not None,
                  PathMtuTable path_mtus not None):
        self.routes, self.fdb, self.connections = routes, fdb, connections
        self.neighbours, self.fragments, self.services = neighbours, fragments, services
        self.node.fib, self.node.fdb, self.node.conntrack = routes.fib, fdb.table, connections.table
        self.node.neighbours, self.node.defrag = &neighbours.table, fragments.table
        self.node.services = &services.table
        self.path_mtus, self.node.path_mtus = path_mtus, &path_mtus.table
        self.routes6, self.neighbours6, self.addresses = routes6, neighbours6, addresses
        self.fragments6, self.node.defrag6 = fragments6, fragments6.table
        self.node.neighbours6, self.node.pool = &neighbours6.table, &addresses.pool
        self.node.now = -0x8000000000000000
        self.node.stack = stack
        if not fastpath_init(&self.fast, isa_number(None)):
            raise MemoryError("no memory for a node")

    def __dealloc__(self):
        release_scratch(&self.node)
        fastpath_free(&self.fast)
        parallel_free(self.parallel)
        free(self.node.proxied)
        if not self.node.out_lent:
            free(self.node.out)
        free(self.node.interface)
        free(self.node.hops)
        free(self.node.icmp.peer)
        free(self.node.icmp6.peer)
        free(self.recorder.note)
        multicast_free(&self.node.multicast)

    def configure(self, *, bridge_nf, drop_invalid, verify_checksums, dedup, masquerade, masquerade_flags,
                  masquerade_ports, direct, cluster, service_flags, icmp_interval_ns, icmp_per_second, icmp_burst, seed,
                  multicast_snooping=True, snat=(), proxy_delay_ns=0):
        """Set what the plan says of the node as a whole.

        `dedup` is None or (gateway, network, mask); `direct` lists (network, mask) of destinations that are not
        masqueraded; `masquerade_ports` is (first, last); `cluster` is (network, mask) of all pods; `service_flags` are
        RANGE_* of kube-proxy's masquerading; `snat` lists (network, mask, dst, protocol, port, to).
        """
        cdef node_t* node = &self.node
        node.changes += 1
        if len(direct) > MAX_CIDRS:
            raise ValueError(f"at most {MAX_CIDRS} CIDRs can be left alone, not {len(direct)}")
        node.bridge_nf, node.drop_invalid, node.verify_checksums = bridge_nf, drop_invalid, verify_checksums
        node.dedup = dedup is not None
        if dedup is not None:
            node.dedup_gateway, node.dedup_pods.ip, node.dedup_pods.mask = dedup
        node.masquerade, node.masquerade_flags = masquerade, masquerade_flags
        node.masquerade_min_port, node.masquerade_max_port = masquerade_ports
        for i, (network, mask) in enumerate(direct):
            node.direct[i].ip, node.direct[i].mask = network, mask
        node.n_direct = len(direct)
        node.proxy_delay = proxy_delay_ns
        if len(snat) > MAX_SNAT_RULES:
            raise ValueError(f"at most {MAX_SNAT_RULES} rules of SNAT, not {len(snat)}")
        for i, (network, mask, dst, proto, port, to) in enumerate(snat):
            node.snat[i].network, node.snat[i].mask, node.snat[i].dst = network, mask, dst
            node.snat[i].proto, node.snat[i].port, node.snat[i].to = proto, port, to
        node.n_snat = len(snat)
        node.cluster.ip, node.cluster.mask = cluster
        node.service_flags = service_flags
        node.icmp.interval, node.icmp.per_second = icmp_interval_ns, icmp_per_second
        node.icmp.burst = node.icmp.credit = icmp_burst
        node.rng = <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)
        node.ip_id = <uint16_t>(seed * 40503 & 0xFFFF)
        multicast_free(&node.multicast)
        multicast_init(&node.multicast, <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF))
        node.multicast.off = not multicast_snooping

    def configure6(self, *, bridge_nf, masquerade, direct, cluster, icmp_interval_ns, local_hop, anycast_hop, dedup=None):
        """Set what the plan says of IPv6: before this the node has none.

        `direct` and `cluster` are (network, length) with networks of 16 bytes; `dedup` is None or (gateway, network,
        length); the hops are indices of `set_hops`.
        """
        cdef node_t* node = &self.node
        if len(direct) > MAX_CIDRS:
            raise ValueError(f"at most {MAX_CIDRS} IPv6 CIDRs can be left alone, not {len(direct)}")
        node.changes += 1
        node.fib6 = self.routes6.fib
        node.bridge_nf6, node.masquerade6 = bridge_nf, masquerade
        for i, (network, length) in enumerate(direct):
            node.direct6[i] = make_prefix(network, length)
        node.n_direct6 = len(direct)
        node.cluster6 = make_prefix(cluster[0], cluster[1])
        node.icmp6.interval = icmp_interval_ns
        node.local_hop6, node.anycast_hop6 = local_hop, anycast_hop
        node.dedup6 = dedup is not None
        if dedup is not None:
            node.dedup_gateway6 = make_prefix(dedup[0], 128)
            node.dedup_pods6 = make_prefix(dedup[1], dedup[2])

    def reseed(self, uint64_t seed):
        """The node's random choices start anew from here."""
        self.node.rng = seed

    def set_localhost_masquerade(self, bint on):
        """Whether kubelet's `-s 127.0.0.0/8 -o cbr0 -j MASQUERADE` is there, as it is with its host ports."""
        self.node.mask_localhost = on
        self.node.changes += 1

    cdef void relink(self, uint16_t index, uint32_t mtu):
        """A link carries `mtu` bytes from now on, or is gone if that is 0, and its paths with it."""
        cdef uint32_t i
        cdef path_mtu_t* path
        for i in range(self.node.path_mtus.n_buckets * PATH_DEPTH):
            path = &self.node.path_mtus.row[i]
            if path.hop == NO_PATH or self.node.hops[path.hop].dev != index:
                continue
            if mtu == 0:
                path.hop = NO_PATH
            elif mtu != self.node.interface[index].mtu:
                path_relinked(path, self.node.interface[index].mtu, mtu)

    def set_interface(self, uint16_t index, *, kind, mac, mtu, addresses=(), bridge=0, promiscuous=False, hairpin=False,
                      proxy_arp=False, rp_filter=0, send_redirects=True, route_localnet=False, group_fwd_mask=0, addresses6=(),
                      link_hop=0xFFFFFFFF):
        """Attach or change an interface; its counters stay. Kind 0: it is down.

        `addresses6` are (16 bytes, length), link-local last.
        """
        cdef interface_t* i
        cdef interface_t* grown
        for family in (addresses, addresses6):
            if len(family) > MAX_ADDRESSES:
                raise ValueError(f"an interface has at most {MAX_ADDRESSES} addresses, not {len(family)}")
        if index >= self.node.n_interfaces:
            grown = <interface_t*>realloc(self.node.interface, (index + 1) * sizeof(interface_t))
            if grown == NULL:
                raise MemoryError("no memory for an interface")
            memset(grown + self.node.n_interfaces, 0, (index + 1 - self.node.n_interfaces) * sizeof(interface_t))
            self.node.interface, self.node.n_interfaces = grown, index + 1
        i = &self.node.interface[index]
        if kind == IF_NONE:
            multicast_forget(&self.node.multicast, index)
            arp_forget(&self.node, index)
        self.relink(index, 0 if kind == IF_NONE else mtu)
        i.kind, i.mac, i.mtu, i.bridge = kind, mac, mtu, bridge
        i.promiscuous, i.hairpin, i.proxy_arp = promiscuous, hairpin, proxy_arp
        i.rp_filter, i.send_redirects, i.route_localnet = rp_filter, send_redirects, route_localnet
        i.group_fwd_mask = group_fwd_mask
        for k, (ip, mask) in enumerate(addresses):
            i.address[k].ip, i.address[k].mask = ip, mask
        i.n_addresses = len(addresses)
        for k, (octets, length) in enumerate(addresses6):
            i.address6[k].prefix = make_prefix(octets, length)
            i.address6[k].handle = pool_intern(self.node.pool, i.address6[k].prefix.ip)
            pool_pin(self.node.pool, i.address6[k].handle)
        i.n_addresses6, i.link_hop = len(addresses6), link_hop
        self.node.changes += 1

    def remove_interface(self, uint16_t index):
        """Detach an interface: frames that come in by it are refused, and its counters are gone."""
        multicast_forget(&self.node.multicast, index)
        arp_forget(&self.node, index)
        self.node.changes += 1
        self.relink(index, 0)
        if index < self.node.n_interfaces:
            memset(&self.node.interface[index], 0, sizeof(interface_t))

    def set_hops(self, hops):
        """Replace the next hops: (type, dev, gateway, source) each; the FIB's results are indices into them."""
        cdef nexthop_t* row = <nexthop_t*>calloc(max(1, len(hops)), sizeof(nexthop_t))
        cdef path_mtu_t* path
        cdef uint32_t i, n = <uint32_t>len(hops)
        if row == NULL:
            raise MemoryError("no memory for next hops")
        try:
            for k, (kind, dev, gateway, source) in enumerate(hops):
                row[k].type, row[k].dev, row[k].gateway, row[k].source = kind, dev, gateway, source
        except BaseException:
            free(row)
            raise
        for i in range(self.node.path_mtus.n_buckets * PATH_DEPTH):
            path = &self.node.path_mtus.row[i]
            if path.hop != NO_PATH and (path.hop >= n or memcmp(&row[path.hop], &self.node.hops[path.hop], sizeof(nexthop_t)) != 0):
                path.hop = NO_PATH
        free(self.node.hops)
        self.node.hops, self.node.n_hops = row, len(hops)
        self.node.changes += 1

    cdef void one(self, const batch_t* b, Py_ssize_t i, Py_ssize_t k) noexcept nogil:
        """Packet i of a batch, number k of the burst that was looked at, goes the full path."""
        cdef uint8_t* frame = b.base + b.offset[i]
        cdef uint32_t length = b.length[i], wire_length = b.wire_length[i]
        cdef uint8_t glance = self.fast.glance.kind[k]
        cdef node_t* node = &self.node
        cdef packet_t p
        cdef int end
        if b.time[i] > node.now:
            run_timers(node, b.time[i])
        begin(&p, frame, length, b.port[i], node.now, <int32_t>i)
        end = PASS
        if wire_length > length:
            p.length = min(wire_length, <uint32_t>MAX_FRAME)
            p.missing = p.length - min(length, p.length)
            p.frame = scratch(node, p.length)
            if p.frame == NULL:
                end = drop(R_NOMEM)
            else:
                if p.length > p.missing:            # a batch without a byte has no address
                    memcpy(p.frame, frame, p.length - p.missing)
                memset(p.frame + p.length - p.missing, 0, p.missing)
        if end == PASS:
            if p.missing == 0:
                p.plain, p.summed = glance > KF_KEYED, glance == KF_UDP
                node.look.head, node.look.tail = self.fast.glance.head[k], self.fast.glance.tail[k]
                node.look.hash = self.fast.hash[k]
            record(node, &p, STAGE_RECEIVE, b.port[i], PASS)
            end = receive(node, &p)
        if unlikely(node.recorder != NULL):
            begin(&p, NULL, 0, b.port[i], node.now, <int32_t>i)
            record(node, &p, STAGE_VERDICT, 0, end)
        b.verdict[i], b.reason[i] = <uint8_t>(end >> 8), <uint8_t>(end & 0xFF)
        node.verdicts[end >> 8] += 1
        node.reasons[end & 0xFF] += 1

    def forward(self, object data, object offset, object length, object wire_length, object port, object time):
        """Run a batch. The frames are rewritten in place.

        Parameters
        ----------
        data, offset, length, wire_length, port, time
            Columns of a `PacketBatch`.

        Returns
        -------
        verdict, reason : (N,) ndarray of uint8
        outputs : (32 M,) ndarray of uint8
            Rows of `result.OUTPUT`.
        data
            As given.
        generated : (G,) ndarray of uint8
            Frames that are not in `data`; an output's `offset` points there when it is `generated`.

        Raises
        ------
        TypeError, ValueError
            For columns that do not agree any more, for they can be changed behind the batch's back, and for read-only
            bytes. Nothing has changed then.

        Notes
        -----
        The columns are read where they are, with the GIL released. Nobody may write to them, or to the frames, meanwhile:
        that a frame lies within the bytes is looked at once.
        """
        cdef object frames = vector(data, cnp.NPY_UINT8, False, "data")
        cdef object verdict, reason
        cdef batch_t batch
        cdef Py_ssize_t i = 0, again, until, first, end, n
        cdef int epoch, epoch6
        cdef parallel_t* parallel = self.parallel
        if not cnp.PyArray_ISWRITEABLE(frames):
            raise ValueError("batch has read-only bytes, and forwarding rewrites them: pass batch.copy()")
        offset = vector(offset, cnp.NPY_INT64, False, "offset")
        n = vector_size(offset)
        length = column(length, cnp.NPY_UINT32, n, "length")
        wire_length = column(wire_length, cnp.NPY_UINT32, n, "wire_length")
        port = column(port, cnp.NPY_UINT16, n, "port")
        time = column(time, cnp.NPY_INT64, n, "time")
        verdict, reason = vector_new(n, cnp.NPY_UINT8), vector_new(n, cnp.NPY_UINT8)
        batch.base, batch.size = <uint8_t*>vector_data(frames), <uint64_t>vector_size(frames)
        batch.offset, batch.length = <const int64_t*>vector_data(offset), <const uint32_t*>vector_data(length)
        batch.wire_length, batch.port = <const uint32_t*>vector_data(wire_length), <const uint16_t*>vector_data(port)
        batch.time = <const int64_t*>vector_data(time)
        batch.verdict, batch.reason = <uint8_t*>vector_data(verdict), <uint8_t*>vector_data(reason)
        if parallel != NULL and n < parallel.least:
            parallel = NULL
        if parallel == NULL:
            i = outside_at(batch.size, batch.offset, batch.length, n)
        else:
            with nogil:
                i = parallel_check(parallel, &batch, n)
        if i < n:
            raise ValueError(f"frame {i} at offset {batch.offset[i]} with length {batch.length[i]} is outside the "
                             f"{batch.size} bytes of data")
        self.node.batch, self.node.batch_size = <int64_t>batch.base, batch.size
        if self.node.pool.used >= self.node.pool.sweep_at:
            keep_addresses(&self.node)
        outputs = self.lend_outputs(n)
        epoch, epoch6 = fib_enter(self.routes.fib), fib_enter(self.routes6.fib)
        with nogil:
            i = again = 0
            while i < n:
                if parallel != NULL and i >= again and n - i >= parallel.least:
                    i = parallel_run(parallel, &self.fast, &self.node, &batch, i, n)
                    if i == n:
                        break
                    again = i + parallel.wait
                first = i
                until = min(n, again) if again > i else n
                end = i + fastpath_look(&self.fast, &self.node, &batch, i, until)
                while True:
                    i = fastpath_run(&self.fast, &self.node, &batch, first, i, end)
                    if i == end:
                        break
                    self.one(&batch, i, i - first)
                    fastpath_learn(&self.fast, &self.node, &batch, i)
                    i += 1
                    while i < end and self.fast.chain[i - first] != NULL:   # another first packet
                        self.one(&batch, i, i - first)
                        i += 1
        fib_leave(self.routes.fib, epoch)
        fib_leave(self.routes6.fib, epoch6)
        outputs, generated = self.take_outputs(outputs)
        return verdict, reason, outputs, data, generated

    def start_notes(self, bint timed):
        """Note from now on what every packet meets, in each of its stages; and how long that took, if it is `timed`."""
        recorder_start(&self.recorder, timed)
        self.node.recorder = &self.recorder

    def take_notes(self):
        """Note nothing more; returns the notes, (N,) of recorder.NOTE."""
        self.node.recorder = NULL
        return recorder_rows(&self.recorder)

    def advance(self, int64_t now):
        """Let time pass without a packet; returns what `forward` returns."""
        cdef int epoch = fib_enter(self.routes.fib), epoch6 = fib_enter(self.routes6.fib)
        self.node.batch_size = 0
        with nogil:
            if now > self.node.now:
                run_timers(&self.node, now)
        fib_leave(self.routes.fib, epoch)
        fib_leave(self.routes6.fib, epoch6)
        return self.take_outputs(None)

    cdef object lend_outputs(self, Py_ssize_t n):
        """Room for n outputs, which most batches do not exceed: the array that will be given back."""
        cdef object rows = vector_new(n * <Py_ssize_t>sizeof(out_t), cnp.NPY_UINT8)
        free(self.node.out)
        self.node.out, self.node.out_capacity, self.node.out_lent = <out_t*>vector_data(rows), n, True
        return rows

    cdef object take_outputs(self, object rows):
        """What left, and the bytes of what is not among the batch's; nothing is kept, without memory neither. `rows` is
        what was lent."""
        cdef node_t* node = &self.node
        cdef size_t i, n = node.n_out, at = 0
        cdef out_t* out
        cdef uint8_t* bytes_made
        try:
            made = vector_new(node.made, cnp.NPY_UINT8) if node.made else NOTHING
            if node.made:
                bytes_made = <uint8_t*>vector_data(made)
                for i in range(n):
                    out = &node.out[i]
                    if out.generated:
                        memcpy(bytes_made + at, <const void*>out.frame, out.length)
                        out.frame = at
                        at += out.length
            if not node.out_lent:
                rows = vector_new(n * sizeof(out_t), cnp.NPY_UINT8)
                if n:       # without any the address is NULL, which memcpy must not be given
                    memcpy(vector_data(rows), node.out, n * sizeof(out_t))
            elif n != node.out_capacity:
                rows = rows[:n * sizeof(out_t)] if 4 * n > node.out_capacity else rows[:n * sizeof(out_t)].copy()
        finally:
            if not node.out_lent:
                free(node.out)
            node.out, node.out_capacity, node.out_lent = NULL, 0, False
            release_scratch(node)
        return rows, made

    @property
    def now(self):
        """Time of the latest packet or `advance`, in ns; None before the first."""
        return None if self.node.now == -0x8000000000000000 else self.node.now

    def verdict_counts(self):
        """(6,) list: packets by Verdict since the node was made."""
        return [self.node.verdicts[i] for i in range(N_VERDICTS)]

    def reason_counts(self):
        """(128,) list: packets by Reason since the node was made."""
        return [self.node.reasons[i] for i in range(N_REASONS)]

    @property
    def fast_path(self):
        """Whether established flows go the short way; what they do is the same."""
        return not self.fast.off

    @fast_path.setter
    def fast_path(self, bint on):
        self.fast.off = not on

    @property
    def isa(self):
        """The variant in which frames are looked at; `isa.available` lists them."""
        return available()[self.fast.isa]

    @isa.setter
    def isa(self, name):
        self.fast.isa = isa_number(name)

    @property
    def workers(self):
        """How many threads share a large batch; what it means is the same."""
        return 1 if self.parallel == NULL else self.parallel.workers

    @workers.setter
    def workers(self, uint32_t n):
        cdef parallel_t* parallel = NULL
        if not 1 <= n <= KF_CREW_MOST:
            raise ValueError(f"workers must be 1..{KF_CREW_MOST}: {n}")
        if n > 1:
            parallel = parallel_new(n)
            if parallel == NULL:
                raise MemoryError(f"no memory for {n} workers")
        parallel_free(self.parallel)
        self.parallel = parallel

    def shape(self, uint32_t length, uint32_t share, uint32_t least, uint32_t rest):
        """How workers share batches of `least` packets and more: stretches of `length`, of which each takes `share` at a
        time; after one that ended early `rest` packets or more go one by one."""
        if not (length and share and least and rest):
            raise ValueError(f"none of length {length}, share {share}, least {least} and rest {rest} may be 0")
        if self.parallel != NULL and not parallel_shape(self.parallel, length, share, least, rest):
            raise MemoryError(f"no memory for stretches of {length} packets")

    def stretches(self):
        """Packets that the workers have forwarded together, and stretches that ended before their end."""
        if self.parallel == NULL:
            return 0, 0
        return self.parallel.packets, self.parallel.stops

    def paths(self):
        """What the fast path knows: paths, room for them, generation, packets that went by it."""
        return self.fast.used, self.fast.mask + 1, self.fast.generation, self.fast.packets

    def peers(self):
        """Whom ICMP's limits remember of IPv4, and rows for them."""
        return self.node.icmp.used, self.node.icmp.mask + 1

    def totals(self):
        """What else is counted: generated, released, dropped of these, copies that went up."""
        return {"generated": self.node.generated, "released": self.node.released,
                "generated_dropped": self.node.generated_drops, "local_copies": self.node.local_copies}

    def traffic(self, uint16_t index):
        """(rx_packets, rx_bytes, tx_packets, tx_bytes) of an interface."""
        if index >= self.node.n_interfaces:
            raise IndexError(f"interface {index} is out of range for {self.node.n_interfaces}")
        i = &self.node.interface[index]
        return i.rx_packets, i.rx_bytes, i.tx_packets, i.tx_bytes
