"""C interface of `parallel`: stretches of a batch that several threads forward together."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from .connection cimport conn_t, tcp_side_t
from .context cimport node_t, out_t
from .fastpath cimport batch_t, fastpath_t

cdef extern from "csrc/crew.h" nogil:
    enum: KF_CREW_MOST
    ctypedef struct kf_crew:
        pass

cdef struct claim_t:            # what a packet's connection, and whoever owns it, still have to hear of it
    int32_t source              # index in the batch
    uint32_t ref                # kf_ref of its row and direction
    uint16_t total              # bytes of its IP packet
    uint16_t path
    uint16_t ip_check           # as it came, should it have to be put back
    uint16_t l4_check

cdef struct sum_t:              # of a path's packets
    uint64_t packets
    uint64_t rx_bytes
    uint64_t tx_bytes
    int64_t time                # ns, of the latest

cdef struct undo_t:             # a TCP connection before a segment
    int64_t source
    uint32_t conn
    conn_t row
    tcp_side_t side[2]

cdef struct undone_t:           # an owner's part of those
    uint32_t first
    uint32_t n
    uint64_t fill[7]            # the next one's is on another line

cdef struct worker_t:           # what a thread has for itself
    fastpath_t sight            # the burst in hand; its paths are borrowed
    sum_t* sum                  # by path
    uint32_t* touched           # paths whose sum is not 0
    uint32_t n_touched
    uint32_t room               # paths
    uint64_t fill[8]            # the next thread's is on other lines

cdef struct parallel_t:
    kf_crew* crew
    uint32_t workers
    uint64_t modulus
    worker_t* worker
    uint32_t length             # packets of a stretch, at most
    uint32_t share              # packets that a thread takes at a time
    uint32_t least              # packets that are worth it
    claim_t* claim              # by share and owner, room for a share each: UDP from the front, TCP from the end
    uint32_t* claims            # how many there are: by share, then owner, then protocol
    uint32_t stride             # of a share's, which lie on lines of their own
    undo_t* undo                # by owner, room for a stretch
    undone_t* undone            # by owner
    fastpath_t* fast            # the stretch in hand:
    node_t* node
    const batch_t* batch
    Py_ssize_t start
    Py_ssize_t end
    uint32_t shares
    out_t* out
    int64_t now                 # ns, before it
    int64_t limit               # ns: a packet of this time or later is not simply one more
    int64_t stop                # the first packet that goes the full path, or `end`
    uint32_t rest
    Py_ssize_t wait             # packets that go one by one before the next stretch; more, the sooner stretches end
    int64_t outside             # of the batch: the first frame that is not within its bytes
    int64_t mixed               # the first that does not begin behind the one before it
    uint64_t packets            # that went this way
    uint64_t stops              # stretches that ended before their end

cdef parallel_t* parallel_new(uint32_t workers) noexcept nogil
cdef void parallel_free(parallel_t* p) noexcept nogil
cdef bint parallel_shape(parallel_t* p, uint32_t length, uint32_t share, uint32_t least, uint32_t rest) noexcept nogil
cdef Py_ssize_t parallel_check(parallel_t* p, const batch_t* b, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t parallel_run(parallel_t* p, fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t i,
                             Py_ssize_t n) noexcept nogil
