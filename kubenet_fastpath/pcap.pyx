"""Records of a classic pcap file, read and written.

Source: draft-ietf-opsawg-pcap (PCAP Capture File Format); `sf-pcap.c` of libpcap for what real files hold.
"""

import numpy as np

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from .errors import CaptureError

from .rows cimport outside
from .scan cimport MOST_BYTES, append, columns_t, read16, read32, record_t, release, take

cdef enum:
    FILE_HEADER = 24
    RECORD_HEADER = 16
    USUAL_SNAPLEN = 262144      # libpcap's MAXIMUM_SNAPLEN: more in a record is an error, unless the file says more
    SECOND = 1_000_000_000      # ns

#: First four bytes: (big endian, nanoseconds, bytes that Kuznetsov's record headers are longer).
MAGIC = {
    b"\xa1\xb2\xc3\xd4": (True, False, 0), b"\xd4\xc3\xb2\xa1": (False, False, 0),
    b"\xa1\xb2\x3c\x4d": (True, True, 0), b"\x4d\x3c\xb2\xa1": (False, True, 0),
    b"\xa1\xb2\xcd\x34": (True, False, 8), b"\x34\xcd\xb2\xa1": (False, False, 8),
}


@cython.final
cdef class PcapScanner:
    """Finds the packets of a pcap file, piece by piece.

    Parameters
    ----------
    header : bytes
        The file's first 24 bytes.

    Raises
    ------
    CaptureError
        For what is no pcap header.
    """

    cdef bint big
    cdef uint32_t header        # bytes in front of each packet
    cdef uint32_t most_bytes    # of one packet
    cdef uint16_t minor
    cdef readonly bint nanoseconds
    cdef readonly int link_type

    def __cinit__(self, bytes header not None):
        if header[:4] not in MAGIC:
            raise CaptureError(f"it does not begin as a capture does, but with {header[:4].hex(' ')}")
        if len(header) < FILE_HEADER:
            raise CaptureError(f"it ends in its pcap header, after {len(header)} of {FILE_HEADER} bytes")
        self.big, self.nanoseconds, extra = MAGIC[header[:4]]
        self.header = RECORD_HEADER + <uint32_t>extra
        cdef const uint8_t* p = header
        major, self.minor = read16(p + 4, self.big), read16(p + 6, self.big)
        if major != 2:
            raise CaptureError(f"its pcap version is {major}.{self.minor}, and only 2 is known")
        self.most_bytes = min(max(read32(p + 16, self.big), <uint32_t>USUAL_SNAPLEN), <uint32_t>MOST_BYTES)
        self.link_type = read32(p + 20, self.big) & 0xFFFF      # FCS length and flags are above

    def scan(self, const uint8_t[::1] data not None, Py_ssize_t start=0, Py_ssize_t most=2**62):
        """Find packets.

        Parameters
        ----------
        data : (B,) ndarray of uint8
            A piece of the file.
        start : int
            Where in it a record begins.
        most : int
            Stop after so many packets.

        Returns
        -------
        packets : scan.Packets
        end : int
            Where the first record begins that is not among them.
        broken : str or None
            Why nothing that follows can be read.
        """
        cdef Py_ssize_t size = data.shape[0], at = start
        cdef const uint8_t* p = &data[0] if size else NULL
        cdef columns_t found
        cdef record_t r
        cdef bint memory = True, absurd = False
        if start < 0:
            raise ValueError(f"start is {start}")
        memset(&found, 0, sizeof(columns_t))
        with nogil:
            r.link_type = <uint16_t>self.link_type
            while memory and found.count < most and size - at >= self.header:
                r.length, r.wire_length = read32(p + at + 8, self.big), read32(p + at + 12, self.big)
                # up to version 2.2 the two stood the other way round, with 2.3 in some files (libpcap's swap_hdr)
                if self.minor < 3 or (self.minor == 3 and r.length > r.wire_length):
                    r.length, r.wire_length = r.wire_length, r.length
                if r.length > self.most_bytes:
                    absurd = True
                    break
                if size - at - self.header < r.length:
                    break
                r.wire_length = max(r.wire_length, r.length)
                r.time = <int64_t>read32(p + at, self.big) * SECOND
                r.time += <int64_t>read32(p + at + 4, self.big) * (1 if self.nanoseconds else 1000)
                r.offset = at + self.header
                memory = append(&found, &r)
                at += self.header + r.length
        if not memory:
            release(&found)
            raise MemoryError("no memory for the columns of the capture")
        return take(&found), at, f"a record of {r.length} bytes cannot be" if absurd else None


def pcap_records(const uint8_t[::1] data not None, const int64_t[::1] offset not None,
                 const uint32_t[::1] length not None, const uint32_t[::1] wire_length not None,
                 const int64_t[::1] time not None, bint nanoseconds):
    """Frames as the records of a little-endian pcap file.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    offset, length, wire_length, time : (N,) ndarray of int64, uint32, uint32, int64
        Times are ns since 1970, of which a file holds the seconds modulo 2**32.
    nanoseconds : bool
        Resolution of the file; microseconds otherwise, rounded down.

    Returns
    -------
    (16 * N + sum(length),) ndarray of uint8

    Raises
    ------
    ValueError
        When the columns do not agree or a frame is outside `data`.
    """
    cdef Py_ssize_t i, n = offset.shape[0]
    cdef int64_t at = 0, second, fraction
    if not n == length.shape[0] == wire_length.shape[0] == time.shape[0]:
        raise ValueError("the columns have different lengths")
    if outside(data.shape[0], offset, length) < n:
        raise ValueError(f"frame {outside(data.shape[0], offset, length)} is outside the data")
    with nogil:
        for i in range(n):
            at += RECORD_HEADER + <int64_t>length[i]
    made = np.empty(at, np.uint8)
    cdef uint8_t[::1] out = made
    cdef uint8_t* p
    cdef uint32_t field[4]
    cdef int k
    at = 0
    with nogil:
        for i in range(n):
            second, fraction = time[i] // SECOND, time[i] % SECOND
            if fraction < 0:                    # C divides towards zero
                second, fraction = second - 1, fraction + SECOND
            field[0], field[1] = <uint32_t>second, <uint32_t>(fraction if nanoseconds else fraction // 1000)
            field[2], field[3] = length[i], wire_length[i]
            p = &out[at]
            for k in range(4):
                p[4 * k], p[4 * k + 1] = <uint8_t>field[k], <uint8_t>(field[k] >> 8)
                p[4 * k + 2], p[4 * k + 3] = <uint8_t>(field[k] >> 16), <uint8_t>(field[k] >> 24)
            if length[i]:
                memcpy(p + RECORD_HEADER, &data[offset[i]], length[i])
            at += RECORD_HEADER + <int64_t>length[i]
    return made
