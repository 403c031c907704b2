"""Blocks of a pcapng file.

Source: draft-ietf-opsawg-pcapng. Section headers, interface descriptions, enhanced, simple and obsolete packet blocks
are read, each section in its own byte order and each interface with its own resolution and offset; all other blocks
are passed over.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from .scan cimport append, record_t, records_t, take

cdef enum:
    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    OBSOLETE_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    BYTE_ORDER = 0x1A2B3C4D
    IF_TSRESOL = 9
    IF_TSOFFSET = 14
    MOST_BYTES = 16 << 20       # of one block that holds a packet

cdef struct interface_t:
    uint64_t per_second         # ticks; 0: 2**power of them
    uint8_t power
    int64_t offset              # s
    uint32_t snaplen            # 0: none
    uint16_t link_type


cdef inline uint32_t read32(const uint8_t* p, bint big) noexcept nogil:
    if big:
        return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
    return <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]


cdef inline uint16_t read16(const uint8_t* p, bint big) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1]) if big else <uint16_t>(p[1] << 8 | p[0])

cdef extern from *:
    """
    /* ticks * 10^9 / per_second without losing a bit; times beyond the year 2262 wrap. */
    static inline int64_t kf_ns(uint64_t ticks, uint64_t per_second, uint8_t power)
    {
        unsigned __int128 ns = (unsigned __int128)ticks * 1000000000u;
        return (int64_t)(uint64_t)(per_second ? ns / per_second : ns >> power);
    }
    """
    int64_t kf_ns(uint64_t ticks, uint64_t per_second, uint8_t power) nogil


@cython.final
cdef class PcapngScanner:
    """Finds the packets of a pcapng file, piece by piece; what it knows of interfaces stays between pieces."""

    cdef bint big
    cdef bint in_section
    cdef interface_t* interface
    cdef uint32_t interfaces

    def __dealloc__(self):
        free(self.interface)

    cdef bint add_interface(self, const uint8_t* p, uint32_t n) noexcept nogil:
        """Take note of an interface description of n bytes, body only."""
        cdef interface_t* grown
        cdef interface_t* i
        cdef uint32_t at = 8, length, code
        cdef uint8_t k
        grown = <interface_t*>realloc(self.interface, (self.interfaces + 1) * sizeof(interface_t))
        if grown == NULL:
            return False
        self.interface = grown
        i = &grown[self.interfaces]
        self.interfaces += 1
        i.link_type, i.snaplen = read16(p, self.big), read32(p + 4, self.big)
        i.per_second, i.power, i.offset = 1_000_000, 0, 0
        while n - at >= 4:
            code, length = read16(p + at, self.big), read16(p + at + 2, self.big)
            at += 4
            if code == 0 or length > n - at:
                break
            if code == IF_TSRESOL and length >= 1:
                if p[at] & 0x80:
                    i.per_second, i.power = 0, p[at] & 0x7F
                elif p[at] <= 19:
                    i.per_second = 1
                    for k in range(p[at]):
                        i.per_second *= 10
            elif code == IF_TSOFFSET and length >= 8:
                i.offset = <int64_t>(<uint64_t>read32(p + at + (0 if self.big else 4), self.big) << 32
                                     | read32(p + at + (4 if self.big else 0), self.big))
            at += min((length + 3) & ~<uint32_t>3, n - at)
        return True

    cdef bint packet(self, const uint8_t* p, uint32_t n, uint32_t type, record_t* r) noexcept nogil:
        """Read a packet block of n bytes, body only; r.offset is relative to it. False: it is not sound."""
        cdef uint32_t index = 0
        cdef uint64_t ticks
        cdef interface_t* i
        cdef uint32_t header = 4 if type == SIMPLE_PACKET else 20
        if n < header:
            return False
        if type == ENHANCED_PACKET:
            index = read32(p, self.big)
        elif type == OBSOLETE_PACKET:
            index = read16(p, self.big)
        if index >= self.interfaces:
            return False
        i = &self.interface[index]
        r.link_type, r.offset = i.link_type, header
        if type == SIMPLE_PACKET:
            r.time, r.wire_length = 0, read32(p, self.big)
            r.length = min(r.wire_length, n - header)
            if i.snaplen:
                r.length = min(r.length, i.snaplen)
            return True
        ticks = <uint64_t>read32(p + 4, self.big) << 32 | read32(p + 8, self.big)
        r.length, r.wire_length = read32(p + 12, self.big), read32(p + 16, self.big)
        if r.length > n - header:
            return False
        r.wire_length = max(r.wire_length, r.length)
        r.time = <int64_t>(<uint64_t>kf_ns(ticks, i.per_second, i.power) + <uint64_t>i.offset * 1_000_000_000)
        return True

    def scan(self, const uint8_t[::1] data not None, Py_ssize_t start=0, Py_ssize_t most=2**62):
        """Find packets; parameters and results as of `PcapScanner.scan`, `start` being where a block begins."""
        cdef Py_ssize_t size = data.shape[0], at = start
        cdef const uint8_t* p
        cdef uint32_t type, total
        cdef records_t found
        cdef record_t r
        cdef bint memory = True
        cdef const char* broken = NULL
        found.row, found.count, found.room = NULL, 0, 0
        with nogil:
            while found.count < most and size - at >= 12:
                p = &data[at]
                if read32(p, True) == SECTION:
                    if read32(p + 8, True) == BYTE_ORDER:
                        self.big = True
                    elif read32(p + 8, False) == BYTE_ORDER:
                        self.big = False
                    else:
                        broken = "a section header has no byte-order magic"
                        break
                    type = SECTION
                elif not self.in_section:
                    broken = "a block stands before any section header"
                    break
                else:
                    type = read32(p, self.big)
                total = read32(p + 4, self.big)
                if total < 12 or total & 3 or (total > MOST_BYTES and type <= ENHANCED_PACKET):
                    broken = "a block's length cannot be"
                    break
                if size - at < total:
                    break
                if type == SECTION:
                    if total < 28 or read16(p + 12, self.big) != 1:
                        broken = "a section is of a version that is not known"
                        break
                    self.in_section, self.interfaces = True, 0
                elif type == INTERFACE:
                    if total < 20:
                        broken = "an interface description is too short"
                        break
                    memory = self.add_interface(p + 8, total - 12)
                elif type == ENHANCED_PACKET or type == SIMPLE_PACKET or type == OBSOLETE_PACKET:
                    if not self.packet(p + 8, total - 12, type, &r):
                        broken = "a packet block is not sound"
                        break
                    r.offset += at + 8
                    memory = append(&found, &r)
                if not memory:
                    break
                at += total
        if not memory:
            free(found.row)
            raise MemoryError("no memory for the columns of the capture")
        return take(&found), at, None if broken == NULL else broken.decode()
