"""NAT: a mapping for a new connection, and packets rewritten by the mapping of theirs.

Follows nf_nat_core.c and nf_nat_proto.c of Linux 6.18. A connection has at most one source and one
destination manipulation, both told by its reply tuple alone. Packets are rewritten in place, checksums by
delta (RFC 1624), so that what was wrong before stays wrong.
"""

from libc.stdint cimport int32_t
from libc.string cimport memcpy

from .address_pool cimport pool_read
from .connection cimport (
    CT_ESTABLISHED_REPLY, CT_RELATED_REPLY, IPS_CONFIRMED, IPS_DST_NAT, IPS_DST_NAT_DONE,
    IPS_FIXED_TIMEOUT, IPS_NAT_DONE_MASK, IPS_NAT_MASK, IPS_SRC_NAT, IPS_SRC_NAT_DONE, NO_CONN,
    proto_allows_clash, tuple_equal, tuple_invert, tuple_t,
)
from .extension cimport extension_skip
from .flowtable cimport (
    ct_conn, ct_find, ct_hash, ct_kill, ct_prefetch, ct_source, ct_source_link, ct_taken,
)
from .frame cimport (
    ICMP6_ECHO, ICMP6_ECHOREPLY, ICMP_CHECK, ICMP_ID, ICMP_LEN, ICMP_REDIRECT, ICMP_TYPE, IP6_DST, IP6_LEN, IP6_NEXT, IP6_SRC, IP_CHECK, IP_DST, IP_LEN, IP_SRC, L4_DPORT,
    L4_SPORT, PROTO_GRE, PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, TCP_CHECK, TCP_LEN,
    UDP_CHECK, csum, csum_addresses, csum_fold, csum_partial, csum_replace16, csum_replace32, load16, load32, store16, store32,
)
from .tcp cimport TCPS_SYN_SENT, TCPS_TIME_WAIT

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_splitmix(uint64_t* state)

cdef extern from "csrc/crc32c.h" nogil:
    uint32_t kf_crc32c(uint32_t crc, const uint8_t* p, size_t n)

cdef enum:
    ATTEMPTS = 128          # candidates of the first round (NF_NAT_MAX_ATTEMPTS)
    LAST_ROUND = 16         # no further round behind one of fewer candidates
    HARDER = ATTEMPTS / 4   # with so few candidates left, closing TCP connections give way
    SCTP_CHECK = 8
    SCTP_LEN = 12


cdef inline bint has_ports(uint8_t proto) noexcept nogil:
    return proto == PROTO_TCP or proto == PROTO_UDP or proto == PROTO_SCTP or proto == PROTO_UDPLITE


cdef inline bint is_icmp(uint8_t proto) noexcept nogil:
    return proto == PROTO_ICMP or proto == PROTO_ICMP6


cdef uint16_t* key_of(tuple_t* tuple, manip_t manip) noexcept nogil:
    """The part beside the address that a manipulation may change: a port, or the ICMP identifier."""
    if manip == MANIP_SRC or is_icmp(tuple.proto):
        return &tuple.sport
    return &tuple.dport


cdef bint ports_in_range(tuple_t* tuple, const nat_range_t* chosen, manip_t manip) noexcept nogil:
    if not has_ports(tuple.proto) and not is_icmp(tuple.proto) and tuple.proto != PROTO_GRE:
        return True
    return chosen.min_port <= key_of(tuple, manip)[0] <= chosen.max_port


cdef bint source_in_range(tuple_t* tuple, const nat_range_t* chosen) noexcept nogil:
    """Whether a source that was mapped to this would fit (nf_in_range)."""
    if (chosen.min_ip | chosen.max_ip) and not chosen.min_ip <= tuple.src <= chosen.max_ip:
        return False
    return not chosen.flags & RANGE_PORTS or ports_in_range(tuple, chosen, MANIP_SRC)


cdef bint used(ct_t* t, uint32_t conn, const tuple_t* candidate, int64_t now) noexcept nogil:
    """Whether answers to the candidate would meet another connection."""
    cdef tuple_t reply
    tuple_invert(&reply, candidate)
    return ct_taken(t, &reply, conn, now)


