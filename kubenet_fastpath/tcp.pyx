"""Tracking of TCP connections, segment by segment: state, windows, timeout.

The man in the middle sees every segment, but not whether it arrives. What it believes of the two ends is
in two `tcp_side_t`; a segment that contradicts it is ignored (it may be right, and the answer will tell)
or invalid. Follows nf_conntrack_proto_tcp.c of Linux 6.18; after G. van Rooij, "Real Stateful TCP Packet
Filtering in IP Filter" (SANE 2000).
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.string cimport memset

from .connection cimport (
    IPS_ASSURED, IPS_CONFIRMED, IPS_FIXED_TIMEOUT, IPS_SEEN_REPLY, SECOND, TRACK_END, TRACK_IGNORE,
    TRACK_INVALID, TRACK_REFRESH, TRACK_REPEAT, segment_pseudo,
)
from .frame cimport (
    PROTO_TCP, TCP_ACK, TCP_ACKFLAG, TCP_FIN, TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_RST, TCP_SEQ, TCP_SYN,
    TCP_WINDOW, csum_fold, csum_partial, load16, load32,
)

cdef extern from "csrc/tcp_states.h" nogil:
    const uint8_t next_state "kf_tcp_next"[2][6][10]

cdef enum:
    KIND_SYN, KIND_SYNACK, KIND_FIN, KIND_ACK, KIND_RST, KIND_NONE

cdef enum window_t:
    WINDOW_ACCEPT, WINDOW_IGNORE, WINDOW_INVALID

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_SCALE = 3
    OPTION_SACK_PERMITTED = 4
    OPTION_SACK = 5
    ACK_WINDOW = 66000      # an ACK may lag behind by this much at least (MAXACKWINCONST)
    # Sets of flags that make sense, as bit numbers: SYN, SYN+ACK, RST, RST+ACK, FIN+ACK, ACK; and with URG
    # SYN, FIN+ACK, ACK. PSH, ECE and CWR never matter.
    LEGAL_LOW = 1 << 0x02 | 1 << 0x12 | 1 << 0x04 | 1 << 0x14 | 1 << 0x11 | 1 << 0x10
    LEGAL_URGENT = 1 << 0x02 | 1 << 0x11 | 1 << 0x10

cdef struct tcp_header_t:
    uint32_t seq
    uint32_t ack
    uint32_t end            # seq + payload + SYN + FIN
    uint16_t win
    uint8_t flags
    uint8_t kind
    const uint8_t* options
    uint32_t options_len


cdef inline bint before(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef bint parse(const segment_t* seg, bint verify, tcp_header_t* h) noexcept nogil:
    """Fields of a segment; False if it is cut, its checksum is wrong or its flags make no sense."""
    cdef const uint8_t* l4 = seg.l4
    cdef uint32_t header
    cdef uint8_t flags
    if seg.l4_len < TCP_LEN:
        return False
    header = (l4[TCP_OFFSET] >> 4) * 4
    if header < TCP_LEN or seg.l4_len < header:
        return False
    if verify and csum_fold(csum_partial(l4, seg.l4_len, segment_pseudo(
            seg, PROTO_TCP, seg.l4_len))) != 0:
        return False
    flags = l4[TCP_FLAGS]
    if not ((LEGAL_URGENT if flags & 0x20 else LEGAL_LOW) >> (flags & 0x17)) & 1:
        return False
    h.seq = load32(l4 + TCP_SEQ)
    h.ack = load32(l4 + TCP_ACK)
    h.win = load16(l4 + TCP_WINDOW)
    h.flags = flags
    h.end = h.seq + (seg.l4_len - header) + ((flags & TCP_SYN) != 0) + ((flags & TCP_FIN) != 0)
    h.options = l4 + TCP_LEN
    h.options_len = header - TCP_LEN
    if flags & TCP_RST:
        h.kind = KIND_RST
    elif flags & TCP_SYN:
        h.kind = KIND_SYNACK if flags & TCP_ACKFLAG else KIND_SYN
    elif flags & TCP_FIN:
        h.kind = KIND_FIN
    else:
        h.kind = KIND_ACK       # every legal set without SYN, FIN and RST has ACK
    return True


cdef bint next_option(const tcp_header_t* h, uint32_t* at, uint8_t* kind, uint32_t* length) noexcept nogil:
    """The option at or behind `at` that has a value; False at the end, or where options make no sense."""
    while at[0] < h.options_len:
        kind[0] = h.options[at[0]]
        if kind[0] == OPTION_END or (kind[0] != OPTION_NOP and at[0] + 1 >= h.options_len):
            return False
        if kind[0] != OPTION_NOP:
            length[0] = h.options[at[0] + 1]
            return length[0] >= 2 and at[0] + length[0] <= h.options_len
        at[0] += 1
    return False


cdef void read_options(const tcp_header_t* h, uint8_t* flags, uint8_t* scale) noexcept nogil:
    """Take window scale and SACK permission from a SYN; a segment without options changes nothing."""
    cdef uint32_t at = 0, length = 0
    cdef uint8_t kind = 0
    if h.options_len == 0:
        return
    scale[0] = 0
    flags[0] &= TCP_SIDE_LIBERAL
    while next_option(h, &at, &kind, &length):
        if kind == OPTION_SACK_PERMITTED and length == 2:
            flags[0] |= TCP_SIDE_SACK
        elif kind == OPTION_SCALE and length == 3:
            scale[0] = min(h.options[at + 2], MAX_SCALE)
            flags[0] |= TCP_SIDE_SCALE
        at += length


cdef uint32_t highest_sack(const tcp_header_t* h, uint32_t sack) noexcept nogil:
    """The highest right edge of a SACK block, or `sack` if there is none above it."""
    cdef uint32_t at = 0, length = 0, edge, block
    cdef uint8_t kind = 0
    while next_option(h, &at, &kind, &length):
        if kind == OPTION_SACK and length >= 10 and (length - 2) % 8 == 0:
            for block in range((length - 2) // 8):
                edge = load32(h.options + at + 2 + 8 * block + 4)
                if before(sack, edge):
                    sack = edge
            return sack
        at += length
    return sack


cdef void begin_side(conn_t* conn, tcp_side_t* sender, const tcp_header_t* h, int direction) noexcept nogil:
    """Set a side from its own SYN. Scaling holds only if both ends offered it (RFC 7323)."""
    sender.end = sender.max_end = h.end
    sender.max_win = h.win if h.win else 1
    read_options(h, &conn.side_flags[direction], &conn.side_scale[direction])
    if direction == 1 and not (conn.side_flags[0] & conn.side_flags[1] & TCP_SIDE_SCALE):
        conn.side_scale[0] = conn.side_scale[1] = 0


cdef bint begin(conn_t* conn, tcp_side_t* side, const tcp_header_t* h, bint loose) noexcept nogil:
    """A connection's first segment (tcp_new): a SYN, or an ACK of a flow that began unseen."""
    if next_state[0][h.kind][TCPS_NONE] == TCPS_INVALID or (h.kind != KIND_SYN and not loose):
        return False
    memset(side, 0, 2 * sizeof(tcp_side_t))
    conn.state = TCPS_NONE
    conn.last_dir = conn.last_flags = conn.last_scale = conn.retrans = 0
    conn.last_seq = conn.last_ack = conn.last_end = conn.last_win = 0
    conn.last_index = KIND_NONE
    conn.side_flags[0] = conn.side_flags[1] = conn.side_scale[0] = conn.side_scale[1] = 0
    side[0].end = side[0].max_end = h.end
    side[0].max_win = h.win if h.win else 1
    if h.kind == KIND_SYN:
        read_options(h, &conn.side_flags[0], &conn.side_scale[0])
    else:       # nobody saw whether windows are scaled
        side[0].max_end += side[0].max_win
        conn.side_flags[0] = conn.side_flags[1] = TCP_SIDE_SACK | TCP_SIDE_LIBERAL
    return True


