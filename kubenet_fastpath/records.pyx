"""Connections as rows of a structured array, for people and for files."""

from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from .connection cimport (
    IPS_ASSURED, IPS_CONFIRMED, IPS_DST_NAT, IPS_DYING, IPS_NAT_DONE_MASK, IPS_SEEN_REPLY, IPS_SRC_NAT, NO_CONN, SECOND, conn_t, tcp_side_t, tuple_equal,
    tuple_invert, tuple_t,
)
from .connection import SctpState, TcpState
from .flowtable cimport (
    CENSUS_STATES, CONFIRM_OK, ct_confirm, ct_find, ct_hash, ct_new, ct_source_link, event_row_t, kf_counted,
)

cnp.import_array()

RECORD = np.dtype([
    ("index", "u4"), ("src", "u4"), ("dst", "u4"), ("sport", "u2"), ("dport", "u2"), ("reply_src", "u4"),
    ("reply_dst", "u4"), ("reply_sport", "u2"), ("reply_dport", "u2"), ("proto", "u1"), ("state", "u1"),
    ("zone", "u2"), ("status", "u4"), ("mark", "u4"), ("timeout", "i4"), ("packets", "u8"), ("bytes", "u8"),
    ("reply_packets", "u8"), ("reply_bytes", "u8"), ("created", "i8"), ("expires", "i8"),
    ("masquerade", "u2"),
])

ADDRESSES = ("src", "dst", "reply_src", "reply_dst")
RECORD6 = np.dtype([(name, "u1", (16,)) if name in ADDRESSES else (name, RECORD[name]) for name in RECORD.names])


EVENT = np.dtype([("time", "i8"), ("kind", "u1"), *RECORD.descr])
EVENT6 = np.dtype([(name, "u1", (16,)) if name in ADDRESSES else (name, EVENT[name]) for name in EVENT.names])

PORTS = np.dtype([("src", "u4"), ("dst", "u4"), ("dport", "u2"), ("proto", "u1"), ("used", "u4"), ("left", "u4")])
PORTS6 = np.dtype([(name, "u1", (16,)) if name in ADDRESSES else (name, PORTS[name]) for name in PORTS.names])


def census_name(place):
    """Of a place in ct_t.census: the protocol, and the state of those that have one."""
    kind, state = divmod(place, CENSUS_STATES)
    name = ("other", "tcp", "udp", "icmp", "sctp", "gre", "udplite", "icmpv6")[kind]
    states = {"tcp": TcpState, "sctp": SctpState}.get(name)
    return f"{name} {states(state).name}" if states else name


cdef void record_of(record_t* r, const conn_t* c, uint32_t index) noexcept nogil:
    r.index, r.proto, r.zone = index, c.original.proto, c.original.zone
    r.src, r.dst, r.sport, r.dport = c.original.src, c.original.dst, c.original.sport, c.original.dport
    r.reply_src, r.reply_dst = c.reply.src, c.reply.dst
    r.reply_sport, r.reply_dport = c.reply.sport, c.reply.dport
    r.state, r.status, r.mark, r.masquerade = c.state, c.status, c.mark, c.masquerade
    r.packets, r.reply_packets, r.bytes, r.reply_bytes = c.packets[0], c.packets[1], c.bytes[0], c.bytes[1]
    r.created, r.expires, r.timeout = c.created, c.expires, 0


