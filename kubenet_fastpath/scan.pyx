"""What the scan of a capture file finds: a row for each packet, in columns."""

from typing import NamedTuple

import numpy as np

from cython cimport view
from libc.stdlib cimport free, realloc
from libc.string cimport memset


class Packets(NamedTuple):
    """Columns of the packets found: where each frame lies in the buffer that was scanned, and what the file says of it."""

    offset: object          #: (N,) int64
    length: object          #: (N,) uint32, bytes captured
    wire_length: object     #: (N,) uint32, bytes on the wire
    time: object            #: (N,) int64, ns since 1970
    link_type: object       #: (N,) uint16, LINKTYPE_*


cdef bint grow(columns_t* c) noexcept nogil:
    cdef Py_ssize_t room = 2 * c.room + 1024
    cdef void* p
    p = realloc(c.offset, room * sizeof(int64_t))
    if p == NULL:
        return False
    c.offset = <int64_t*>p
    p = realloc(c.time, room * sizeof(int64_t))
    if p == NULL:
        return False
    c.time = <int64_t*>p
    p = realloc(c.length, room * sizeof(uint32_t))
    if p == NULL:
        return False
    c.length = <uint32_t*>p
    p = realloc(c.wire_length, room * sizeof(uint32_t))
    if p == NULL:
        return False
    c.wire_length = <uint32_t*>p
    p = realloc(c.link_type, room * sizeof(uint16_t))
    if p == NULL:
        return False
    c.link_type, c.room = <uint16_t*>p, room
    return True


cdef void release(columns_t* c) noexcept nogil:
    free(c.offset)
    free(c.time)
    free(c.length)
    free(c.wire_length)
    free(c.link_type)
    memset(c, 0, sizeof(columns_t))


cdef object owner(void* p, Py_ssize_t size, object dtype):
    """An array over the first `size` bytes of p, which is freed when nobody uses them any more."""
    cdef void* trimmed = realloc(p, size)
    cdef view.array array = view.array((size,), 1, "B", mode="c", allocate_buffer=False)
    array.data = <char*>(trimmed if trimmed != NULL else p)
    array.callback_free_data = free
    return np.asarray(array).view(dtype)


cdef object take(columns_t* c):
    """Hand the columns over, without copying; `c` is empty afterwards."""
    cdef columns_t taken = c[0]
    if taken.count == 0:
        release(c)
        return Packets(np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.int64),
                       np.empty(0, np.uint16))
    memset(c, 0, sizeof(columns_t))
    return Packets(
        owner(taken.offset, taken.count * sizeof(int64_t), np.int64),
        owner(taken.length, taken.count * sizeof(uint32_t), np.uint32),
        owner(taken.wire_length, taken.count * sizeof(uint32_t), np.uint32),
        owner(taken.time, taken.count * sizeof(int64_t), np.int64),
        owner(taken.link_type, taken.count * sizeof(uint16_t), np.uint16),
    )