cdef window_t in_window(conn_t* conn, tcp_side_t* side, const tcp_header_t* h, int direction,
                        const tcp_policy_t* policy) noexcept nogil:
    """Whether a segment lies in the windows, and what it proves about both ends (tcp_in_window)."""
    cdef tcp_side_t* sender = &side[direction]
    cdef tcp_side_t* receiver = &side[1 - direction]
    cdef uint8_t* flags = &conn.side_flags[direction]
    cdef uint8_t* peers_flags = &conn.side_flags[1 - direction]
    cdef uint32_t seq = h.seq, ack = h.ack, sack = h.ack, end = h.end, win = h.win, scaled, lag, overshoot
    cdef bint in_receive_window, liberal = policy.liberal or flags[0] & TCP_SIDE_LIBERAL != 0

    if peers_flags[0] & TCP_SIDE_SACK:
        sack = highest_sack(h, sack)
    if sender.max_win == 0:
        if h.flags & TCP_SYN:
            begin_side(conn, sender, h, direction)
            if not h.flags & TCP_ACKFLAG:
                return WINDOW_ACCEPT        # simultaneous open
        else:                               # its SYN went by unseen
            sender.end = end
            scaled = win << conn.side_scale[direction]
            sender.max_win = scaled if scaled else 1
            sender.max_end = end + sender.max_win
            if receiver.max_win == 0:
                receiver.end = receiver.max_end = sack
            elif sack == receiver.end + 1:  # answer to a keepalive
                receiver.end += 1
    elif (h.flags & TCP_SYN and before(sender.end, end)
          and (conn.state == TCPS_SYN_SENT or conn.state == TCPS_SYN_RECV)):
        begin_side(conn, sender, h, direction)      # a new try with a higher initial number
        if direction == 1 and not h.flags & TCP_ACKFLAG:
            return WINDOW_ACCEPT

    if not h.flags & TCP_ACKFLAG or (h.flags & TCP_RST and ack == 0):
        ack = sack = receiver.end           # no ACK, or that of a stack that resets with ACK 0
    if h.flags & TCP_RST and seq == 0 and conn.state == TCPS_SYN_SENT:
        seq = end = sender.end              # refusal of a SYN

    lag = receiver.end - max(sender.max_win, <uint32_t>ACK_WINDOW) - 1
    in_receive_window = before(sender.end - receiver.max_win - 1, end)
    if not before(seq, sender.max_end + 1):
        overshoot = end - sender.max_end + 1
        if (receiver.max_win and in_receive_window and before(lag, sack)
                and overshoot <= receiver.max_win and before(sack, receiver.end + 1)):
            sender.end = end                # more than was allowed: if the peer takes it, its ACK must pass
            flags[0] |= TCP_SIDE_UNACKED
            return WINDOW_ACCEPT if liberal else WINDOW_IGNORE
        return WINDOW_ACCEPT if liberal else WINDOW_INVALID
    if not before(sack, receiver.end + 1):
        return WINDOW_ACCEPT if liberal else WINDOW_INVALID
    if (receiver.max_win and not in_receive_window) or not before(lag, sack):
        return WINDOW_ACCEPT if liberal else WINDOW_IGNORE

    if not h.flags & TCP_SYN:
        win <<= conn.side_scale[direction]
    scaled = win + (sack - ack)
    if sender.max_win < scaled:
        sender.max_win = scaled
    if before(sender.end, end):
        sender.end = end
        flags[0] |= TCP_SIDE_UNACKED
    if h.flags & TCP_ACKFLAG and (not flags[0] & TCP_SIDE_MAX_ACK or before(sender.max_ack, ack)):
        sender.max_ack = ack
        flags[0] |= TCP_SIDE_MAX_ACK
    if receiver.max_win and before(sender.max_end, end):
        receiver.max_win += end - sender.max_end
    if before(receiver.max_end - 1, sack + win):
        receiver.max_end = sack + win + (win == 0)
    if ack == receiver.end:
        peers_flags[0] &= ~TCP_SIDE_UNACKED & 0xFF
    if h.kind == KIND_ACK:
        if (conn.last_dir == direction and conn.last_seq == seq and conn.last_ack == ack
                and conn.last_end == end and conn.last_win == h.win):
            conn.retrans += 1
        else:
            conn.last_dir, conn.last_seq, conn.last_ack = direction, seq, ack
            conn.last_end, conn.last_win, conn.retrans = end, h.win, 0
    return WINDOW_ACCEPT


