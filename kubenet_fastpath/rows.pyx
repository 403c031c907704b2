"""Frames as rows of a buffer: looked for, copied together, compared."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

cimport numpy as cnp

from .vector cimport vector, vector_data, vector_length, vector_size

cnp.import_array()


cdef object frames_of(object batch, frames_t* f):
    data = vector(batch.data, cnp.NPY_UINT8, False, "data")
    offset = vector(batch.offset, cnp.NPY_INT64, False, "offset")
    length = vector(batch.length, cnp.NPY_UINT32, False, "length")
    cdef Py_ssize_t i
    f.n = vector_size(offset)
    vector_length(length, f.n, "length")
    f.data, f.offset = <const uint8_t*>vector_data(data), <const int64_t*>vector_data(offset)
    f.length = <const uint32_t*>vector_data(length)
    i = outside_at(<uint64_t>vector_size(data), f.offset, f.length, f.n)
    if i < f.n:
        raise ValueError(f"frame {i} at offset {f.offset[i]} with length {f.length[i]} is outside the {vector_size(data)} "
                         "bytes of data")
    return data, offset, length


def first_outside(int64_t size, const int64_t[::1] offset not None, const uint32_t[::1] length not None):
    """Number of the first frame that is not within a buffer of `size` bytes, or None.

    Raises ValueError when the columns have different lengths.
    """
    cdef Py_ssize_t i
    if length.shape[0] != offset.shape[0]:
        raise ValueError(f"offset has {offset.shape[0]} rows, length {length.shape[0]}")
    with nogil:
        i = outside(size, offset, length)
    return None if i == offset.shape[0] else i


def first_below(const uint32_t[::1] wire_length not None, const uint32_t[::1] length not None):
    """Number of the first frame that is said to be shorter on the wire than it is, or None.

    Raises ValueError when the columns have different lengths.
    """
    cdef Py_ssize_t i = 0, n = length.shape[0]
    if wire_length.shape[0] != n:
        raise ValueError(f"wire_length has {wire_length.shape[0]} rows, length {n}")
    with nogil:
        while i < n and wire_length[i] >= length[i]:
            i += 1
    return None if i == n else i


def gather(const uint8_t[::1] data not None, const int64_t[::1] offset not None, const uint32_t[::1] length not None,
           uint8_t[::1] out not None):
    """Copy frames one behind the other.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    offset : (N,) ndarray of int64
    length : (N,) ndarray of uint32
    out : (sum(length),) ndarray of uint8
        Receives the bytes.

    Raises
    ------
    ValueError
        When the columns do not agree with each other, with `data` or with `out`. Nothing has changed then.
    """
    cdef Py_ssize_t i, n = offset.shape[0]
    cdef int64_t at = 0
    bad = first_outside(data.shape[0], offset, length)
    if bad is not None:
        raise ValueError(f"frame {bad} is outside the data")
    with nogil:
        for i in range(n):
            at += length[i]
    if out.shape[0] != at:
        raise ValueError(f"out has {out.shape[0]} bytes, the frames {at}")
    at = 0
    with nogil:
        for i in range(n):
            if length[i]:
                memcpy(&out[at], &data[offset[i]], length[i])
                at += length[i]


def same_rows(const uint8_t[::1] data not None, const int64_t[::1] offset not None,
              const uint8_t[::1] other not None, const int64_t[::1] other_offset not None,
              const uint32_t[::1] length not None):
    """Whether the frames of two buffers, equally long each, are equal byte by byte.

    Raises ValueError when the columns do not agree with each other or with the buffers.
    """
    cdef Py_ssize_t i, n = length.shape[0]
    cdef bint same = True
    if offset.shape[0] != n or other_offset.shape[0] != n:
        raise ValueError(f"the columns have {n}, {offset.shape[0]} and {other_offset.shape[0]} rows")
    if outside(data.shape[0], offset, length) < n or outside(other.shape[0], other_offset, length) < n:
        raise ValueError("a frame is outside its data")
    with nogil:
        for i in range(n):
            if length[i] and memcmp(&data[offset[i]], &other[other_offset[i]], length[i]) != 0:
                same = False
                break
    return same
