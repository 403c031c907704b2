"""Lines of text as columns: where their fields are, the addresses and prefixes in them, and lines put together.

All take a buffer and positions in it; nothing is decoded, and no line becomes a Python object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset

import numpy as np

from .isa cimport isa_number

cdef extern from "csrc/address_text.h" nogil:
    void kf_text_prepare()
    bint kf_text_ipv4(int isa, const char* text, size_t len, uint32_t* address)
    bint kf_text_ipv6(int isa, const char* text, size_t len, uint8_t* octets)
    int kf_text_length_of(const char* text, size_t len, int bits, size_t* address)
    uint64_t kf_text_half(const uint8_t* octets)

cdef enum:
    IPV4 = 4
    IPV6 = 6

kf_text_prepare()

NO_LENGTH = 255                 #: what `addresses` gives for the length of what has no slash
cdef enum: NO_LENGTH_C = 255


cdef inline bint blank(uint8_t c) noexcept nogil:
    return c == 32 or c == 9 or c == 13 or c == 11 or c == 12


cdef struct span:
    int64_t start
    int64_t end
    int64_t rest                # where what follows the field and its separator begins
    int64_t stop                # the end of the line, without blanks and comment


cdef bint first_word(const uint8_t* data, span* s) noexcept nogil:
    """The first word of the line from start to stop, and the rest; whether there is one before a comment."""
    cdef const void* hash = memchr(data + s.start, 35, s.stop - s.start)
    cdef int64_t i
    if hash != NULL:
        s.stop = <const uint8_t*>hash - data
    while s.start < s.stop and blank(data[s.start]):
        s.start += 1
    while s.start < s.stop and blank(data[s.stop - 1]):
        s.stop -= 1
    i = s.start
    while i < s.stop and not blank(data[i]) and data[i] != 44:
        i += 1
    s.end = i
    while i < s.stop and blank(data[i]):
        i += 1
    if i < s.stop and data[i] == 44:
        i += 1
    while i < s.stop and blank(data[i]):
        i += 1
    s.rest = i
    return s.start < s.stop


cdef bint field_of(const uint8_t* data, span* s, Py_ssize_t column, uint8_t delimiter) noexcept nogil:
    """The field of that number, without blanks and quotes around it, or nothing where there are fewer; whether the
    line has anything at all."""
    cdef int64_t i = s.start
    cdef bint quoted = False
    if s.stop > i and data[s.stop - 1] == 13:
        s.stop -= 1
    if i == s.stop:
        return False
    s.start = i
    while True:
        if i < s.stop and (quoted or data[i] != delimiter):
            if data[i] == 34:
                quoted = not quoted
            i += 1
            continue
        if column == 0 or i >= s.stop:
            break
        column -= 1
        i += 1
        s.start = i
    s.end = i
    s.rest = i + (i < s.stop)
    if column:
        s.start = s.end
    while s.start < s.end and blank(data[s.start]):
        s.start += 1
    while s.start < s.end and blank(data[s.end - 1]):
        s.end -= 1
    if s.end - s.start >= 2 and data[s.start] == 34 and data[s.end - 1] == 34:
        s.start += 1
        s.end -= 1
    return True


def fields(const uint8_t[::1] data not None, Py_ssize_t column=-1, int delimiter=44):
    """Find one field of each line.

    Parameters
    ----------
    data : (B,) ndarray of uint8
        Lines; the last one may lack its end.
    column : int
        Number of the field, from 0, in lines of fields between delimiters, quoted or not, in which no line ends,
        of each line that is not empty; a line may have fewer. Or -1: the first word, up to a blank or comma, of each line that has one
        before a `#`, where a comment begins.
    delimiter : int
        The octet between fields.

    Returns
    -------
    start, end : (N,) ndarray of int64
        Where the field is in `data`.
    rest, stop : (N,) ndarray of int64
        Where the rest of its line is.
    line : (N,) ndarray of int64
        Number of the line, from 0.
    """
    cdef Py_ssize_t size = data.shape[0]
    cdef const uint8_t* at = &data[0] if size else NULL
    cdef int64_t begin = 0, n = 0, number = 0
    cdef const void* newline
    cdef span s
    with nogil:
        while begin < size:
            newline = memchr(at + begin, 10, size - begin)
            n += 1
            begin = size if newline == NULL else <const uint8_t*>newline - at + 1
    columns = np.empty((5, n), np.int64)
    cdef int64_t[:, ::1] out = columns
    begin, n = 0, 0
    with nogil:
        while begin < size:
            newline = memchr(at + begin, 10, size - begin)
            s.start, s.stop = begin, size if newline == NULL else <const uint8_t*>newline - at
            begin = s.stop + 1
            number += 1
            if not (field_of(at, &s, column, <uint8_t>delimiter) if column >= 0 else first_word(at, &s)):
                continue
            out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = s.start, s.end, s.rest, s.stop, number - 1
            n += 1
    return tuple(columns[:, :n])


def addresses(const uint8_t[::1] data not None, const int64_t[::1] start not None, const int64_t[::1] end not None):
    """Read addresses and prefixes, as `ipaddress` takes them but for scopes (`%eth0`), which no route has.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    start, end : (N,) ndarray of int64
        Where the texts are.

    Returns
    -------
    family : (N,) ndarray of uint8
        4, 6, or 0 for what is neither.
    halves : (N, 2) ndarray of uint64
        Upper and lower half in host order, an IPv4 address in the upper 32 bits; zeros for what is neither.
    length : (N,) ndarray of uint8
        What follows a slash, `NO_LENGTH` without one. Netmasks are not read.

    Raises
    ------
    ValueError
        The columns do not agree with each other or with `data`.
    """
    cdef Py_ssize_t i, n = start.shape[0], size = data.shape[0]
    if end.shape[0] != n:
        raise ValueError(f"end must have shape ({n},): ({end.shape[0]},)")
    family, halves, length = np.zeros(n, np.uint8), np.zeros((n, 2), np.uint64), np.full(n, NO_LENGTH, np.uint8)
    cdef uint8_t[::1] kind = family
    cdef uint64_t[:, ::1] half = halves
    cdef uint8_t[::1] bits = length
    cdef const char* text
    cdef size_t count, address
    cdef uint32_t ipv4
    cdef uint8_t octets[16]
    cdef int bits_given, isa = isa_number(None)
    cdef bint inside = True
    with nogil:
        for i in range(n):
            inside = inside and 0 <= start[i] <= end[i] <= size
        for i in range(n if inside else 0):
            count = end[i] - start[i]
            if count == 0:
                continue
            text = <const char*>&data[0] + start[i]
            bits_given = kf_text_length_of(text, count, 128, &address)
            if bits_given < 0:
                continue
            if kf_text_ipv4(isa, text, address, &ipv4):
                if address != count and bits_given > 32:
                    continue
                kind[i], half[i, 0] = IPV4, <uint64_t>ipv4 << 32
            elif kf_text_ipv6(isa, text, address, octets):
                kind[i], half[i, 0], half[i, 1] = IPV6, kf_text_half(octets), kf_text_half(&octets[8])
            if kind[i] and address != count:
                bits[i] = <uint8_t>bits_given
    if not inside:
        raise ValueError("a text is outside the data")
    return family, halves, length


def is_header(bytes text not None):
    """Whether the first field of a list is a column's name: with neither dot nor colon, it is no address."""
    return bool(text) and b"." not in text and b":" not in text