cdef void out_of_window(conn_t* conn, const tcp_header_t* h, int direction, int64_t unacked,
                        int64_t now) noexcept nogil:
    """FIN or RST out of window from both ends: wait less for a dead connection (nf_tcp_handle_invalid)."""
    if (conn.status & (IPS_ASSURED | IPS_FIXED_TIMEOUT)) != IPS_ASSURED:
        return
    if h.kind != KIND_RST and h.kind != KIND_FIN:
        return
    if conn.last_dir != direction and (conn.last_index == KIND_FIN or conn.last_index == KIND_RST):
        if conn.expires - now >= 120 * <int64_t>SECOND and conn.expires - now > unacked:
            conn.expires = now + unacked
    else:
        conn.last_index, conn.last_dir = h.kind, direction


cdef void note_ignored(conn_t* conn, const tcp_header_t* h, int direction, uint8_t old) noexcept nogil:
    """Remember a segment that was let through unproven: its answer will tell who is out of step."""
    cdef uint8_t flags = 0, scale = 0
    conn.last_index, conn.last_dir = h.kind, direction
    conn.last_seq, conn.last_end, conn.last_win = h.seq, h.end, h.win
    if h.kind == KIND_SYN and direction == 0:
        read_options(h, &flags, &scale)
        conn.last_flags = flags & (TCP_SIDE_SCALE | TCP_SIDE_SACK)
        conn.last_scale = scale
        if old == TCPS_LAST_ACK:
            conn.last_flags |= TCP_CHALLENGE
    if old == TCPS_SYN_SENT and h.kind == KIND_ACK and direction == 1:
        conn.last_ack = h.ack


