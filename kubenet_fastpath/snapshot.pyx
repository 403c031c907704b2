"""A flow table's memory as arrays, and back: rows, TCP sides and the index as they are."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

import numpy as np

from .connection cimport conn_t, tcp_side_t
from .flowtable cimport ct_restore, kf_bucket


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
        "buckets": copied(t.index.bucket, (t.index.mask + 1) * sizeof(kf_bucket)),
        "free": t.free, "cursor": t.cursor, "count": t.count, "source_mask": t.source_mask,
    }


cdef int restore(ct_t* t, dict state) except -1:
    """Fill an empty table of the same size and seed. ValueError: the state is that of another version."""
    cdef const uint8_t[::1] rows = state["rows"], sides = state["sides"], buckets = state["buckets"]
    cdef size_t used = rows.shape[0] // sizeof(conn_t), n_rows = rows.shape[0], n_sides = sides.shape[0]
    cdef size_t n_buckets = buckets.shape[0] // sizeof(kf_bucket)
    cdef uint32_t source_mask = state["source_mask"]
    if (used > t.room or n_rows != used * sizeof(conn_t) or n_sides != used * 2 * sizeof(tcp_side_t)
            or n_buckets == 0 or n_buckets & (n_buckets - 1) or source_mask & (source_mask + 1)):
        raise ValueError("state of another version of ConnectionTable")
    if not ct_restore(t, &rows[0] if used else NULL, &sides[0] if used else NULL, <uint32_t>used, &buckets[0],
                      n_buckets - 1, source_mask):
        raise MemoryError("no memory for the restored table")
    t.free, t.cursor, t.count = state["free"], state["cursor"], state["count"]
    return 0
