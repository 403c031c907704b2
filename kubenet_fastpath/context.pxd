"""What one packet and one node are to the stages, and how a frame leaves the node.

A stage is a function `(node_t*, packet_t*) -> fate` in the module of its noun; the pipeline calls them in the
kernel's hook order. Everything a stage may write is in these two structs and the tables they point to.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport address_pool_t, pool_intern, prefix_t
from .connection cimport NO_CONN
from .defrag cimport defrag_t
from .fdb cimport fdb_t
from .fib cimport fib_t
from .flowtable cimport ct_t
from .fragment cimport geometry_t
from .frame cimport ETH_IP, IP6_DST, IP6_SRC, IP_DST, IP_PROTO, IP_SRC, load32
from .multicast cimport multicast_t
from .neighbour cimport neigh_table_t
from .path_mtu cimport path_mtus_t
from .recorder cimport recorder_t
from .service_table cimport service_table_t

cdef extern from *:             # Cython's own __builtin_expect
    bint unlikely(bint) noexcept nogil

cdef enum:                      # packet type: skb->pkt_type
    PACKET_HOST = 0
    PACKET_BROADCAST = 1
    PACKET_MULTICAST = 2
    PACKET_OTHERHOST = 3

cdef enum:                      # interface kind
    IF_NONE = 0                 # free, or not attached
    IF_ROUTED = 1
    IF_BRIDGE = 2
    IF_BRIDGE_PORT = 3

cdef enum:                      # route type: RTN_*
    ROUTE_UNICAST = 1
    ROUTE_LOCAL = 2
    ROUTE_BROADCAST = 3
    ROUTE_ANYCAST = 4
    ROUTE_BLACKHOLE = 6
    ROUTE_UNREACHABLE = 7
    ROUTE_PROHIBIT = 8
    ROUTE_THROW = 9

cdef enum:
    MAX_ADDRESSES = 8           # of one interface
    MAX_CIDRS = 64              # ip-masq-agent refuses more
    NO_HOP = 0xFFFFFFFF
    NO_INTERFACE = 0xFFFF       # an index that none has

cdef struct address_t:
    uint32_t ip
    uint32_t mask

cdef struct address6_t:
    prefix_t prefix
    uint32_t handle

cdef struct interface_t:
    uint64_t mac
    uint32_t mtu                # bytes of an IP packet
    uint16_t kind
    uint16_t bridge             # of a bridge port: its bridge's index
    uint16_t n_addresses
    uint16_t group_fwd_mask     # of a bridge
    uint8_t rp_filter           # max(all, this interface): 0 off, 1 strict, 2 loose
    bint send_redirects
    bint route_localnet
    bint proxy_arp
    bint promiscuous            # of a bridge
    bint hairpin                # of a bridge port
    address_t address[MAX_ADDRESSES]
    uint64_t rx_packets
    uint64_t rx_bytes
    uint64_t tx_packets
    uint64_t tx_bytes
    uint32_t link_hop           # the next hop of link-local IPv6 destinations
    uint16_t n_addresses6       # 0: no IPv6 here
    address6_t address6[MAX_ADDRESSES]      # link-local last

cdef struct nexthop_t:
    uint32_t gateway            # 0: the destination is on the link. Of IPv6 a handle
    uint32_t source             # preferred source address, 0: chosen by the interface
    uint16_t dev
    uint8_t type                # route_type_t

cdef struct packet_t:
    uint8_t* frame              # the Ethernet header
    uint32_t length             # bytes from there to the end of the packet, all readable
    uint32_t missing            # the last of these were not captured; they read as zeros
    uint32_t l3                 # offset of the network header
    uint32_t conn               # connection index or NO_CONN
    uint32_t hop                # chosen next hop, index into node_t.hops
    uint32_t mark               # skb->mark
    const geometry_t* origin    # the fragments it came in, NULL: it came whole
    int64_t now                 # ns
    int32_t source              # index in the batch of the packet that caused this one, -1: a timer
    uint16_t ethertype          # behind all VLAN tags that the kernel takes off
    uint16_t port               # physical ingress interface
    uint16_t dev                # interface that the packet is on: a bridge for what a bridge passes up
    uint8_t type                # packet_type_t
    uint8_t info                # ctinfo_t
    uint8_t record_route        # offset of that option in the header once options were read, 0: none
    uint8_t timestamp           # likewise
    uint8_t label               # likewise: CIPSO
    uint8_t source_route        # likewise
    uint8_t option_flags        # OPTION_*
    uint8_t proto               # of IPv6: behind all extension headers, EXT_FRAGMENT: not the first fragment
    uint16_t iif                # of IPv6: where the stack has it from; NO_INTERFACE: not from one
    uint16_t l4                 # of IPv6: its offset from the network header, 0: the headers do not lead there
    bint tagged                 # carries a VLAN tag
    bint vlan_zero              # all its tags are priority tags (VID 0)
    bint shared                 # the bytes are needed elsewhere too: copy before writing
    bint hooked                 # the bridge has run PREROUTING (ip_sabotage_in)
    bint redirect               # leaves by the interface it came in by: an ICMP redirect is due
    bint ours                   # made by the node itself
    bint bridged                # of a waiting packet: the bridge goes on with it (bridged DNAT)
    bint plain                  # its header has been seen to be right, at the fast path's first look
    bint summed                 # and UDP's checksum

cdef struct out_t:              # a row of result.OUTPUT
    int64_t frame               # its offset in the batch's bytes; of a generated one the address, in the end likewise
    int64_t time                # ns
    uint32_t length             # bytes present
    uint32_t wire_length
    int32_t source
    uint16_t port
    uint16_t generated          # 1: not among the batch's bytes

cdef struct chunk_t:            # memory of the current batch, freed after it
    chunk_t* next
    size_t size
    size_t used

cdef struct icmp_peer_t:        # struct inet_peer, as far as ICMP limits it
    uint32_t ip                 # or handle
    uint32_t redirects
    int64_t tokens              # ns
    int64_t last                # ns

cdef struct icmp_limit_t:
    icmp_peer_t* peer           # open addressing, power of two; a row is free when ip and last are 0
    uint32_t mask
    uint32_t used
    int64_t interval            # ns between two errors to one peer, 0: no limit
    int64_t per_second          # global
    int64_t burst
    int64_t credit
    int64_t stamp

cdef struct snat_rule_t:        # -s NETWORK -d DST -p PROTO --dport PORT -j SNAT --to TO
    uint32_t network
    uint32_t mask
    uint32_t dst
    uint32_t to
    uint16_t port
    uint8_t proto

cdef enum: MAX_SNAT_RULES = 8

cdef enum: PROXY_QLEN = 64      # requests that wait on one interface, less one (neigh/default/proxy_qlen)

cdef struct proxied_t:          # a request that is answered by proxy, later (pneigh_enqueue)
    int64_t due                 # ns
    uint64_t sha
    uint32_t spa
    uint32_t tpa
    uint16_t dev

cdef struct look_t:             # what the fast path's first look has read of a packet that is plain
    uint64_t head               # its tuple, in two words
    uint64_t tail
    uint64_t hash               # of the tuple

cdef struct node_t:
    recorder_t* recorder        # NULL: nothing is noted
    int (*stack)(node_t* node, packet_t* p) noexcept nogil      # the host's protocols: the bridge's way up from below them
    const fib_t* fib
    fdb_t* fdb
    ct_t* conntrack
    defrag_t* defrag
    neigh_table_t* neighbours
    service_table_t* services
    path_mtus_t* path_mtus
    multicast_t multicast       # of the bridge
    int64_t proxy_delay         # ns, neigh/default/proxy_delay
    proxied_t* proxied          # in the order of arrival
    uint32_t n_proxied
    uint32_t proxied_room
    int64_t proxied_due         # of the earliest of them
    interface_t* interface
    uint32_t n_interfaces
    nexthop_t* hops
    uint32_t n_hops
    bint bridge_nf              # net.bridge.bridge-nf-call-iptables
    bint drop_invalid           # kube-proxy's KUBE-FORWARD ... INVALID -j DROP
    bint verify_checksums       # nf_conntrack_checksum
    bint dedup                  # ebtables drop what cbr0 sends from the pods' addresses to a veth
    uint32_t dedup_gateway
    address_t dedup_pods
    bint masquerade
    uint8_t masquerade_flags    # RANGE_*
    uint16_t masquerade_min_port
    uint16_t masquerade_max_port
    bint mask_localhost         # kubelet's rule: what leaves by the bridge from 127.0.0.0/8 is masqueraded
    uint32_t mask               # the address that masked a source latest: a guess for the next
    uint16_t n_direct
    address_t direct[MAX_CIDRS] # destinations that are not masqueraded
    uint8_t n_snat
    snat_rule_t snat[MAX_SNAT_RULES]
    address_t cluster           # the pods of the cluster: kube-proxy's local detector
    uint8_t service_flags       # RANGE_* of KUBE-POSTROUTING
    icmp_limit_t icmp
    uint64_t rng
    uint16_t ip_id
    uint32_t recent[64]         # neighbours found lately, by the last bits of their address: a hint
    int64_t now                 # the latest time seen; time does not run backwards
    uint64_t verdicts[6]
    uint64_t reasons[128]
    uint64_t generated          # packets the node made: ARP, ICMP, RST
    uint64_t released           # held packets that went on
    uint64_t generated_drops    # of generated and released packets: dropped
    uint64_t local_copies       # of bridged frames, for the node itself
    out_t* out
    size_t n_out
    size_t out_capacity
    bint out_lent               # `out` is somebody else's memory
    int64_t batch               # address of the batch's bytes
    uint64_t batch_size
    size_t made                 # bytes of outputs that are not among them
    chunk_t* chunks
    uint64_t changes            # of what the plan says: interfaces, next hops
    bint unsettled              # it has met what may decide otherwise next time
    look_t look                 # of the packet in hand, if it is plain
    bint tracked                # conntrack has seen it already:
    uint32_t tracked_conn       # its connection or NO_CONN
    uint8_t tracked_info        # ctinfo_t
    const fib_t* fib6           # NULL: the node has no IPv6
    address_pool_t* pool        # of all handles
    neigh_table_t* neighbours6
    defrag_t* defrag6
    uint32_t local_hop6         # next hops of link-local addresses that are the node's
    uint32_t anycast_hop6
    bint bridge_nf6             # net.bridge.bridge-nf-call-ip6tables
    bint masquerade6
    uint16_t n_direct6
    prefix_t direct6[MAX_CIDRS]
    prefix_t cluster6
    bint dedup6                 # ebtables' pair for IPv6
    prefix_t dedup_gateway6
    prefix_t dedup_pods6
    icmp_limit_t icmp6          # peers and interval; the rest is that of `icmp`
    uint32_t recent6[64]
    uint32_t fragment_id        # of the next datagram that is fragmented

cdef uint8_t* scratch(node_t* node, size_t n) noexcept nogil
cdef void release_scratch(node_t* node) noexcept nogil
cdef bint unshare(node_t* node, packet_t* p) noexcept nogil
cdef bint emit(node_t* node, const packet_t* p, uint16_t port) noexcept nogil
cdef bint out_room(node_t* node, size_t n) noexcept nogil
cdef void write_note(node_t* node, const packet_t* p, uint8_t stage, uint32_t value, int end) noexcept nogil


cdef inline void record(node_t* node, const packet_t* p, uint8_t stage, uint32_t value, int end) noexcept nogil:
    """Note what the packet met, for whoever asked."""
    if unlikely(node.recorder != NULL):
        write_note(node, p, stage, value, end)


cdef inline bint writable(node_t* node, packet_t* p) noexcept nogil:
    """Give the packet bytes of its own if they are shared (skb_ensure_writable). False without memory."""
    return True if not p.shared else unshare(node, p)


cdef inline uint32_t source_of(const node_t* node, const packet_t* p) noexcept nogil:
    """The packet's source: address or handle; POOL_NONE without memory."""
    return load32(p.frame + p.l3 + IP_SRC) if p.ethertype == ETH_IP else pool_intern(node.pool, p.frame + p.l3 + IP6_SRC)


cdef inline uint32_t destination_of(const node_t* node, const packet_t* p) noexcept nogil:
    return load32(p.frame + p.l3 + IP_DST) if p.ethertype == ETH_IP else pool_intern(node.pool, p.frame + p.l3 + IP6_DST)


cdef inline uint8_t protocol_of(const packet_t* p) noexcept nogil:
    return p.frame[p.l3 + IP_PROTO] if p.ethertype == ETH_IP else p.proto


cdef inline uint32_t header_length(const packet_t* p) noexcept nogil:
    """Bytes of network headers in front of the transport's."""
    return (p.frame[p.l3] & 15) * 4 if p.ethertype == ETH_IP else p.l4


cdef inline out_t* sent(node_t* node, uint16_t port, uint32_t length) noexcept nogil:
    """Count a frame that leaves; its row among the outputs, for which there must be room."""
    cdef interface_t* device = &node.interface[port]
    device.tx_packets += 1
    device.tx_bytes += length
    node.n_out += 1
    node.out[node.n_out - 1].port = port
    return &node.out[node.n_out - 1]
