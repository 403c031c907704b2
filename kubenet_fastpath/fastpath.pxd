"""C interface of the fast path: packets of known connections that go where their connection's latest packet went.

A connection has for each direction the number of a path and the generation that this holds for (`conn_t.path`). A path
says what a packet has to look like and what becomes of it; flows between the same two neighbours share one. It is
learned from what the full path did, so there are no second rules; and whatever may change such a decision (interface,
route, neighbour, moved or removed MAC) begins a new generation, in which nothing is known.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .context cimport node_t
from .flowtable cimport kf_bucket

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
    kf_glance glance            # the burst in hand
    uint64_t hash[BURST]        # of each tuple
    kf_bucket* bucket[BURST]    # of the hash
    uint32_t ref[BURST]         # what the bucket names, row << 1 | direction; NOBODY: nothing
    uint32_t* chain[BURST]      # of a new connection: where those of its source begin

cdef bint fastpath_init(fastpath_t* f, int isa) noexcept nogil
cdef void fastpath_free(fastpath_t* f) noexcept nogil
cdef Py_ssize_t fastpath_look(fastpath_t* f, node_t* node, const batch_t* c, Py_ssize_t first,
                              Py_ssize_t n) noexcept nogil
cdef Py_ssize_t fastpath_run(fastpath_t* f, node_t* node, const batch_t* c, Py_ssize_t first, Py_ssize_t i,
                             Py_ssize_t end) noexcept nogil
cdef void fastpath_learn(fastpath_t* f, node_t* node, const batch_t* c, Py_ssize_t i) noexcept nogil
