"""Frames as rows of a buffer: copied together, and compared."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy


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
    cdef int64_t at = 0, room = data.shape[0]
    if length.shape[0] != n:
        raise ValueError(f"offset has {n} rows, length {length.shape[0]}")
    for i in range(n):
        if offset[i] < 0 or offset[i] > room - <int64_t>length[i]:
            raise ValueError(f"frame {i} is outside the data")
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
    """Whether the frames of two buffers are equal, byte by byte.

    The columns must have been checked against their buffers (`PacketBatch` does).
    """
    cdef Py_ssize_t i, n = length.shape[0]
    cdef bint same = offset.shape[0] == n and other_offset.shape[0] == n
    if not same:
        return False
    with nogil:
        for i in range(n):
            if length[i] and memcmp(&data[offset[i]], &other[other_offset[i]], length[i]) != 0:
                same = False
                break
    return same
