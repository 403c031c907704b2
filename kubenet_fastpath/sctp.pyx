"""Tracking of SCTP associations, chunk by chunk. Follows nf_conntrack_proto_sctp.c of Linux 6.18."""

from libc.string cimport memset

from .connection cimport IPS_ASSURED, IPS_CONFIRMED, TRACK_IGNORE, TRACK_INVALID, TRACK_REFRESH
from .frame cimport load16, load32

cdef extern from "csrc/crc32c.h" nogil:
    uint32_t kf_crc32c(uint32_t crc, const uint8_t* p, size_t n)

cdef extern from "csrc/sctp_states.h" nogil:
    const uint8_t next_state "kf_sctp_next"[2][11][9]

cdef enum:                  # chunk types (RFC 9260)
    DATA = 0
    INIT = 1
    INIT_ACK = 2
    SACK = 3
    HEARTBEAT = 4
    HEARTBEAT_ACK = 5
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    ERROR = 9
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14

cdef enum:
    TAG = 4                 # offsets in the common header
    CHECKSUM = 8
    HEADER = 12
    CHUNK_HEADER = 4
    INIT_FIXED = 16         # bytes of an INIT's fixed part, the initiate tag first
    FLAG_T = 1              # of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own
    HEARTBEAT_FAILED = 1    # conn_t.last_flags: a heartbeat came with a wrong tag
    # Chunks that are judged one by one, not by the tag of the common header (bit number = chunk type).
    OWN_RULES = (1 << INIT | 1 << SHUTDOWN_COMPLETE | 1 << COOKIE_ECHO | 1 << ABORT | 1 << SHUTDOWN_ACK
                 | 1 << HEARTBEAT | 1 << HEARTBEAT_ACK)
    NOT_FIRST = 1 << ABORT | 1 << SHUTDOWN_COMPLETE | 1 << COOKIE_ACK


cdef inline uint32_t next_chunk(const segment_t* seg, uint32_t at) noexcept nogil:
    return at + ((load16(seg.l4 + at + 2) + <uint32_t>3) & ~<uint32_t>3)


cdef inline bint is_chunk(const segment_t* seg, uint32_t at) noexcept nogil:
    return at + CHUNK_HEADER <= seg.l4_len


cdef bint checksum_ok(const segment_t* seg) noexcept nogil:
    cdef uint8_t zero[4]
    cdef uint32_t crc
    memset(zero, 0, 4)
    crc = kf_crc32c(0xFFFFFFFF, seg.l4, CHECKSUM)
    crc = ~kf_crc32c(kf_crc32c(crc, zero, 4), seg.l4 + HEADER, seg.l4_len - HEADER)
    return load32(seg.l4 + CHECKSUM) == (crc >> 24 | (crc >> 8 & 0xFF00) | (crc << 8 & 0xFF0000) | crc << 24)


cdef bint read_chunks(const segment_t* seg, uint32_t* seen) noexcept nogil:
    """The set of chunk types below 32 in a packet; False if their order makes no sense."""
    cdef uint32_t at = HEADER
    cdef uint8_t kind
    cdef bint alone = False, first = True
    seen[0] = 0
    while is_chunk(seg, at):
        kind = seg.l4[at]
        alone = alone or kind == INIT or kind == INIT_ACK or kind == SHUTDOWN_COMPLETE
        if not first and (alone or kind == COOKIE_ACK or kind == COOKIE_ECHO):
            return False
        if load16(seg.l4 + at + 2) == 0:
            return False
        if kind < 32:
            seen[0] |= <uint32_t>1 << kind
        first = False
        at = next_chunk(seg, at)
    return not first


cdef uint8_t after(int direction, uint8_t state, uint8_t kind) noexcept nogil:
    """The state behind a chunk; DATA, SACK and unknown ones change nothing."""
    cdef uint8_t row
    if kind == INIT or kind == INIT_ACK:
        row = kind - INIT
    elif ABORT <= kind <= ERROR:
        row = kind - ABORT + 2
    elif kind == COOKIE_ECHO or kind == COOKIE_ACK:
        row = kind - COOKIE_ECHO + 6
    elif kind == SHUTDOWN_COMPLETE:
        row = 8
    elif kind == HEARTBEAT or kind == HEARTBEAT_ACK:
        row = kind - HEARTBEAT + 9
    else:
        return state
    return next_state[direction][row][state]