cdef bint used_unchanged(ct_t* t, uint32_t conn, const tuple_t* candidate, int64_t now) noexcept nogil:
    """As `used`, for a tuple that NAT leaves alone: two untranslated connections that are each other's
    answers may meet, confirmation settles that (nf_nat_used_tuple_new)."""
    cdef tuple_t reply
    cdef uint32_t other
    cdef int direction
    if not used(t, conn, candidate, now):
        return False
    if not proto_allows_clash(candidate.proto) or ct_conn(t, conn).status & IPS_NAT_MASK:
        return True
    other = ct_find(t, candidate, ct_hash(t, candidate), now, &direction)
    if other == NO_CONN:
        tuple_invert(&reply, candidate)
        other = ct_find(t, &reply, ct_hash(t, &reply), now, &direction)
        if other == NO_CONN:
            return False
    if ct_conn(t, other).status & IPS_NAT_MASK:
        return True
    return not tuple_equal(&ct_conn(t, other).original, &ct_conn(t, conn).reply)


cdef bint used_harder(ct_t* t, uint32_t conn, const tuple_t* candidate, uint32_t left,
                      int64_t now) noexcept nogil:
    """As `used`; but a SYN that finds few candidates left takes the port of a connection in TIME_WAIT or
    CLOSE whose sequence numbers it is past (nf_nat_used_tuple_harder)."""
    cdef tuple_t reply
    cdef uint32_t other
    cdef int direction
    cdef conn_t* o
    if left > HARDER or candidate.proto != PROTO_TCP or ct_conn(t, conn).state != TCPS_SYN_SENT:
        return used(t, conn, candidate, now)
    tuple_invert(&reply, candidate)
    other = ct_find(t, &reply, ct_hash(t, &reply), now, &direction)
    if other == NO_CONN:
        return False
    o = ct_conn(t, other)
    if (direction == 0 or o.state < TCPS_TIME_WAIT
            or o.status & (IPS_SRC_NAT | IPS_FIXED_TIMEOUT) != IPS_SRC_NAT):
        return True
    if <int32_t>(t.side[2 * <uint64_t>conn].end - t.side[2 * <uint64_t>other].end) <= 0:
        return True
    ct_kill(t, other)
    return False


cdef bint known_source(ct_t* t, const tuple_t* original, const nat_range_t* chosen, int64_t now,
                       tuple_t* result) noexcept nogil:
    """How another connection from the same source was mapped, if that fits (find_appropriate_src)."""
    cdef uint32_t next = ct_source(t, original)[0]
    cdef conn_t* c
    while next:
        c = ct_conn(t, next - 1)
        next = c.by_source_next
        if (c.original.src != original.src or c.original.sport != original.sport
                or c.original.proto != original.proto or c.original.family != original.family or c.original.zone != original.zone
                or (c.status & IPS_CONFIRMED and c.expires <= now)):
            continue
        tuple_invert(result, &c.reply)
        result.dst, result.dport = original.dst, original.dport
        if source_in_range(result, chosen):
            return True
    return False


cdef inline uint32_t rotate(uint32_t x, int k) noexcept nogil:
    return x << k | x >> (32 - k)


cdef uint32_t network_order(uint32_t x) noexcept nogil:
    return x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24


cdef uint32_t address_of(const tuple_t* tuple, const nat_range_t* chosen) noexcept nogil:
    """The address of a range for this pair of hosts: always the same one, spread by Jenkins' lookup3 over the
    bytes in memory of a little-endian machine (find_best_ips_proto)."""
    cdef uint32_t a, b, c
    if chosen.min_ip == chosen.max_ip:
        return chosen.min_ip
    a = b = c = 0xDEADBEEF + (4 << 2)
    if not chosen.flags & RANGE_PERSISTENT:
        b = c = a = a + (network_order(tuple.dst) ^ tuple.zone)
    a += network_order(tuple.src)       # four words, of which IPv4 fills one
    a = (a - c) ^ rotate(c, 4)
    c += b
    b = (b - a) ^ rotate(a, 6)
    a += c
    c = (c - b) ^ rotate(b, 8)
    b += a
    a = (a - c) ^ rotate(c, 16)
    c += b
    b = (b - a) ^ rotate(a, 19)
    a += c
    c = (c - b) ^ rotate(b, 4)
    b += a
    c = (c ^ b) - rotate(b, 14)
    a = (a ^ c) - rotate(c, 11)
    b = (b ^ a) - rotate(a, 25)
    c = (c ^ b) - rotate(b, 16)
    a = (a ^ c) - rotate(c, 4)
    b = (b ^ a) - rotate(a, 14)
    c = (c ^ b) - rotate(b, 24)
    return chosen.min_ip + <uint32_t>(<uint64_t>c * <uint32_t>(chosen.max_ip - chosen.min_ip + 1) >> 32)


