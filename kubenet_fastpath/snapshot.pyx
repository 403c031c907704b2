"""A flow table's memory as arrays, and back: rows and TCP sides as they are; the index is made anew."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

import numpy as np

from .connection cimport conn_t, tcp_side_t
from .flowtable cimport ct_restore


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


cdef int restore(ct_t* t, dict state) except -1:
    """Fill an empty table of the same size and seed. ValueError: the state is that of another version."""
    cdef const uint8_t[::1] rows = state["rows"], sides = state["sides"]
    cdef size_t used = rows.shape[0] // sizeof(conn_t), n_rows = rows.shape[0], n_sides = sides.shape[0]
    cdef uint32_t heads = state["heads"]
    if (used > t.room or n_rows != used * sizeof(conn_t) or n_sides != used * 2 * sizeof(tcp_side_t)
            or not t.heads <= heads <= 2 * max(t.heads, t.room)):
        raise ValueError("state of another version of ConnectionTable")
    if not ct_restore(t, &rows[0] if used else NULL, &sides[0] if used else NULL, <uint32_t>used, heads):
        raise MemoryError("no memory for the restored table")
    t.free, t.cursor, t.count = state["free"], state["cursor"], state["count"]
    return 0
