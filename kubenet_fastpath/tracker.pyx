"""Connection tracking: from a packet to its connection, new or known (Linux, nf_conntrack_in), of either family.

A packet that makes no sense, or errs about a flow that nobody knows, is INVALID: it belongs to no connection
and is never translated. Nothing is dropped here but what a full table cannot take.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t

from .address_pool cimport pool_find
from .connection cimport (
    CT_DROP, CT_UNTRACKED, CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_INVALID, CT_NEW, CT_RELATED, CT_RELATED_REPLY,
    IPS_ASSURED, IPS_CONFIRMED, IPS_DYING, IPS_FIXED_TIMEOUT, IPS_NAT_CLASH, IPS_SEEN_REPLY, NO_CONN, SECOND, TRACK_END,
    TRACK_IGNORE, TRACK_INVALID, TRACK_REFRESH, TRACK_REPEAT, conn_t, segment_pseudo, track_t, tuple_invert, tuple_ports,
    tuple_t,
)
from .extension cimport extension_skip
from .flowtable cimport (
    EXPIRY_GENERIC, EXPIRY_GRE, EXPIRY_GRE_STREAM, EXPIRY_ICMP, EXPIRY_SCTP, EXPIRY_UDP, EXPIRY_UDP_STREAM,
    EXPIRY_UDPLITE, EXPIRY_UDPLITE_STREAM, EVENT_UPDATE, ct_conn, ct_discard, ct_find, ct_hash, ct_kill, ct_new, ct_note, ct_restate,
)
from .frame cimport (
    ICMP6_ECHO, ICMP6_INFO_QUERY, ICMP6_MLD2_REPORT, ICMP6_MLD_QUERY, ICMP6_REDIRECT, ICMP_LEN, ICMP_MAX_TYPE,
    ICMP_TYPE, IP6_DST, IP6_LEN, IP6_NEXT, IP6_SRC, IP_DST, IP_FRAG, IP_LEN, IP_OFFSET, IP_PROTO, IP_SRC, PROTO_GRE,
    PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, UDP_CHECK, UDP_LEN, UDP_LENGTH, csum,
    csum_fold, csum_partial, load16, load32,
)
from .sctp cimport sctp_side_t, sctp_track
from .tcp cimport tcp_track


cdef track_t udp_track(ct_t* t, conn_t* c, const segment_t* seg, int64_t now,
                       int64_t* timeout) noexcept nogil:
    cdef uint16_t length
    if seg.l4_len < UDP_LEN:
        return TRACK_INVALID
    length = load16(seg.l4 + UDP_LENGTH)
    if length > seg.l4_len or length < UDP_LEN:
        return TRACK_INVALID
    if seg.verify and t.checksum and load16(seg.l4 + UDP_CHECK) != 0 and csum_fold(csum_partial(
            seg.l4, seg.l4_len, segment_pseudo(seg, PROTO_UDP, seg.l4_len))) != 0:
        return TRACK_INVALID
    if not c.status & IPS_CONFIRMED:
        c.stream_after = now + 2 * <int64_t>SECOND
    timeout[0] = udp_timeout(t, c, now)
    return TRACK_REFRESH


cdef track_t udplite_track(ct_t* t, conn_t* c, const segment_t* seg, int64_t* timeout) noexcept nogil:
    cdef uint32_t covered
    if seg.l4_len < UDP_LEN:
        return TRACK_INVALID
    covered = load16(seg.l4 + UDP_LENGTH)
    if covered == 0:
        covered = seg.l4_len
    if covered < UDP_LEN or covered > seg.l4_len or load16(seg.l4 + UDP_CHECK) == 0:
        return TRACK_INVALID
    # The kernel sums a pseudo header of UDP here, and the length's low byte: what is right by RFC 3828 fails.
    if seg.verify and t.checksum and csum_fold(csum_partial(seg.l4, covered, segment_pseudo(
            seg, PROTO_UDP, seg.l4_len & 0xFF))) != 0:
        return TRACK_INVALID
    if c.status & IPS_SEEN_REPLY:
        timeout[0] = t.timeout[EXPIRY_UDPLITE_STREAM]
        c.status |= IPS_ASSURED
    else:
        timeout[0] = t.timeout[EXPIRY_UDPLITE]
    return TRACK_REFRESH


cdef track_t gre_track(ct_t* t, conn_t* c, int64_t* timeout) noexcept nogil:
    if c.status & IPS_SEEN_REPLY:
        timeout[0] = t.timeout[EXPIRY_GRE_STREAM]
        c.status |= IPS_ASSURED
    else:
        timeout[0] = t.timeout[EXPIRY_GRE]
    return TRACK_REFRESH


cdef track_t icmp_track(ct_t* t, const conn_t* c, int64_t* timeout) noexcept nogil:
    cdef uint16_t kind = c.original.dport >> 8
    timeout[0] = t.timeout[EXPIRY_ICMP]
    if (c.original.proto == PROTO_ICMP6) != (c.original.family == 6):
        return TRACK_INVALID
    if c.original.family == 6:
        return TRACK_REFRESH if kind == ICMP6_ECHO or kind == ICMP6_INFO_QUERY else TRACK_INVALID
    if kind == 8 or kind == 13 or kind == 15 or kind == 17:
        return TRACK_REFRESH
    return TRACK_INVALID        # an answer that nobody asked for


cdef track_t dispatch(ct_t* t, uint32_t conn, const segment_t* seg, int direction, int64_t now,
                      int64_t* timeout) noexcept nogil:
    cdef conn_t* c = ct_conn(t, conn)
    cdef uint8_t proto = seg.tuple.proto
    if proto == PROTO_TCP:
        return tcp_track(c, &t.side[2 * <uint64_t>conn], seg, direction, seg.verify and t.checksum, &t.tcp,
                         now, timeout)
    if proto == PROTO_UDP:
        return udp_track(t, c, seg, now, timeout)
    if proto == PROTO_ICMP or proto == PROTO_ICMP6:
        return icmp_track(t, c, timeout)
    if proto == PROTO_SCTP:
        return sctp_track(c, <sctp_side_t*>&t.side[2 * <uint64_t>conn], seg, direction,
                          seg.verify and t.checksum, &t.timeout[EXPIRY_SCTP], timeout)
    if proto == PROTO_GRE:
        return gre_track(t, c, timeout)
    if proto == PROTO_UDPLITE:
        return udplite_track(t, c, seg, timeout)
    timeout[0] = t.timeout[EXPIRY_GENERIC]
    return TRACK_REFRESH


cdef ctinfo_t ct_track_hashed(ct_t* t, const segment_t* seg, uint64_t hash, int64_t now,
                              uint32_t* conn) noexcept nogil:
    cdef int direction = 0
    cdef int64_t timeout = 0
    cdef uint32_t index
    cdef tuple_t reply
    cdef ctinfo_t info
    cdef track_t verdict
    cdef conn_t* c
    cdef uint32_t before
    if t.events.event:
        t.events.now = now
    while True:
        conn[0] = NO_CONN
        index = ct_find(t, &seg.tuple, hash, now, &direction)
        if index == NO_CONN:
            if not tuple_invert(&reply, &seg.tuple):
                t.counters.invalid += 1
                return CT_INVALID
            index = ct_new(t, &seg.tuple, &reply, hash, now)
            if index == NO_CONN:
                return CT_DROP
            t.vacancy.conn, t.vacancy.hash, t.vacancy.reply_absent = index, hash, False
            direction = 0
        c = ct_conn(t, index)
        if direction:
            info = CT_ESTABLISHED_REPLY
        else:
            info = CT_ESTABLISHED if c.status & IPS_SEEN_REPLY else CT_NEW
        before = c.status & (IPS_SEEN_REPLY | IPS_ASSURED) | <uint32_t>c.state << 16
        verdict = dispatch(t, index, seg, direction, now, &timeout)
        ct_restate(t, c, <uint8_t>(before >> 16))
        if verdict == TRACK_INVALID:
            if not c.status & IPS_CONFIRMED:
                ct_discard(t, index)
            t.counters.invalid += 1
            return CT_INVALID
        if verdict != TRACK_REPEAT:
            break
        ct_kill(t, index)
    if verdict == TRACK_REFRESH:
        ct_refresh(c, direction, seg.ip_len, now, timeout)
    elif verdict == TRACK_END:
        ct_account(c, direction, seg.ip_len)
        ct_kill(t, index)
    if direction:
        c.status |= IPS_SEEN_REPLY
    if t.events.event and c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED and (
            before != (c.status & (IPS_SEEN_REPLY | IPS_ASSURED) | <uint32_t>c.state << 16)):
        ct_note(t, index, EVENT_UPDATE)
    conn[0] = index
    return info


cdef ctinfo_t icmp_error(ct_t* t, const segment_t* seg, int64_t now, uint32_t* conn) noexcept nogil:
    """An ICMP error is related to the flow that it quotes (nf_conntrack_inet_error), if it comes to whom that
    flow's answers come."""
    cdef const uint8_t* inner = seg.l4 + ICMP_LEN
    cdef uint32_t n = seg.l4_len - ICMP_LEN, header, index
    cdef int32_t l4
    cdef uint16_t fragment
    cdef tuple_t quoted, inverse
    cdef const tuple_t* met
    cdef int direction = 0
    quoted.family, quoted.zone = seg.tuple.family, seg.tuple.zone
    if quoted.family == 6:
        if n < IP6_LEN:
            return CT_INVALID
        quoted.proto = inner[IP6_NEXT]
        l4 = extension_skip(inner, n, IP6_LEN, &quoted.proto, &fragment)
        if l4 < 0 or fragment & 0xFFF8:
            return CT_INVALID
        header = <uint32_t>l4
        quoted.src, quoted.dst = pool_find(t.pool, inner + IP6_SRC), pool_find(t.pool, inner + IP6_DST)
    else:
        if n < IP_LEN or load16(inner + IP_FRAG) & IP_OFFSET:
            return CT_INVALID
        header = (inner[0] & 15) * 4
        quoted.src, quoted.dst = load32(inner + IP_SRC), load32(inner + IP_DST)
        quoted.proto = inner[IP_PROTO]
    if header > n:
        if quoted.family == 4:
            return CT_INVALID
        header = n                                      # of IPv6 headers that are cut off the protocol is known
    if not tuple_ports(&quoted, inner + header, n - header) or not tuple_invert(&inverse, &quoted):
        return CT_INVALID
    index = ct_find(t, &inverse, ct_hash(t, &inverse), now, &direction)
    if index == NO_CONN:
        return CT_INVALID
    met = &ct_conn(t, index).reply if direction else &ct_conn(t, index).original
    if met.dst != seg.tuple.dst:
        return CT_INVALID
    conn[0] = index
    return CT_RELATED_REPLY if direction else CT_RELATED


