"""A flow table's memory as arrays, and back: rows and TCP sides as they are; the index is made anew."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

import numpy as np

from .connection cimport (
    IPS_DYING, IPS_SRC_NAT_DONE, NO_CONN, conn_t, tcp_side_t,
)
from .flowtable cimport ct_restore, ct_source
from .frame cimport PROTO_SCTP, PROTO_TCP
from .sctp cimport SCTP_STATES
from .tcp cimport MAX_SCALE, TCP_STATES


cdef object copied(const void* memory, size_t n):
    column = np.empty(n, np.uint8)
    cdef uint8_t[::1] out = column
    if n:
        memcpy(&out[0], memory, n)
    return column


cdef dict snapshot(const ct_t* t):
    """All that makes the table what it is, but for its settings."""
    return {
        "rows": copied(t.row, t.used * sizeof(conn_t)),
        "sides": copied(t.side, t.used * 2 * sizeof(tcp_side_t)),
        "free": t.free, "cursor": t.cursor, "count": t.count, "heads": t.heads,
    }


cdef bint addressed(const ct_t* t, const conn_t* c) noexcept nogil:
    """Whether its tuples have addresses, which of IPv6 are handles of the pool."""
    if c.original.family == 4:
        return True
    return (c.original.family == 6 and t.pool != NULL and max(c.original.src, c.original.dst) < t.pool.rows
            and max(c.reply.src, c.reply.dst) < t.pool.rows)


cdef bint is_sound(const ct_t* t, uint32_t conn) noexcept nogil:
    """Whether a row that is in use can be worked with: its indexes name rows and states that there are."""
    cdef const conn_t* c = &t.row[conn]
    cdef bint tracked = True        # other protocols have neither states nor sides
    if c.original.proto == PROTO_TCP:
        tracked = (c.state < TCP_STATES and c.last_scale <= MAX_SCALE
                   and c.side_scale[0] <= MAX_SCALE and c.side_scale[1] <= MAX_SCALE)
    elif c.original.proto == PROTO_SCTP:
        tracked = c.state < SCTP_STATES
    return (tracked and c.original.proto == c.reply.proto and c.original.family == c.reply.family and addressed(t, c)
            and (c.status & IPS_SRC_NAT_DONE == 0 or (c.by_source_next <= t.used and c.by_source_prev <= t.used)))


cdef bint chains_are_sound(const ct_t* t) noexcept nogil:
    """Whether the free list has exactly the rows that are free, and every other one its place in the right chain."""
    cdef uint32_t conn = t.free, free = 0, dying = 0, at
    cdef const conn_t* c
    cdef const conn_t* next
    if t.count > t.used:
        return False
    for free in range(t.used - t.count):        # as long as it has to be, so it has no row twice
        if conn >= t.used or t.row[conn].status & IPS_DYING == 0:
            return False
        conn = t.row[conn].by_source_next
    if conn != NO_CONN:
        return False
    for at in range(t.used):
        c = &t.row[at]
        if c.status & IPS_DYING:
            dying += 1
            continue
        if not is_sound(t, at):
            return False
        if c.status & IPS_SRC_NAT_DONE == 0:
            continue
        if c.by_source_prev == 0 and ct_source(t, &c.original)[0] != at + 1:
            return False
        if c.by_source_next:
            next = &t.row[c.by_source_next - 1]
            if (next.status & (IPS_SRC_NAT_DONE | IPS_DYING) != IPS_SRC_NAT_DONE or next.by_source_prev != at + 1
                    or ct_source(t, &next.original) != ct_source(t, &c.original)):
                return False
    return dying == t.used - t.count and walked(t) == t.linked


cdef uint32_t walked(const ct_t* t) noexcept nogil:
    """How many rows the chains lead to; a ring, which leads nowhere, is what makes it less than all."""
    cdef uint32_t head, conn, n = 0
    for head in range(t.heads):
        conn = t.source[head]
        while conn:
            n += 1
            conn = t.row[conn - 1].by_source_next
    return n


cdef int restore(ct_t* t, dict state) except -1:
    """Fill an empty table of the same size and seed. ValueError: the state is of another version, or damaged."""
    cdef const uint8_t[::1] rows = state["rows"], sides = state["sides"]
    cdef size_t used = rows.shape[0] // sizeof(conn_t), n_rows = rows.shape[0], n_sides = sides.shape[0]
    cdef uint32_t heads = state["heads"]
    if (used > t.room or n_rows != used * sizeof(conn_t) or n_sides != used * 2 * sizeof(tcp_side_t)
            or not t.heads <= heads <= max(t.heads, t.room)):
        raise ValueError("state of another version of ConnectionTable")
    if not ct_restore(t, &rows[0] if used else NULL, &sides[0] if used else NULL, <uint32_t>used, heads):
        raise MemoryError("no memory for the restored table")
    t.free, t.cursor, t.count = state["free"], state["cursor"], state["count"]
    if not chains_are_sound(t):
        raise ValueError("the state of the ConnectionTable is damaged")
    return 0
