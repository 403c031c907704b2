"""The fewest prefixes that cover each range of addresses, in order: largest aligned block first, from its first address.

Source: `ipaddress.summarize_address_range`, whose result each range has.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

import numpy as np

from .errors import AddressError

from .prefix cimport address_text
from .rib cimport kf_key, kf_key_hi, kf_key_lo, kf_key_mask, kf_key_of


cdef int length_of(kf_key first, kf_key last, int bits) noexcept nogil:
    """Of the longest block that begins at `first` and does not go beyond `last`: the length of its prefix."""
    cdef int len = bits
    while len and first & ~kf_key_mask(len - 1) == 0 and first | ~kf_key_mask(len - 1) <= last:
        len -= 1
    return len


cdef Py_ssize_t write(kf_key first, kf_key last, int bits, uint64_t[:, ::1] key, uint8_t[::1] length,
                      Py_ssize_t at) noexcept nogil:
    """Write the prefixes of a range, or nothing where `key` has no rows; the end."""
    cdef kf_key end
    cdef int len
    while True:
        len = length_of(first, last, bits)
        if key.shape[0]:
            key[at, 0], key[at, 1], length[at] = kf_key_hi(first), kf_key_lo(first), <uint8_t>len
        at += 1
        end = first | ~kf_key_mask(len)
        if end >= last:
            return at
        first = end + 1


cdef kf_key last_of(const uint64_t[:, ::1] key, Py_ssize_t i, int bits) noexcept nogil:
    """The last address, with the bits behind it set."""
    return kf_key_of(key[i, 0], key[i, 1]) | ~kf_key_mask(bits)


cdef object range_prefixes(object first, object last, int family):
    """The keys and lengths of the prefixes, and the index of the range of each.

    Ranges are (N, 2) uint64 of keys each; refused where a last address lies before its first, or ranges overlap.
    """
    cdef const uint64_t[:, ::1] low = first, high = last
    cdef Py_ssize_t i, n = low.shape[0], before, total
    cdef int bits = 32 if family == 4 else 128
    if high.shape[0] != n:
        raise ValueError(f"first and last differ in length: {n}, {high.shape[0]}")
    for i in range(n):
        if kf_key_of(low[i, 0], low[i, 1]) > last_of(high, i, bits):
            raise AddressError(f"the range at {i} ends before it begins: "
                               f"{address_text(kf_key_of(low[i, 0], low[i, 1]), family)} to "
                               f"{address_text(kf_key_of(high[i, 0], high[i, 1]), family)}")
    order = np.lexsort((first[:, 1], first[:, 0]))
    cdef const int64_t[::1] at = order.astype(np.int64)
    for i in range(1, n):
        before = at[i - 1]
        if kf_key_of(low[at[i], 0], low[at[i], 1]) <= last_of(high, before, bits):
            raise AddressError(f"the ranges at {min(before, at[i])} and {max(before, at[i])} overlap")
    cdef int64_t[::1] count = np.empty(n, np.int64)
    cdef uint64_t[:, ::1] key = np.empty((0, 2), np.uint64)
    cdef uint8_t[::1] length = np.empty(0, np.uint8)
    with nogil:
        for i in range(n):
            count[i] = write(kf_key_of(low[i, 0], low[i, 1]), last_of(high, i, bits), bits, key, length, 0)
    total = np.sum(count)
    keys, lengths = np.empty((total, 2), np.uint64), np.empty(total, np.uint8)
    key, length, total = keys, lengths, 0
    with nogil:
        for i in range(n):
            total = write(kf_key_of(low[i, 0], low[i, 1]), last_of(high, i, bits), bits, key, length, total)
    return keys, lengths, np.repeat(np.arange(n), count)