cdef bint begin(conn_t* conn, sctp_side_t* side, const segment_t* seg) noexcept nogil:
    """An association's first packet (sctp_new)."""
    cdef uint32_t at = HEADER, tag = load32(seg.l4 + TAG)
    cdef uint8_t kind, state
    memset(side, 0, 2 * sizeof(sctp_side_t))
    conn.state, conn.last_flags, conn.last_dir = SCTPS_NONE, 0, 0
    while is_chunk(seg, at):
        kind = seg.l4[at]
        state = after(0, SCTPS_NONE, kind)
        if state == SCTPS_NONE or state == SCTPS_INVALID:
            return False
        if kind == INIT:
            if tag or at + CHUNK_HEADER + INIT_FIXED > seg.l4_len:
                return False
            side[1].tag = load32(seg.l4 + at + CHUNK_HEADER)
        elif kind == HEARTBEAT:
            side[0].tag = tag
        else:
            side[1].tag = tag
        at = next_chunk(seg, at)
    return True


cdef int tag_of_heartbeat(conn_t* conn, sctp_side_t* side, uint8_t kind, uint32_t tag, int direction,
                          bint data, bint* ignore) noexcept nogil:
    """Judge the tag of a heartbeat or its answer, on a path that may be new: 1 go on, 0 skip the chunk,
    -1 invalid."""
    cdef sctp_side_t* own = &side[direction]
    if own.tag == 0:
        own.tag = tag
    elif tag != own.tag:
        if data or ignore[0]:
            return -1
        if kind == HEARTBEAT:
            conn.last_flags |= HEARTBEAT_FAILED
            conn.last_dir = direction
            ignore[0] = True
            return 0
        if not conn.last_flags & HEARTBEAT_FAILED or conn.last_dir == direction:
            return -1
        conn.last_flags &= ~HEARTBEAT_FAILED & 0xFF
        own.tag = tag
        side[1 - direction].tag = 0
    else:
        conn.last_flags &= ~HEARTBEAT_FAILED & 0xFF
    return 1


cdef bint note_init(conn_t* conn, sctp_side_t* side, const segment_t* seg, uint32_t at, int direction,
                    uint8_t old, uint8_t new, bint* ignore) noexcept nogil:
    """Take the tag that an INIT or INIT ACK announces for the other direction; False: invalid."""
    cdef sctp_side_t* own = &side[direction]
    cdef sctp_side_t* peer = &side[1 - direction]
    cdef uint32_t announced
    if at + CHUNK_HEADER + INIT_FIXED > seg.l4_len:
        return False
    announced = load32(seg.l4 + at + CHUNK_HEADER)
    if seg.l4[at] == INIT:
        if own.init and peer.init:
            peer.init = 0
        own.init = 1
        if old == SCTPS_CLOSED and new == SCTPS_CLOSED and conn.status & IPS_CONFIRMED:
            ignore[0] = True        # a repeated INIT must not keep an unanswered entry
    elif ((not peer.init and peer.tag and peer.tag != announced)
            or (own.init and peer.init and peer.tag != announced)):
        return False
    peer.tag = announced
    return True


cdef track_t sctp_track(conn_t* conn, sctp_side_t* side, const segment_t* seg, int direction, bint verify,
                        const int64_t* timeouts, int64_t* timeout) noexcept nogil:
    cdef uint32_t at = HEADER, seen, tag
    cdef uint8_t kind, old, new = SCTPS_NONE
    cdef bint ignore = False, data
    cdef int step
    if seg.l4_len < HEADER or (verify and not checksum_ok(seg)) or not read_chunks(seg, &seen):
        return TRACK_INVALID
    if not conn.status & IPS_CONFIRMED and (seen & NOT_FIRST or not begin(conn, side, seg)):
        return TRACK_INVALID
    tag, data = load32(seg.l4 + TAG), seen & (1 << DATA) != 0
    if not seen & OWN_RULES and tag != side[direction].tag:
        return TRACK_INVALID
    while is_chunk(seg, at):
        kind = seg.l4[at]
        if kind == INIT:
            if tag:
                return TRACK_INVALID
        elif kind == ABORT or kind == SHUTDOWN_COMPLETE:
            if tag != side[1 - direction if seg.l4[at + 1] & FLAG_T else direction].tag:
                return TRACK_INVALID
        elif kind == COOKIE_ECHO:
            if tag != side[direction].tag:
                return TRACK_INVALID
        elif kind == COOKIE_ACK:
            side[0].init = side[1].init = 0
        elif kind == HEARTBEAT or kind == HEARTBEAT_ACK:
            step = tag_of_heartbeat(conn, side, kind, tag, direction, data, &ignore)
            if step < 0:
                return TRACK_INVALID
            if step == 0:
                at = next_chunk(seg, at)
                continue
        old = conn.state
        new = after(direction, old, kind)
        if new == SCTPS_INVALID:
            return TRACK_INVALID
        if (kind == INIT or kind == INIT_ACK) and not note_init(
                conn, side, seg, at, direction, old, new, &ignore):
            return TRACK_INVALID
        conn.state = new
        if old != new and new == SCTPS_ESTABLISHED:
            conn.status |= IPS_ASSURED
        at = next_chunk(seg, at)
    if ignore:
        return TRACK_IGNORE
    timeout[0] = timeouts[new]
    return TRACK_REFRESH
