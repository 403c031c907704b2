"""C interface of the fast path: packets of known connections that go where their connection's latest packet went.

A connection has for each direction the number of a path and the generation that this holds for (`conn_t.path`). A path
says what a packet has to look like and what becomes of it; flows between the same two neighbours share one. It is
learned from what the full path did, so there are no second rules; and whatever may change such a decision (interface,
route, neighbour, moved or removed MAC) begins a new generation, in which nothing is known.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from libc.string cimport memcpy

from .connection cimport IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK, conn_t, tuple_is, tuple_t
from .context cimport node_t, out_t
from .flowtable cimport kf_bucket
from .frame cimport (
    ETH_LEN, IP_CHECK, IP_LEN, IP_SRC, IP_TTL, TCP_CHECK, UDP_CHECK, csum_fold, csum_ttl, load16, store16, store32, store64,
)

cdef extern from "csrc/glance.h" nogil:
    enum: KF_KEYED
    enum: KF_UDP
    enum: KF_TCP
    ctypedef struct kf_glance:
        uint64_t head[64]
        uint64_t tail[64]
        uint16_t total[64]
        uint8_t kind[64]

cdef enum:
    BURST = 64                  # KF_BURST; packets looked at ahead of their turn: with what they ask for they fit into an L1
    NO_BRIDGE = 0xFFFF
    NOBODY = 0xFFFFFFFF

cdef struct path_t:             # a cache line; what precedes `generation` tells two apart
    uint64_t macs               # the frame's first 8 bytes, as they come in
    uint64_t out_macs           # as they leave
    uint32_t macs_end           # and 4 more
    uint32_t out_macs_end
    uint32_t fdb_row            # of the source's MAC, FDB_NO_ROW: nothing is learned
    uint16_t port               # it comes in by
    uint16_t out                # it leaves by
    uint16_t bridge             # which the host sent it by, NO_BRIDGE
    uint16_t mtu                # the largest IP packet that goes this way whole
    uint8_t verdict
    uint8_t reason
    uint8_t routed              # 1: TTL is one less
    uint8_t copied              # 1: the host gets a copy, which FORWARD drops: it has no connection
    uint32_t generation         # valid in this one alone
    uint32_t fill[5]

cdef struct batch_t:            # columns of a batch; frames are at base + offset
    uint8_t* base
    uint64_t size
    const int64_t* offset
    const uint32_t* length
    const uint32_t* wire_length
    const uint16_t* port
    const int64_t* time
    uint8_t* verdict
    uint8_t* reason

cdef struct candidate_t:        # a packet of a known connection whose path is not known yet, before the full path
    uint32_t conn               # NO_CONN: none
    uint32_t direction
    uint64_t packets            # that the connection has had
    uint8_t macs[12]
    uint8_t ttl
    size_t n_out
    uint64_t made               # what the node had made and lost till then
    uint64_t copies
    uint64_t sent_up            # that the bridge's host side had sent

cdef struct fastpath_t:
    path_t* path                # open addressing by contents
    uint32_t mask
    uint32_t used
    uint32_t generation         # 1 .. 0xFFFF; of a connection that knows no path 0
    uint64_t changes            # the tables' when it began
    int64_t reset               # ns, when paths were last given up for lack of room
    int64_t due                 # ns, the earliest timer
    uint64_t packets            # that went this way
    bint off
    candidate_t candidate
    int isa                     # KF_*
    bint reads                  # of a connection's row nothing is written: its second line is not needed
    kf_glance glance            # the burst in hand
    uint64_t hash[BURST]        # of each tuple
    kf_bucket* bucket[BURST]    # of the hash
    uint32_t ref[BURST]         # what the bucket names, by kf_ref; NOBODY: nothing
    uint32_t* chain[BURST]      # of a new connection: where those of its source begin; else NULL

cdef bint fastpath_init(fastpath_t* f, int isa) noexcept nogil
cdef void fastpath_free(fastpath_t* f) noexcept nogil
cdef Py_ssize_t fastpath_run(fastpath_t* f, node_t* node, const batch_t* c, Py_ssize_t first, Py_ssize_t i,
                             Py_ssize_t end) noexcept nogil
cdef void fastpath_learn(fastpath_t* f, node_t* node, const batch_t* c, Py_ssize_t i) noexcept nogil
cdef void catch_up(fastpath_t* f, node_t* node) noexcept nogil


cdef inline uint64_t begin_of(const uint8_t* frame) noexcept nogil:
    """The first 8 bytes of the two MACs, in memory's order."""
    cdef uint64_t word
    memcpy(&word, frame, 8)
    return word