cdef void search(ct_t* t, uint32_t conn, tuple_t* tuple, const nat_range_t* chosen, manip_t manip,
                 int64_t now, uint64_t* rng) noexcept nogil:
    """Give the tuple a free port or identifier: rounds of 128, 64, 32, 16 and 8 candidates, each from a
    random place (nf_nat_l4proto_unique_tuple). If all are taken the last one stays, and dies at
    confirmation."""
    cdef uint16_t* key = key_of(tuple, manip)
    cdef uint32_t first, size, attempts, i
    cdef uint16_t place
    if not has_ports(tuple.proto) and not is_icmp(tuple.proto):
        return
    if chosen.flags & RANGE_PORTS:
        first = chosen.min_port
        size = chosen.max_port - first + 1
        if chosen.max_port < chosen.min_port and not is_icmp(tuple.proto):
            first = chosen.max_port
            size = chosen.min_port - first + 1
        size = min(size, <uint32_t>65536) or 65536      # of identifiers the wrong way round
    elif is_icmp(tuple.proto):
        first, size = 0, 65536
    elif manip == MANIP_DST:
        return
    elif key[0] < 512:
        first, size = 1, 511
    elif key[0] < 1024:
        first, size = 600, 424
    else:
        first, size = 1024, 64512

    place = 0
    if chosen.flags & RANGE_RANDOM or manip == MANIP_SRC:
        place = <uint16_t>kf_splitmix(rng)
    attempts = min(size, <uint32_t>ATTEMPTS)
    while True:
        for i in range(attempts):
            key[0] = <uint16_t>(first + place % size)
            place += 1
            if not used_harder(t, conn, tuple, attempts - i, now):
                return
        if attempts >= size or attempts < LAST_ROUND:
            return
        attempts //= 2
        place = <uint16_t>kf_splitmix(rng)


cdef void choose(ct_t* t, uint32_t conn, tuple_t* current, tuple_t* result, const nat_range_t* chosen,
                 manip_t manip, int64_t now, uint64_t* rng) noexcept nogil:
    """A tuple inside the range whose answers meet no other connection (get_unique_tuple)."""
    cdef bint random = chosen.flags & RANGE_RANDOM != 0
    cdef tuple_t moved = current[0], reply
    if chosen.min_ip | chosen.max_ip:
        if manip == MANIP_SRC:
            moved.src = address_of(current, chosen)
        else:
            moved.dst = address_of(current, chosen)
    if manip == MANIP_SRC and not random:
        tuple_invert(&reply, &moved)
        ct_prefetch(t, ct_hash(t, &reply))
        if source_in_range(current, chosen):
            if not used_unchanged(t, conn, current, now):
                result[0] = current[0]
                return
        elif known_source(t, current, chosen, now, result) and not used(t, conn, result, now):
            return
    result[0] = moved
    if manip == MANIP_DST and not chosen.flags & RANGE_PORTS and not is_icmp(current.proto):
        return                  # taken or not: there is nothing that may be changed
    if not random:
        if not chosen.flags & RANGE_PORTS:
            if not used(t, conn, result, now):
                return
        elif ports_in_range(result, chosen, manip) and (
                chosen.min_port == chosen.max_port or not used(t, conn, result, now)):
            return
    search(t, conn, result, chosen, manip, now, rng)


cdef void nat_setup(ct_t* t, uint32_t conn, const nat_range_t* chosen, manip_t manip,
                    int64_t now, uint64_t* rng) noexcept nogil:
    """Map a new connection into a range (nf_nat_setup_info), unless this side of it is settled."""
    cdef conn_t* c = ct_conn(t, conn)
    cdef tuple_t current, result
    if c.status & (IPS_CONFIRMED | (IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE)):
        return
    tuple_invert(&current, &c.reply)
    choose(t, conn, &current, &result, chosen, manip, now, rng)
    if not tuple_equal(&result, &current):
        tuple_invert(&c.reply, &result)
        c.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
    if manip == MANIP_SRC:
        ct_source_link(t, conn)
        c.status |= IPS_SRC_NAT_DONE
    else:
        c.status |= IPS_DST_NAT_DONE