cdef uint32_t records_fill(const ct_t* t, record_t* r, const int64_t* now, int family) noexcept nogil:
    """Write a row for each connection alive at *now, or each held if `now` is NULL; return how many."""
    cdef uint32_t i, n = 0
    cdef const conn_t* c
    for i in range(t.used):
        c = &t.row[i]
        if c.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED or (now and c.expires <= now[0]):
            continue
        if family and c.original.family != family:
            continue
        record_of(r + n, c, i)
        if now:
            r[n].timeout = <int32_t>((c.expires - now[0]) // SECOND)
        n += 1
    return n


cdef object events_take(ct_t* t, int family):
    cdef uint32_t i, left = 0, n = 0
    cdef event_row_t* e
    cdef record_t* r
    for i in range(t.events.used):
        n += t.events.event[i].row.original.family == family
    rows = np.empty(n, EVENT)
    octets = np.empty((n, 4, 16), np.uint8)
    cdef uint8_t* at = <uint8_t*>cnp.PyArray_DATA(rows)
    cdef uint8_t* address = <uint8_t*>cnp.PyArray_DATA(octets)
    for i in range(t.events.used):
        e = &t.events.event[i]
        if e.row.original.family != family:
            t.events.event[left] = e[0]
            left += 1
            continue
        memcpy(at, &e.time, 8)
        at[8] = e.kind
        r = <record_t*>(at + 9)
        record_of(r, &e.row, e.conn)
        r.timeout = <int32_t>((e.row.expires - e.time) // SECOND)
        memcpy(address, e.address, 64)
        at += 9 + sizeof(record_t)
        address += 64
    t.events.used = left
    if family == 4:
        return rows
    wide = np.empty(n, EVENT6)
    for name in EVENT.names:
        wide[name] = octets[:, ADDRESSES.index(name)] if name in ADDRESSES else rows[name]
    return wide


cdef object ports_taken(const kf_tally* t, int family, uint32_t room, object addresses):
    cdef uint64_t i
    cdef const kf_counted* p
    cdef list found = []
    for i in range(t.mask + 1):
        p = &t.place[i]
        if p.count and p.family == family:
            found.append((p.src, p.dst, p.port, p.proto, p.count, room - p.count if p.count < room else 0))
    rows = np.array(found, PORTS)
    rows = rows[np.lexsort((rows["proto"], rows["dport"], rows["dst"], rows["src"], -rows["used"].astype(np.int64)))]
    if family == 4:
        return rows
    wide = np.empty(len(rows), PORTS6)
    for name in PORTS.names:
        if name not in ADDRESSES:
            wide[name] = rows[name]
        elif len(rows):
            wide[name] = addresses.octets(rows[name])
    return wide


cdef tuple_t tuple_of(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport, const record_t* r,
                      uint8_t family) noexcept nogil:
    cdef tuple_t tuple
    tuple.src, tuple.dst, tuple.sport, tuple.dport = src, dst, sport, dport
    tuple.proto, tuple.family, tuple.zone = r.proto, family, r.zone
    return tuple


cdef bint record_known(ct_t* t, const record_t* r, uint8_t family, int64_t now) noexcept nogil:
    """Whether one of its tuples is that of a connection alive."""
    cdef tuple_t original = tuple_of(r.src, r.dst, r.sport, r.dport, r, family)
    cdef tuple_t reply = tuple_of(r.reply_src, r.reply_dst, r.reply_sport, r.reply_dport, r, family)
    cdef int direction
    return (ct_find(t, &original, ct_hash(t, &original), now, &direction) != NO_CONN
            or ct_find(t, &reply, ct_hash(t, &reply), now, &direction) != NO_CONN)


cdef bint record_insert(ct_t* t, const record_t* r, uint8_t family, int64_t now) noexcept nogil:
    """Enter a connection as `conntrack -I` does; False: no room. What NAT did to it is told by its tuples."""
    cdef tuple_t original = tuple_of(r.src, r.dst, r.sport, r.dport, r, family)
    cdef tuple_t reply = tuple_of(r.reply_src, r.reply_dst, r.reply_sport, r.reply_dport, r, family), plain
    cdef uint32_t conn = ct_new(t, &original, &reply, ct_hash(t, &original), now)
    cdef conn_t* c
    if conn == NO_CONN:
        return False
    c = &t.row[conn]
    memset(&t.side[2 * <size_t>conn], 0, 2 * sizeof(tcp_side_t))
    c.status = r.status & (IPS_SEEN_REPLY | IPS_ASSURED) | IPS_NAT_DONE_MASK
    tuple_invert(&plain, &original)
    if not tuple_equal(&plain, &reply):
        if plain.dst != reply.dst or plain.dport != reply.dport:
            c.status |= IPS_SRC_NAT
        if plain.src != reply.src or plain.sport != reply.sport:
            c.status |= IPS_DST_NAT
    c.state, c.mark, c.expires = r.state, r.mark, r.timeout * <int64_t>SECOND
    c.packets[0], c.packets[1], c.bytes[0], c.bytes[1] = r.packets, r.reply_packets, r.bytes, r.reply_bytes
    ct_source_link(t, conn)
    return ct_confirm(t, &conn, now) == CONFIRM_OK
