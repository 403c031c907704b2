"""Whether the frames that columns tell of are inside their buffer."""

from libc.stdint cimport int64_t, uint32_t

cdef inline Py_ssize_t outside(int64_t size, const int64_t[::1] offset, const uint32_t[::1] length) noexcept nogil:
    """Number of the first frame that is not within `size` bytes; as many as there are, if all are."""
    cdef Py_ssize_t i, n = offset.shape[0]
    for i in range(n):
        if offset[i] < 0 or offset[i] > size - <int64_t>length[i]:
            return i
    return n