cdef void nat_setup_null(ct_t* t, uint32_t conn, manip_t manip, int64_t now, uint64_t* rng) noexcept nogil:
    """Keep the addresses; the port too, unless the answers would meet another connection."""
    cdef conn_t* c = ct_conn(t, conn)
    cdef nat_range_t same
    if c.status & IPS_CONFIRMED:
        return
    # What nat_setup would come to nearly always, without a tuple being copied: a destination's port may not change.
    if manip == MANIP_DST and not is_icmp(c.reply.proto):
        c.status |= IPS_DST_NAT_DONE
        return
    if manip == MANIP_SRC and not c.status & IPS_SRC_NAT_DONE and not ct_taken(t, &c.reply, conn, now):
        ct_source_link(t, conn)
        c.status |= IPS_SRC_NAT_DONE
        return
    same.flags = 0
    same.min_port = same.max_port = 0
    same.min_ip = same.max_ip = c.reply.dst if manip == MANIP_SRC else c.reply.src
    nat_setup(t, conn, &same, manip, now, rng)


cdef bint rewrite_l4(uint8_t* l4, uint32_t n, uint8_t proto, const tuple_t* target, manip_t manip,
                     uint32_t old_ip, uint32_t new_ip) noexcept nogil:
    """Put the target's port or identifier into an L4 header of which n bytes are there, and correct its
    checksum for that and for the address (of IPv6 its sum); False if too little of it is there,
    or if it is a version of GRE that has no translation."""
    cdef uint32_t at = L4_SPORT if manip == MANIP_SRC else L4_DPORT, check_at, crc
    cdef uint16_t port = target.sport if manip == MANIP_SRC else target.dport, check
    cdef uint8_t kind
    if not has_ports(proto) and not is_icmp(proto) and proto != PROTO_GRE:
        return True
    if n < 8:
        return False
    if proto == PROTO_GRE:      # a PPTP call id is never mapped without its control connection (gre_manip_pkt)
        return manip == MANIP_SRC or load16(l4) & 7 < 2
    if proto == PROTO_ICMP:
        kind = l4[ICMP_TYPE]
        if kind == 0 or kind == 8 or 13 <= kind <= 18:
            check = csum_replace16(load16(l4 + ICMP_CHECK), load16(l4 + ICMP_ID), target.sport)
            store16(l4 + ICMP_CHECK, check)
            store16(l4 + ICMP_ID, target.sport)
        return True
    if proto == PROTO_ICMP6:
        check = csum_replace32(load16(l4 + ICMP_CHECK), old_ip, new_ip)
        if l4[ICMP_TYPE] == ICMP6_ECHO or l4[ICMP_TYPE] == ICMP6_ECHOREPLY:
            check = csum_replace16(check, load16(l4 + ICMP_ID), target.sport)
            store16(l4 + ICMP_ID, target.sport)
        store16(l4 + ICMP_CHECK, check)
        return True
    if proto == PROTO_SCTP:
        store16(l4 + at, port)
        if n >= SCTP_LEN:
            store32(l4 + SCTP_CHECK, 0)
            crc = ~kf_crc32c(0xFFFFFFFF, l4, n)
            store32(l4 + SCTP_CHECK, network_order(crc))
        return True
    check_at = TCP_CHECK if proto == PROTO_TCP else UDP_CHECK
    if proto == PROTO_TCP and n < TCP_LEN:
        store16(l4 + at, port)  # quoted by an ICMP error, without its checksum
        return True
    check = load16(l4 + check_at)
    if proto != PROTO_UDP or check:
        check = csum_replace32(check, old_ip, new_ip)
        check = csum_replace16(check, load16(l4 + at), port)
        if proto != PROTO_TCP and check == 0:
            check = 0xFFFF
        store16(l4 + check_at, check)
    store16(l4 + at, port)
    return True


cdef bint rewrite6(const ct_t* t, uint8_t* l3, uint32_t n, const tuple_t* target, manip_t manip) noexcept nogil:
    """The same for IPv6 (nf_nat_ipv6_manip_pkt), where a fragment that is not the first has an address alone."""
    cdef uint8_t[16] address
    cdef uint8_t proto
    cdef uint16_t fragment
    cdef int32_t l4
    cdef uint8_t* at = l3 + (IP6_SRC if manip == MANIP_SRC else IP6_DST)
    if n < IP6_LEN:
        return False
    pool_read(t.pool, target.src if manip == MANIP_SRC else target.dst, address)
    proto = l3[IP6_NEXT]
    l4 = extension_skip(l3, n, IP6_LEN, &proto, &fragment)
    if l4 >= 0 and not fragment & 0xFFF8 and not rewrite_l4(
            l3 + l4, n - l4 if n > <uint32_t>l4 else 0, target.proto, target, manip,
            <uint32_t>csum_partial(at, 16, 0), <uint32_t>csum_partial(address, 16, 0)):
        return False
    memcpy(at, address, 16)
    return True