cdef inline uint32_t end_of(const uint8_t* frame) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, frame + 8, 4)
    return word


cdef inline tuple_t tuple_of(const kf_glance* g, Py_ssize_t k) noexcept nogil:
    cdef tuple_t tuple
    memcpy(&tuple, &g.head[k], 8)
    memcpy(&tuple.sport, &g.tail[k], 8)
    return tuple


cdef inline bint is_flow(const conn_t* c, uint32_t direction, const kf_glance* g, Py_ssize_t k) noexcept nogil:
    return (c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED
            and tuple_is(&c.reply if direction else &c.original, g.head[k], g.tail[k]))


cdef inline uint64_t first_word(const tuple_t* tuple) noexcept nogil:
    """Both addresses, the source below."""
    cdef uint64_t word
    memcpy(&word, tuple, 8)
    return word


cdef inline uint32_t ports_of(const tuple_t* tuple) noexcept nogil:
    """Both ports, the source's below."""
    cdef uint32_t word
    memcpy(&word, &tuple.sport, 4)
    return word


cdef inline void translate(const tuple_t* other, uint8_t* l3, uint64_t head, uint32_t ports, bint tcp) noexcept nogil:
    """Give a packet the addresses and ports that its answers go to; checksums by delta (RFC 1624).

    What is not translated stays, for there the tuples agree; both hooks at once give what one behind the other gives.
    A tuple's words are in host order, source below destination: from the other end's point of view, and from its last
    byte on, that is what a header has.
    """
    cdef uint8_t* l4 = l3 + IP_LEN
    cdef uint64_t new_head = first_word(other), delta
    cdef uint32_t new_ports = ports_of(other)
    cdef uint32_t at = TCP_CHECK if tcp else UDP_CHECK
    cdef uint16_t check = load16(l3 + IP_CHECK)
    delta = (<uint64_t>(~<uint32_t>head) + <uint64_t>(~<uint32_t>(head >> 32))
             + <uint64_t><uint32_t>new_head + (new_head >> 32))
    store16(l3 + IP_CHECK, csum_fold(<uint16_t>(~check) + delta))
    store64(l3 + IP_SRC, new_head)
    check = load16(l4 + at)
    store32(l4, new_ports)
    if check == 0 and not tcp:
        return
    check = csum_fold(<uint16_t>(~check) + delta + <uint64_t>(~ports) + new_ports)
    if check == 0 and not tcp:
        check = 0xFFFF
    store16(l4 + at, check)


cdef inline bint goes_by(const path_t* path, const uint8_t* frame, uint16_t port, uint32_t total) noexcept nogil:
    """Whether a packet of the path's flows goes there, too; `total` are the bytes of its IP packet."""
    return not ((begin_of(frame) ^ path.macs) | (end_of(frame) ^ path.macs_end) or port != path.port
                or total > path.mtu or frame[ETH_LEN + IP_TTL] <= path.routed | path.copied)


cdef inline void rewrite(const path_t* path, const conn_t* c, uint32_t direction, uint8_t* frame, uint64_t head,
                         uint32_t ports, bint tcp) noexcept nogil:
    """Make of a frame what leaves; `head` and `ports` are those of its tuple."""
    cdef uint8_t* l3 = frame + ETH_LEN
    if path.routed:
        l3[IP_TTL] -= 1
        store16(l3 + IP_CHECK, csum_ttl(load16(l3 + IP_CHECK)))
    if c.status & IPS_NAT_MASK:
        translate(&c.original if direction else &c.reply, l3, head, ports, tcp)
    memcpy(frame, &path.out_macs, 8)
    memcpy(frame + 8, &path.out_macs_end, 4)


cdef inline void fill(out_t* out, int64_t offset, Py_ssize_t i, uint32_t length, int64_t now) noexcept nogil:
    """The row of packet i's frame; its port is there already."""
    out.frame, out.time, out.source = offset, now, <int32_t>i
    out.length = out.wire_length = length
    out.generated = 0
