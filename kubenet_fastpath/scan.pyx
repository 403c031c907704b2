"""Rows of packets found in a capture file."""

import numpy as np

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

#: One row a packet: where its frame lies in the buffer that was scanned, and what the file says of it.
RECORD = np.dtype([("offset", "i8"), ("time", "i8"), ("length", "u4"), ("wire_length", "u4"), ("link_type", "u2")],
                  align=True)


cdef bint append(records_t* r, const record_t* record) noexcept nogil:
    cdef Py_ssize_t room
    cdef record_t* row
    if r.count == r.room:
        room = 2 * r.room + 1024
        row = <record_t*>realloc(r.row, room * sizeof(record_t))
        if row == NULL:
            return False
        r.row, r.room = row, room
    r.row[r.count] = record[0]
    r.count += 1
    return True


cdef object take(records_t* r):
    """The rows as a structured array; `r` is empty afterwards."""
    rows = np.empty(r.count, RECORD)
    cdef unsigned char[::1] view
    if r.count:
        view = rows.view(np.uint8)
        memcpy(&view[0], r.row, r.count * sizeof(record_t))
    free(r.row)
    r.row, r.count, r.room = NULL, 0, 0
    return rows