cdef bint rewrite(const ct_t* t, uint8_t* l3, uint32_t n, const tuple_t* target, manip_t manip) noexcept nogil:
    """Give a packet the target's source or destination (nf_nat_ipv4_manip_pkt); False: too short."""
    cdef uint32_t header, left, old_ip, new_ip, at
    if target.family == 6:
        return rewrite6(t, l3, n, target, manip)
    if n < IP_LEN:
        return False
    header = (l3[0] & 15) * 4
    at = IP_SRC if manip == MANIP_SRC else IP_DST
    old_ip = load32(l3 + at)
    new_ip = target.src if manip == MANIP_SRC else target.dst
    left = n - header if n > header else 0
    if not rewrite_l4(l3 + header, left, target.proto, target, manip, old_ip, new_ip):
        return False
    store16(l3 + IP_CHECK, csum_replace32(load16(l3 + IP_CHECK), old_ip, new_ip))
    store32(l3 + at, new_ip)
    return True


cdef inline bint is_reply(ctinfo_t info) noexcept nogil:
    return info == CT_ESTABLISHED_REPLY or info == CT_RELATED_REPLY


cdef inline bint concerns(const conn_t* conn, bint reply, manip_t manip) noexcept nogil:
    """Whether the connection translates this side of a packet; replies have their sides exchanged."""
    return conn.status & (IPS_DST_NAT if (manip == MANIP_DST) != reply else IPS_SRC_NAT) != 0


cdef bint nat_packet(const ct_t* t, const conn_t* conn, ctinfo_t info, manip_t manip,
                     uint8_t* l3, uint32_t l3_len) noexcept nogil:
    cdef bint reply = is_reply(info)
    cdef tuple_t target
    if not concerns(conn, reply, manip):
        return True
    tuple_invert(&target, &conn.original if reply else &conn.reply)
    return rewrite(t, l3, l3_len, &target, manip)


cdef uint32_t icmp_at(const uint8_t* l3, uint32_t n) noexcept nogil:
    """Where the ICMPv6 message of a packet begins that conntrack has found one in; 0: nowhere."""
    cdef uint8_t proto = l3[IP6_NEXT]
    cdef uint16_t fragment
    return <uint32_t>max(0, extension_skip(l3, n, IP6_LEN, &proto, &fragment))


cdef uint16_t icmp_sum(const uint8_t* l3, const uint8_t* icmp, uint32_t n, bint six) noexcept nogil:
    return csum_fold(csum_partial(icmp, n, csum_addresses(l3) + PROTO_ICMP6 + n)) if six else csum(icmp, n)


cdef bint nat_icmp_error(const ct_t* t, const conn_t* conn, ctinfo_t info, manip_t manip, bint verify,
                         uint8_t* l3, uint32_t l3_len) noexcept nogil:
    """Translate an ICMP error about a connection, outside and inside (nf_nat_icmp_reply_translation);
    False: the packet is to be dropped."""
    cdef bint reply = is_reply(info)
    cdef const tuple_t* quoted = &conn.original if reply else &conn.reply
    cdef bint six = conn.original.family == 6
    cdef uint32_t header = icmp_at(l3, l3_len) if six else (l3[0] & 15) * 4
    cdef uint8_t* icmp = l3 + header
    cdef tuple_t target
    if header == 0 or l3_len < header + ICMP_LEN + (IP6_LEN if six else IP_LEN):
        return False
    if verify and icmp_sum(l3, icmp, l3_len - header, six) != 0:
        return False
    if not six and icmp[ICMP_TYPE] == ICMP_REDIRECT and (
            conn.status & IPS_NAT_MASK or conn.status & IPS_NAT_DONE_MASK != IPS_NAT_DONE_MASK):
        return False
    if not concerns(conn, reply, manip):
        return True
    if not rewrite(t, icmp + ICMP_LEN, l3_len - header - ICMP_LEN, quoted,
                   MANIP_DST if manip == MANIP_SRC else MANIP_SRC):
        return False
    store16(icmp + ICMP_CHECK, 0)
    store16(icmp + ICMP_CHECK, icmp_sum(l3, icmp, l3_len - header, six))
    tuple_invert(&target, quoted)
    target.proto = PROTO_ICMP6 if six else PROTO_ICMP
    return rewrite(t, l3, l3_len, &target, manip)
