"""Lists of prefixes as text: lines `PREFIX` or `PREFIX HOP`, by spaces or a comma.

Lines in the usual form are read without the GIL; whatever else a line holds goes through Python's own `ipaddress`, which
takes netmasks too, and says what is wrong.
"""

from cpython.buffer cimport PyObject_CheckBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

import numpy as np

from .address_text cimport text_prefix
from .prefix cimport hop_given, prefix_of
from .rib cimport kf_key, kf_key_hi, kf_key_lo, kf_key_mask, kf_key_of

cdef enum line_kind:
    LINE_EMPTY
    LINE_PREFIX
    LINE_OTHER                  # of another form

cdef enum: ZERO = 0x30          # the digit

cdef uint32_t NO_HOP = <uint32_t>0xFFFFFFFF     # the line has none; no hop of a route either


cdef struct line_t:
    kf_key net
    int len
    uint32_t hop


cdef const char* word_end(const char* p, const char* end) noexcept nogil:
    while p < end and not (p[0] == b" " or p[0] == b"," or p[0] == b"\t" or p[0] == b"\r"):
        p += 1
    return p


cdef const char* word_begin(const char* p, const char* end) noexcept nogil:
    while p < end and (p[0] == b" " or p[0] == b"," or p[0] == b"\t" or p[0] == b"\r"):
        p += 1
    return p


cdef line_kind read_line(const char* p, const char* end, int family, bint mask_host_bits, line_t* line) noexcept nogil:
    cdef const char* comment = <const char*>memchr(p, b"#", end - p)
    cdef const char* begin
    cdef uint64_t hi, lo, value = 0
    if comment != NULL:
        end = comment
    begin = word_begin(p, end)
    if begin == end:
        return LINE_EMPTY
    p = word_end(begin, end)
    line.len = text_prefix(begin, p - begin, family, &hi, &lo)
    if line.len < 0:
        return LINE_OTHER
    line.net = kf_key_of(hi, lo)
    if line.net & ~kf_key_mask(line.len):
        if not mask_host_bits:
            return LINE_OTHER
        line.net = line.net & kf_key_mask(line.len)
    begin = word_begin(p, end)
    p = word_end(begin, end)
    if begin == end:
        line.hop = NO_HOP
        return LINE_PREFIX
    if p - begin > 10 or word_begin(p, end) != end:
        return LINE_OTHER
    while begin < p:
        if begin[0] < ZERO or begin[0] > ZERO + 9:
            return LINE_OTHER
        value = 10 * value + <uint64_t>(begin[0] - ZERO)
        begin += 1
    line.hop = <uint32_t>value
    return LINE_PREFIX if value < NO_HOP else LINE_OTHER


cdef bint is_other_family(object word, int family):
    cdef bytes text = word.encode("ascii", "replace")
    cdef uint64_t hi, lo
    return text_prefix(text, len(text), 10 - family, &hi, &lo) >= 0


cdef line_kind read_slowly(object text, int family, bint mask_host_bits, bint skip_other_family, line_t* line) except *:
    """A line of another form; raises where it is none."""
    words = text.partition("#")[0].replace(",", " ").split()
    if not words:
        return LINE_EMPTY
    if skip_other_family and is_other_family(words[0], family):
        return LINE_EMPTY
    if len(words) > 2:
        raise ValueError(f"not PREFIX or PREFIX HOP: {text.strip()!r}")
    line.len = prefix_of(words[0], family, mask_host_bits, &line.net)
    line.hop = NO_HOP
    if len(words) == 2:
        if not (words[1].isascii() and words[1].isdigit()):
            raise ValueError(f"a next hop is a number: {words[1]!r}")
        line.hop = hop_given(int(words[1]))
    return LINE_PREFIX


cdef bytes octets_of(str text):
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:      # of another lone surrogate, which no prefix has
        return text.encode("utf-8", "replace")


cdef list lines_of(object source):
    """The lines of an iterable of str or bytes, each with its end."""
    lines = []
    for number, text in enumerate(source, 1):
        if not isinstance(text, str | bytes):
            raise TypeError(f"line {number}: a line is str or bytes, not {type(text).__name__}")
        line = octets_of(text) if isinstance(text, str) else text
        lines.append(line if line.endswith(b"\n") else line + b"\n")
    return lines


cdef object read_prefixes(object source, int family, bint mask_host_bits, bint skip_other_family):
    """(N, 2) uint64 of keys, (N,) uint8 of lengths and (N,) uint32 of hops; a line without one has its rank.

    Raises AddressError or ValueError with the number of the line.
    """
    if isinstance(source, str):
        source = octets_of(source)
    elif not PyObject_CheckBuffer(source):
        source = b"".join(lines_of(source))
    source = memoryview(source)
    cdef const uint8_t[::1] octets = source.cast("B") if source.nbytes else b" "
    cdef const char* p = <const char*>&octets[0]
    cdef const char* last = p + octets.shape[0]
    cdef const char* end
    cdef Py_ssize_t number = 0, n = 0, most = np.count_nonzero(np.asarray(octets) == 10) + 1
    keys, lengths, hops = np.empty((most, 2), np.uint64), np.empty(most, np.uint8), np.empty(most, np.uint32)
    cdef uint64_t[:, ::1] key = keys
    cdef uint8_t[::1] length = lengths
    cdef uint32_t[::1] hop = hops
    cdef line_t line
    cdef line_kind kind = LINE_EMPTY
    while p < last:
        with nogil:
            while p < last:
                number += 1
                end = <const char*>memchr(p, b"\n", last - p)
                end = last if end == NULL else end
                kind = read_line(p, end, family, mask_host_bits, &line)
                if kind == LINE_OTHER:
                    break
                p = end + 1
                if kind == LINE_PREFIX:
                    key[n, 0], key[n, 1] = kf_key_hi(line.net), kf_key_lo(line.net)
                    length[n], hop[n] = <uint8_t>line.len, <uint32_t>n if line.hop == NO_HOP else line.hop
                    n += 1
        if kind == LINE_OTHER:
            text = bytes(p[:end - p]).decode("utf-8", "replace")
            try:
                kind = read_slowly(text, family, mask_host_bits, skip_other_family, &line)
            except ValueError as error:
                raise type(error)(f"line {number}: {error}") from None
            p = end + 1
            if kind == LINE_PREFIX:
                key[n, 0], key[n, 1] = kf_key_hi(line.net), kf_key_lo(line.net)
                length[n], hop[n] = <uint8_t>line.len, <uint32_t>n if line.hop == NO_HOP else line.hop
                n += 1
    return keys[:n], lengths[:n], hops[:n]
