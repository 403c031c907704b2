"""Connections as rows of a structured array, for people and for files."""

import numpy as np

from .connection cimport IPS_CONFIRMED, IPS_DYING, SECOND, conn_t

RECORD = np.dtype([
    ("index", "u4"), ("src", "u4"), ("dst", "u4"), ("sport", "u2"), ("dport", "u2"), ("reply_src", "u4"),
    ("reply_dst", "u4"), ("reply_sport", "u2"), ("reply_dport", "u2"), ("proto", "u1"), ("state", "u1"),
    ("zone", "u2"), ("status", "u4"), ("mark", "u4"), ("timeout", "i4"), ("packets", "u8"), ("bytes", "u8"),
    ("reply_packets", "u8"), ("reply_bytes", "u8"), ("created", "i8"), ("expires", "i8"),
    ("masquerade", "u2"),
])


cdef void fill(record_t* r, const conn_t* c, uint32_t index) noexcept nogil:
    r.index, r.proto, r.zone = index, c.original.proto, c.original.zone
    r.src, r.dst, r.sport, r.dport = c.original.src, c.original.dst, c.original.sport, c.original.dport
    r.reply_src, r.reply_dst = c.reply.src, c.reply.dst
    r.reply_sport, r.reply_dport = c.reply.sport, c.reply.dport
    r.state, r.status, r.mark, r.masquerade = c.state, c.status, c.mark, c.masquerade
    r.packets, r.reply_packets, r.bytes, r.reply_bytes = c.packets[0], c.packets[1], c.bytes[0], c.bytes[1]
    r.created, r.expires, r.timeout = c.created, c.expires, 0


cdef uint32_t records_fill(const ct_t* t, record_t* r, const int64_t* now) noexcept nogil:
    """Write a row for each connection alive at *now, or each held if `now` is NULL; return how many."""
    cdef uint32_t i, n = 0
    cdef const conn_t* c
    for i in range(t.used):
        c = &t.row[i]
        if c.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED or (now and c.expires <= now[0]):
            continue
        fill(r + n, c, i)
        if now:
            r[n].timeout = <int32_t>((c.expires - now[0]) // SECOND)
        n += 1
    return n