cdef ctinfo_t ct_track(ct_t* t, segment_t* seg, int64_t now, uint32_t* conn) noexcept nogil:
    cdef ctinfo_t info
    cdef uint8_t kind
    cdef bint valid = tuple_ports(&seg.tuple, seg.l4, seg.l4_len)
    conn[0] = NO_CONN
    if valid and seg.tuple.proto == PROTO_ICMP and seg.l3 == NULL:
        if seg.l4[ICMP_TYPE] > ICMP_MAX_TYPE or (
                seg.verify and t.checksum and csum(seg.l4, seg.l4_len) != 0):
            t.counters.error += 1
            return CT_INVALID
        if is_icmp_error(seg.l4[ICMP_TYPE]):
            info = icmp_error(t, seg, now, conn)
            t.counters.error += info == CT_INVALID
            return info
    if valid and seg.tuple.proto == PROTO_ICMP6 and seg.l3 != NULL:     # nf_conntrack_icmpv6_error
        kind = seg.l4[ICMP_TYPE]
        if seg.verify and t.checksum and csum_fold(csum_partial(
                seg.l4, seg.l4_len, segment_pseudo(seg, PROTO_ICMP6, seg.l4_len))) != 0:
            t.counters.error += 1
            return CT_INVALID
        if ICMP6_MLD_QUERY <= kind < ICMP6_REDIRECT or kind == ICMP6_MLD2_REPORT:
            return CT_UNTRACKED
        if kind < ICMP6_ECHO:
            info = icmp_error(t, seg, now, conn)
            t.counters.error += info == CT_INVALID
            return info
    if not valid:
        t.counters.invalid += 1
        return CT_INVALID
    return ct_track_hashed(t, seg, ct_hash(t, &seg.tuple), now, conn)