def join(const uint8_t[::1] data not None, const int64_t[::1] start not None, const int64_t[::1] end not None,
         const uint32_t[::1] row not None, const uint8_t[::1] tails not None, const int64_t[::1] offset not None,
         bytes head=b"", Py_ssize_t width=0):
    """Put lines together, each of `head`, a text of `data`, and a tail.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    start, end : (N,) ndarray of int64
        Where the texts are.
    row : (N,) ndarray of uint32
        Which tail follows each text: `tails[offset[row]:offset[row + 1]]`, with its separator and end of line.
    tails : (T,) ndarray of uint8
    offset : (R + 1,) ndarray of int64
    head : bytes
        What each line begins with.
    width : int
        Octets that a text takes at least; shorter ones are filled with blanks.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        The columns do not agree with each other, a text is outside `data` or a tail is none.
    """
    cdef Py_ssize_t i, n = start.shape[0], size = data.shape[0], rows = offset.shape[0] - 1
    cdef int64_t total = 0, count, most = tails.shape[0], first = len(head)
    cdef const char* before = head
    cdef bint inside = end.shape[0] == n and row.shape[0] == n
    cdef char* out
    cdef bytes lines
    with nogil:
        if inside:
            for i in range(n):
                if not (0 <= start[i] <= end[i] <= size and row[i] < rows
                        and 0 <= offset[row[i]] <= offset[row[i] + 1] <= most):
                    inside = False
                    break
                count = end[i] - start[i]
                total += first + (count if count > width else width) + offset[row[i] + 1] - offset[row[i]]
    if not inside:
        raise ValueError("start, end and row do not agree with each other, with the data or with the tails")
    lines = PyBytes_FromStringAndSize(NULL, total)
    out = PyBytes_AS_STRING(lines)
    with nogil:
        for i in range(n):
            if first:
                memcpy(out, before, first)
                out += first
            count = end[i] - start[i]
            if count:
                memcpy(out, &data[0] + start[i], count)
                out += count
            if count < width:
                memset(out, 32, width - count)
                out += width - count
            count = offset[row[i] + 1] - offset[row[i]]
            if count:
                memcpy(out, &tails[0] + offset[row[i]], count)
                out += count
    return lines