cdef void resync(conn_t* conn, tcp_side_t* side, int direction) noexcept nogil:
    """A SYN+ACK answers a SYN that had been ignored: the ends agree, we did not. Believe them."""
    cdef int opens = conn.last_dir
    cdef tcp_side_t* opener = &side[opens]
    opener.end = opener.max_end = conn.last_end
    opener.max_win = conn.last_win if conn.last_win else 1
    conn.side_scale[opens] = conn.last_scale
    conn.last_flags &= ~TCP_CHALLENGE & 0xFF
    conn.side_flags[opens] = conn.last_flags
    memset(&side[direction], 0, sizeof(tcp_side_t))
    conn.side_scale[direction] = 0
    conn.side_flags[direction] &= TCP_SIDE_LIBERAL


cdef bint assured_established(const conn_t* conn) noexcept nogil:
    return conn.state == TCPS_ESTABLISHED and conn.status & IPS_ASSURED != 0


cdef int64_t timeout_of(const conn_t* conn, uint8_t kind, uint8_t state, const tcp_policy_t* policy) noexcept nogil:
    cdef int64_t t = policy.timeout[state]
    if conn.retrans >= policy.max_retrans and t > policy.timeout[TCPT_RETRANS]:
        return policy.timeout[TCPT_RETRANS]
    if kind == KIND_RST:
        return policy.timeout[TCPS_CLOSE]
    if (conn.side_flags[0] | conn.side_flags[1]) & TCP_SIDE_UNACKED and t > policy.timeout[TCPT_UNACK]:
        return policy.timeout[TCPT_UNACK]
    if conn.last_win == 0 and not policy.windowless and t > policy.timeout[TCPT_RETRANS]:
        return policy.timeout[TCPT_RETRANS]
    return t


