"""C interface of tracking and finding whole columns of tuples."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .connection cimport tuple_t
from .flowtable cimport ct_t
from .nat cimport nat_range_t
from .rows cimport frames_t

cdef struct columns_t:      # n rows each; those that may be NULL say what stands for them
    Py_ssize_t n
    uint16_t zone           # of all rows
    const uint32_t* src
    const uint32_t* dst
    const uint16_t* sport
    const uint16_t* dport
    const uint8_t* proto
    const tuple_t* tuple    # instead of those and of `zone`, for finding; NULL: none
    frames_t frames         # instead of all that a packet has itself; frames.data NULL: none
    const uint32_t* wire    # bytes of each frame on the wire
    const int64_t* now      # ns
    bint one_time           # now[0] holds for all rows
    const uint16_t* length  # bytes of the IPv4 packet; NULL: as short as it can be
    const uint8_t* flags    # of TCP; NULL: ACK
    const uint32_t* seq     # NULL: no windows are checked
    const uint32_t* ack     # NULL: 0
    const uint16_t* window  # NULL: 0
    const nat_range_t* range    # of the sources that new connections get; NULL: nothing is translated
    uint64_t* rng           # of the search for a free port
    tuple_t* leaves         # receives the packets' tuples behind NAT; NULL: nobody asks

cdef void columns_track(ct_t* t, const columns_t* c, uint32_t* conn, uint8_t* info) noexcept nogil
cdef void columns_find(ct_t* t, int isa, const columns_t* c, uint32_t* conn, uint8_t* reply) noexcept nogil
