"""C interface of `ConnectionTable`: Linux's nf_conntrack over IPv4 tuples.

A connection is a row of one slab, named by its index; NO_CONN means none. Nothing here reads a clock.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "csrc/bucket.h" nogil:
    ctypedef struct kf_index:
        pass

cdef enum:
    NO_CONN = 0xFFFFFFFF

cdef enum ctinfo_t:         # what a packet is to its connection (enum ip_conntrack_info, INVALID added)
    CT_ESTABLISHED = 0
    CT_RELATED = 1
    CT_NEW = 2
    CT_ESTABLISHED_REPLY = 3
    CT_RELATED_REPLY = 4
    CT_INVALID = 7

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
    IPS_NAT_CLASH = 1 << 12

cdef enum confirm_t:        # what ct_confirm says
    CONFIRM_OK = 0
    CONFIRM_CLASH = 1       # a tuple is taken: the packet is dropped, the connection is gone
    CONFIRM_FULL = 2        # nf_conntrack_max and nothing to evict: likewise

cdef struct tuple_t:        # 16 bytes, host order, no padding: compared and hashed as two words
    uint32_t src
    uint32_t dst
    uint16_t sport          # ICMP query: the identifier
    uint16_t dport          # ICMP query: type << 8 | code
    uint8_t proto
    uint8_t family          # 4
    uint16_t zone

cdef struct conn_t:
    tuple_t original
    tuple_t reply           # inverse of `original` after NAT
    int64_t expires         # ns; the row is dead from this time on
    uint32_t status
    uint32_t mark
    uint16_t masquerade     # interface index whose address masks the source, 0: not masqueraded
    uint8_t tcp_state
    uint8_t tcp_flags[2]
    uint8_t tcp_last
    uint64_t packets[2]
    uint64_t bytes[2]
    int64_t created         # ns
    int64_t stream_after    # ns; UDP: a stream from then on
    uint32_t by_source_next # chain of connections with the same source (NAT's find_appropriate_src)
    uint32_t by_source_prev

cdef struct segment_t:      # what tracking reads of one unfragmented IPv4 packet
    tuple_t tuple           # for ICMP filled by ct_track itself; src, dst and proto always by the caller
    const uint8_t* l4       # first byte behind the IPv4 header
    uint32_t l4_len         # bytes from there to the end of the IP packet, all readable
    uint32_t ip_len         # total length, for accounting
    bint verify             # at PREROUTING: check the L4 checksum

cdef struct ct_t            # the table; opaque to its users

cdef conn_t* ct_conn(ct_t* t, uint32_t index) noexcept nogil
cdef uint64_t ct_hash(const ct_t* t, const tuple_t* tuple) noexcept nogil
cdef void ct_prefetch(const ct_t* t, uint64_t hash) noexcept nogil
cdef uint32_t ct_find(ct_t* t, const tuple_t* tuple, uint64_t hash, int64_t now, int* direction) noexcept nogil
cdef bint ct_taken(ct_t* t, const tuple_t* reply, uint32_t ignored, int64_t now) noexcept nogil
cdef ctinfo_t ct_track(ct_t* t, segment_t* seg, int64_t now, uint32_t* conn) noexcept nogil
cdef confirm_t ct_confirm(ct_t* t, uint32_t* conn, int64_t now) noexcept nogil
cdef void ct_discard(ct_t* t, uint32_t conn) noexcept nogil
cdef void ct_kill(ct_t* t, uint32_t conn) noexcept nogil


@cython.final
cdef class ConnectionTable:
    cdef ct_t* table
