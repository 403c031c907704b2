"""C interface of connections as rows of a structured array."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .connection cimport conn_t
from .flowtable cimport ct_t, kf_tally

cdef packed struct record_t:
    uint32_t index          # the row
    uint32_t src, dst       # of the first packet
    uint16_t sport, dport   # ICMP query: identifier, and type << 8 | code
    uint32_t reply_src, reply_dst
    uint16_t reply_sport, reply_dport
    uint8_t proto
    uint8_t state           # TcpState, SctpState
    uint16_t zone
    uint32_t status         # CtStatus
    uint32_t mark
    int32_t timeout         # whole seconds left
    uint64_t packets, bytes, reply_packets, reply_bytes
    int64_t created, expires    # ns
    uint16_t masquerade     # index of the interface whose address masks the source, 0: none

# Of one family, or of both if it is 0; of IPv6 the addresses are handles.
cdef uint32_t records_fill(const ct_t* t, record_t* r, const int64_t* now, int family) noexcept nogil
cdef void record_of(record_t* r, const conn_t* c, uint32_t index) noexcept nogil
# What is counted of a family, the most first; `room` ports each.
cdef object ports_taken(const kf_tally* t, int family, uint32_t room, object addresses)
# The events of a family, which are taken out.
cdef object events_take(ct_t* t, int family)
cdef bint record_known(ct_t* t, const record_t* r, uint8_t family, int64_t now) noexcept nogil
cdef bint record_insert(ct_t* t, const record_t* r, uint8_t family, int64_t now) noexcept nogil