cdef track_t tcp_track(conn_t* conn, tcp_side_t* side, const segment_t* seg, int direction, bint verify,
                       const tcp_policy_t* policy, int64_t now, int64_t* timeout) noexcept nogil:
    cdef tcp_header_t h
    cdef uint8_t old, new
    cdef bint proven = False        # the windows need not be asked
    cdef window_t window
    cdef tcp_side_t* peer = &side[1 - direction]

    if not parse(seg, verify, &h):
        return TRACK_INVALID
    if not conn.status & IPS_CONFIRMED and not begin(conn, side, &h, policy.loose):
        return TRACK_INVALID
    old = conn.state
    new = next_state[direction][h.kind][old]

    if new == TCPS_INVALID:
        return TRACK_INVALID
    if new == TCPS_SYN_SENT and old >= TCPS_TIME_WAIT:
        if ((conn.side_flags[0] | conn.side_flags[1]) & TCP_SIDE_CLOSED_FIRST
                or (conn.last_dir == direction and conn.last_index == KIND_RST)):
            return TRACK_REPEAT     # the ports are used again
        new = TCPS_IGNORE
    if new == TCPS_IGNORE:
        if (h.kind != KIND_SYNACK or conn.last_index != KIND_SYN or conn.last_dir == direction
                or h.ack != conn.last_end):
            note_ignored(conn, &h, direction, old)
            return TRACK_IGNORE
        resync(conn, side, direction)
        old, new = TCPS_SYN_SENT, TCPS_SYN_RECV
    elif new == TCPS_TIME_WAIT:
        if (old == TCPS_LAST_ACK and h.kind == KIND_ACK and conn.last_dir != direction
                and conn.last_index == KIND_SYN and conn.last_flags & TCP_CHALLENGE):
            conn.last_flags &= ~TCP_CHALLENGE & 0xFF
            return TRACK_IGNORE
    elif new == TCPS_SYN_SENT2:
        conn.last_flags |= TCP_SIMULTANEOUS
    elif new == TCPS_SYN_RECV:
        if direction == 1 and h.kind == KIND_ACK and conn.last_flags & TCP_SIMULTANEOUS:
            new = TCPS_ESTABLISHED
    elif new == TCPS_CLOSE and h.kind == KIND_RST:
        if TCPS_FIN_WAIT <= old <= TCPS_CLOSE:
            proven = True           # closing: the ports may be in use again, so the windows say nothing
        else:
            if conn.side_flags[1 - direction] & TCP_SIDE_MAX_ACK and conn.last_index != KIND_SYN:
                if h.seq == 0 and not assured_established(conn):
                    pass            # refusal of a SYN that was let through
                elif before(h.seq, peer.max_ack) and not policy.ignore_invalid_rst:
                    return TRACK_INVALID
                elif (assured_established(conn) and h.seq != peer.max_ack
                        and not (conn.last_index == KIND_ACK and conn.last_dir == direction
                                 and h.seq == conn.last_end)):
                    new = old       # inexact: the receiver will challenge it (RFC 5961)
                    proven = answers_ignored(conn, &h, direction, old)
            else:
                proven = answers_ignored(conn, &h, direction, old)

    if not proven and not policy.windowless:
        window = in_window(conn, side, &h, direction, policy)
        if window == WINDOW_IGNORE:
            return TRACK_IGNORE
        if window == WINDOW_INVALID:
            out_of_window(conn, &h, direction, policy.timeout[TCPT_UNACK], now)
            return TRACK_INVALID

    conn.last_index, conn.last_dir = h.kind, direction
    conn.state = new
    if old != new and new == TCPS_FIN_WAIT:
        conn.side_flags[direction] |= TCP_SIDE_CLOSED_FIRST
    timeout[0] = timeout_of(conn, h.kind, new, policy)
    if not conn.status & IPS_SEEN_REPLY:
        if h.kind == KIND_RST:
            return TRACK_END        # the only answer is a refusal
        if h.kind == KIND_SYN and old == TCPS_SYN_SENT:
            return TRACK_IGNORE     # a repeated SYN must not keep an unanswered entry
        if new == TCPS_ESTABLISHED:
            timeout[0] = min(timeout[0], policy.timeout[TCPT_UNACK])
    elif (not conn.status & IPS_ASSURED and new == TCPS_ESTABLISHED
            and (old == TCPS_SYN_RECV or old == TCPS_ESTABLISHED)):
        conn.status |= IPS_ASSURED
    return TRACK_REFRESH


cdef bint answers_ignored(const conn_t* conn, const tcp_header_t* h, int direction, uint8_t old) noexcept nogil:
    """Whether a RST refuses a SYN or ACK that had been let through unproven; nobody refuses a SYN of his own."""
    if h.ack == conn.last_end and (
            (conn.status & IPS_SEEN_REPLY and conn.last_index == KIND_SYN and conn.last_dir != direction)
            or (not conn.status & IPS_ASSURED and conn.last_index == KIND_ACK)):
        return True
    return (old == TCPS_SYN_SENT and conn.last_index == KIND_ACK and conn.last_dir == 1
            and h.seq == conn.last_ack)
