"""Whether the frames that columns tell of are inside their buffer."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef inline Py_ssize_t outside_at(uint64_t size, const int64_t* offset, const uint32_t* length,
                                  Py_ssize_t n) noexcept nogil:
    """Number of the first of n frames that is not within `size` bytes; n, if all are, which takes a clock for each."""
    cdef Py_ssize_t i
    cdef bint any = False
    for i in range(n):          # a negative offset is a huge one
        any |= (<uint64_t>offset[i] > size) | (<uint64_t>offset[i] + length[i] > size)
    if any:
        for i in range(n):
            if <uint64_t>offset[i] > size or <uint64_t>offset[i] + length[i] > size:
                return i
    return n


cdef inline Py_ssize_t outside(int64_t size, const int64_t[::1] offset, const uint32_t[::1] length) noexcept nogil:
    """Number of the first frame that is not within `size` bytes; as many as there are, if all are."""
    return outside_at(<uint64_t>size, &offset[0], &length[0], offset.shape[0]) if offset.shape[0] else 0
