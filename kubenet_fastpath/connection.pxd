"""One connection: its tuples, status bits and row. Types alone, shared by the tracker, the table and NAT."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from .frame cimport (
    PROTO_GRE, PROTO_ICMP, PROTO_ICMP6, PROTO_UDP, PROTO_UDPLITE, PROTO_TCP, PROTO_SCTP, csum_addresses, csum_pseudo, load16,
)

cdef enum:
    NO_CONN = 0xFFFFFFFF
    SECOND = 1_000_000_000      # ns

cdef enum ctinfo_t:         # what a packet is to its connection (enum ip_conntrack_info, the last two added)
    CT_ESTABLISHED = 0
    CT_RELATED = 1
    CT_NEW = 2
    CT_ESTABLISHED_REPLY = 3
    CT_RELATED_REPLY = 4
    CT_INVALID = 7
    CT_UNTRACKED = 9        # neighbour discovery and MLD: conntrack keeps out of it
    CT_DROP = 8             # nf_conntrack_max is reached and nothing could be evicted: the packet dies here

cdef enum:                  # conn_t.status (enum ip_conntrack_status)
    IPS_SEEN_REPLY = 1 << 1
    IPS_ASSURED = 1 << 2
    IPS_CONFIRMED = 1 << 3
    IPS_SRC_NAT = 1 << 4
    IPS_DST_NAT = 1 << 5
    IPS_NAT_MASK = IPS_SRC_NAT | IPS_DST_NAT
    IPS_SRC_NAT_DONE = 1 << 7
    IPS_DST_NAT_DONE = 1 << 8
    IPS_NAT_DONE_MASK = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
    IPS_DYING = 1 << 9      # out of the table; the row stays readable until the next packet is tracked
    IPS_FIXED_TIMEOUT = 1 << 10
    IPS_NAT_CLASH = 1 << 12

cdef enum track_t:          # what a protocol's tracker makes of a packet
    TRACK_REFRESH           # accepted: counted, and the timeout starts anew
    TRACK_IGNORE            # accepted, but it proves nothing: neither counted nor refreshed
    TRACK_END               # accepted, counted, and it ends the connection
    TRACK_REPEAT            # ends the connection, and is then looked up again as if it had never been
    TRACK_INVALID

cdef extern from "csrc/connection.h" nogil:     # the comments are there
    ctypedef struct tuple_t:
        uint32_t src
        uint32_t dst
        uint16_t sport
        uint16_t dport
        uint8_t proto
        uint8_t family
        uint16_t zone

    ctypedef struct conn_t:
        tuple_t original
        tuple_t reply
        int64_t expires
        uint32_t status
        uint32_t mark
        uint32_t path[2]
        uint16_t masquerade
        uint8_t state
        uint8_t last_index
        uint8_t last_dir
        uint8_t last_scale
        uint8_t last_flags
        uint8_t retrans
        uint8_t side_flags[2]
        uint64_t packets[2]
        uint64_t bytes[2]
        int64_t created
        uint32_t by_source_next
        uint32_t by_source_prev
        int64_t stream_after    # or last_seq and last_ack
        uint32_t last_seq
        uint32_t last_ack
        uint32_t last_end
        uint16_t last_win
        uint8_t side_scale[2]

    void kf_tuple_copy(void* to, const void* source)
    void kf_tuple_inverse(tuple_t* inverse, const tuple_t* tuple)

cdef struct tcp_side_t:     # what one end of a TCP connection has sent (struct ip_ct_tcp_state); flags and scale are in
                            # the row, so that both ends together lie in one cache line
    uint32_t end            # highest seq + length
    uint32_t max_end        # highest seq + length that the other end allows
    uint32_t max_win
    uint32_t max_ack

cdef struct segment_t:      # what tracking reads of one unfragmented packet
    tuple_t tuple           # src, dst, proto, family, zone by the caller; ports by whoever calls tuple_ports
    const uint8_t* l3       # of IPv6, NULL: IPv4
    const uint8_t* l4       # first byte behind the IP header
    uint32_t l4_len         # bytes from there to the end of the IP packet, all readable
    uint32_t ip_len         # total length, for accounting
    bint verify             # at PREROUTING: check the L4 checksum


cdef inline uint64_t segment_pseudo(const segment_t* seg, uint8_t proto, uint32_t n) noexcept nogil:
    """Sum of the pseudo header of n bytes (RFC 8200 8.1 for IPv6)."""
    if seg.l3 == NULL:
        return csum_pseudo(seg.tuple.src, seg.tuple.dst, proto, n)
    return csum_addresses(seg.l3) + proto + n


cdef inline bint tuple_equal(const tuple_t* a, const tuple_t* b) noexcept nogil:
    return memcmp(a, b, sizeof(tuple_t)) == 0


cdef inline uint64_t tuple_head(uint32_t src, uint32_t dst) noexcept nogil:
    """The first eight bytes of a tuple in memory, as a word."""
    return <uint64_t>dst << 32 | src


cdef inline uint64_t tuple_tail(uint16_t sport, uint16_t dport, uint8_t proto, uint8_t family,
                                uint16_t zone) noexcept nogil:
    """The last eight."""
    return (<uint64_t>zone << 48 | <uint64_t>family << 40 | <uint64_t>proto << 32 | <uint32_t>dport << 16 | sport)


cdef inline bint tuple_is(const tuple_t* tuple, uint64_t head, uint64_t tail) noexcept nogil:
    cdef uint64_t[2] word
    memcpy(word, tuple, sizeof(tuple_t))
    return ((word[0] ^ head) | (word[1] ^ tail)) == 0


cdef inline bint tuple_ports(tuple_t* tuple, const uint8_t* l4, uint32_t n) noexcept nogil:
    """Fill sport and dport from the n bytes behind the IP header (nf_ct_get_tuple); False: too few."""
    cdef uint8_t proto = tuple.proto
    tuple.sport = tuple.dport = 0
    if proto == PROTO_TCP or proto == PROTO_UDP or proto == PROTO_SCTP or proto == PROTO_UDPLITE:
        if n < 4:
            return False
        tuple.sport = load16(l4)
        tuple.dport = load16(l4 + 2)
    elif proto == PROTO_ICMP or proto == PROTO_ICMP6:
        if n < 8:
            return False
        tuple.sport = load16(l4 + 4)
        tuple.dport = load16(l4)
    elif proto == PROTO_GRE and n >= 8 and load16(l4) & 7 == 1:      # PPTP: the call id
        if load16(l4 + 2) != 0x880B:
            return False
        tuple.dport = load16(l4 + 6)
    return True


cdef inline bint tuple_invert(tuple_t* inverse, const tuple_t* tuple) noexcept nogil:
    """The tuple of a packet the other way; False for an ICMP type that has no opposite."""
    cdef uint8_t kind
    if tuple.proto != PROTO_ICMP and tuple.proto != PROTO_ICMP6:
        kf_tuple_inverse(inverse, tuple)
        return True
    inverse[0] = tuple[0]
    inverse.src, inverse.dst = tuple.dst, tuple.src
    kind = tuple.dport >> 8
    if tuple.proto == PROTO_ICMP6:
        if kind == 128 or kind == 129:
            kind ^= 1
        elif kind == 139 or kind == 140:
            kind ^= 139 ^ 140
        else:
            return False
    elif kind == 8 or kind == 0:
        kind ^= 8
    elif 13 <= kind <= 18:
        kind = ((kind - 13) ^ 1) + 13
    else:
        return False
    inverse.dport = <uint16_t>(kind << 8 | (tuple.dport & 255))
    return True


cdef inline bint proto_allows_clash(uint8_t proto) noexcept nogil:
    """Whether two packets of one flow may both make a connection (nf_conntrack_l4proto.allow_clash)."""
    return proto != PROTO_TCP and proto != PROTO_ICMP and proto != PROTO_ICMP6 and proto != PROTO_SCTP
