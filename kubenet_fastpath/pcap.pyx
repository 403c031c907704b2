"""Records of a classic pcap file.

Source: draft-ietf-opsawg-pcap (PCAP Capture File Format); `savefile.c` of libpcap for what real files hold.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from .errors import CaptureError

from .scan cimport append, record_t, records_t, take

cdef enum:
    FILE_HEADER = 24
    RECORD_HEADER = 16
    MOST_BYTES = 16 << 20       # of one packet: more is a broken file (libpcap allows 256 KiB, USB captures more)


cdef inline uint32_t read32(const uint8_t* p, bint big) noexcept nogil:
    if big:
        return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
    return <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]


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
    cdef uint32_t extra         # bytes of Kuznetsov's longer record headers
    cdef readonly bint nanoseconds
    cdef readonly int link_type
    cdef readonly object snaplen

    def __cinit__(self, bytes header not None):
        if len(header) < FILE_HEADER:
            raise CaptureError(f"the file ends in its pcap header, after {len(header)} of {FILE_HEADER} bytes")
        cdef const uint8_t* p = header
        cdef uint32_t magic = read32(p, True)
        known = {0xA1B2C3D4: (True, False, 0), 0xD4C3B2A1: (False, False, 0), 0xA1B23C4D: (True, True, 0),
                 0x4D3CB2A1: (False, True, 0), 0xA1B2CD34: (True, False, 8), 0x34CDB2A1: (False, False, 8)}
        if magic not in known:
            raise CaptureError(f"the file does not begin as a pcap file does, but with {header[:4].hex()}")
        self.big, self.nanoseconds, self.extra = known[magic]
        major = read32(p + 4, self.big) & 0xFFFF if not self.big else read32(p + 4, True) >> 16
        if major != 2:
            raise CaptureError(f"pcap version {major} is not known: 2 is")
        self.snaplen = read32(p + 16, self.big)
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
        records : (N,) ndarray of scan.RECORD
        end : int
            Where the first record begins that is not among them.
        broken : str or None
            Why nothing that follows can be read.
        """
        cdef Py_ssize_t size = data.shape[0], at = start
        cdef uint32_t header = RECORD_HEADER + self.extra
        cdef const uint8_t* p
        cdef records_t found
        cdef record_t r
        cdef bint memory = True, absurd = False
        found.row, found.count, found.room = NULL, 0, 0
        if size:
            p = &data[0]
        with nogil:
            r.link_type = <uint16_t>self.link_type
            while memory and found.count < most and size - at >= header:
                r.length, r.wire_length = read32(p + at + 8, self.big), read32(p + at + 12, self.big)
                if r.length > MOST_BYTES:
                    absurd = True
                    break
                if size - at - header < r.length:
                    break
                r.wire_length = max(r.wire_length, r.length)
                r.time = <int64_t>read32(p + at, self.big) * 1_000_000_000
                r.time += <int64_t>read32(p + at + 4, self.big) * (1 if self.nanoseconds else 1000)
                r.offset = at + header
                memory = append(&found, &r)
                at += header + r.length
        if not memory:
            free(found.row)
            raise MemoryError("no memory for the columns of the capture")
        broken = f"a record of {r.length} bytes cannot be" if absurd else None
        return take(&found), at, broken
