"""C interface of the SCTP tracker: Linux's nf_conntrack_proto_sctp."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from .connection cimport conn_t, segment_t, track_t

cdef enum:                  # states of an association
    SCTPS_NONE = 0
    SCTPS_CLOSED = 1
    SCTPS_COOKIE_WAIT = 2
    SCTPS_COOKIE_ECHOED = 3
    SCTPS_ESTABLISHED = 4
    SCTPS_SHUTDOWN_SENT = 5
    SCTPS_SHUTDOWN_RECD = 6
    SCTPS_SHUTDOWN_ACK_SENT = 7
    SCTPS_HEARTBEAT_SENT = 8
    SCTPS_INVALID = 9       # in the transition table alone
    SCTP_STATES = 9         # that an association can be in

cdef struct sctp_side_t:    # one direction of an association; lies where tcp_side_t lies for TCP
    uint32_t tag            # verification tag of its packets, 0: not known
    uint8_t init            # it sent an INIT that no COOKIE ACK has ended

cdef track_t sctp_track(conn_t* conn, sctp_side_t* side, const segment_t* seg, int direction, bint verify,
                        const int64_t* timeouts, int64_t* timeout) noexcept nogil
