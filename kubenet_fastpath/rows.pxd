"""Frames as columns tell of them: pointers to them, and whether they are inside their buffer."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef struct frames_t:       # n of them
    Py_ssize_t n
    const uint8_t* data
    const int64_t* offset
    const uint32_t* length

# Point f to a batch's frames, all of which are inside its buffer; they live as long as what is given back.
cdef object frames_of(object batch, frames_t* f)


cdef inline Py_ssize_t outside_at(uint64_t size, const int64_t* offset, const uint32_t* length,
                                  Py_ssize_t n) noexcept nogil:
    """Number of the first of n frames that is not within `size` bytes; n, if all are, which takes a clock for each."""
    cdef Py_ssize_t i
    cdef uint64_t signs = 0, room   # the first bit is set by a negative offset, or when less than nothing is left
    for i in range(n):
        room = size - length[i]
        signs |= <uint64_t>offset[i] | room | (room - <uint64_t>offset[i])
    if signs >> 63:
        for i in range(n):
            if offset[i] < 0 or offset[i] > <int64_t>size - <int64_t>length[i]:
                return i
    return n


cdef inline Py_ssize_t outside(int64_t size, const int64_t[::1] offset, const uint32_t[::1] length) noexcept nogil:
    """Number of the first frame that is not within `size` bytes; as many as there are, if all are."""
    return outside_at(<uint64_t>size, &offset[0], &length[0], offset.shape[0]) if offset.shape[0] else 0
