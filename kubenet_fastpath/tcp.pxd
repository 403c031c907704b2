"""C interface of the TCP tracker: Linux's nf_conntrack_proto_tcp."""

from libc.stdint cimport int64_t, uint8_t

from .connection cimport conn_t, segment_t, tcp_side_t, track_t

cdef enum:                  # states of a connection
    TCPS_NONE = 0
    TCPS_SYN_SENT = 1
    TCPS_SYN_RECV = 2
    TCPS_ESTABLISHED = 3
    TCPS_FIN_WAIT = 4
    TCPS_CLOSE_WAIT = 5
    TCPS_LAST_ACK = 6
    TCPS_TIME_WAIT = 7
    TCPS_CLOSE = 8
    TCPS_SYN_SENT2 = 9
    TCPS_INVALID = 10       # in the transition table alone
    TCPS_IGNORE = 11        # likewise
    TCP_STATES = 10         # that a connection can be in

cdef enum:
    MAX_SCALE = 14          # of a window (RFC 7323 2.3)

cdef enum:                  # places in tcp_policy_t.timeout behind those of the states
    TCPT_RETRANS = 10
    TCPT_UNACK = 11
    TCPT_COUNT = 12

cdef enum:                  # conn_t.side_flags, and conn_t.last_flags
    TCP_SIDE_SCALE = 0x01       # window scaling was offered
    TCP_SIDE_SACK = 0x02
    TCP_SIDE_CLOSED_FIRST = 0x04
    TCP_SIDE_LIBERAL = 0x08     # its windows are not checked
    TCP_SIDE_UNACKED = 0x10     # it has sent what is not acknowledged
    TCP_SIDE_MAX_ACK = 0x20     # max_ack holds
    TCP_CHALLENGE = 0x40        # conn_t.last_flags: the next ACK may be a challenge (RFC 5961)
    TCP_SIMULTANEOUS = 0x80     # conn_t.last_flags: both ends sent a SYN

cdef struct tcp_policy_t:
    int64_t timeout[TCPT_COUNT]     # ns, by state
    bint loose                      # nf_conntrack_tcp_loose
    bint liberal                    # nf_conntrack_tcp_be_liberal
    bint ignore_invalid_rst         # nf_conntrack_tcp_ignore_invalid_rst
    bint windowless                 # segments come without numbers: the state table alone decides
    uint8_t max_retrans             # nf_conntrack_tcp_max_retrans

cdef track_t tcp_track(conn_t* conn, tcp_side_t* side, const segment_t* seg, int direction, bint verify,
                       const tcp_policy_t* policy, int64_t now, int64_t* timeout) noexcept nogil
