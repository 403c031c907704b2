"""Columns of packets that grow while a capture file is scanned, and numbers of either byte order."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    MOST_BYTES = 16 << 20       # of one packet: a record that says more is broken (libpcap: 256 KiB, or 128 MiB for USB)

cdef struct record_t:
    int64_t offset              # of the frame in the buffer
    int64_t time                # ns
    uint32_t length             # bytes captured
    uint32_t wire_length        # bytes on the wire
    uint16_t link_type          # LINKTYPE_*

cdef struct columns_t:
    int64_t* offset
    int64_t* time
    uint32_t* length
    uint32_t* wire_length
    uint16_t* link_type
    Py_ssize_t count
    Py_ssize_t room

cdef bint grow(columns_t* c) noexcept nogil
cdef void release(columns_t* c) noexcept nogil
cdef object take(columns_t* c)

cdef inline bint append(columns_t* c, const record_t* record) noexcept nogil:
    """False when there is no memory; the columns are as they were then."""
    if c.count == c.room and not grow(c):
        return False
    c.offset[c.count], c.time[c.count] = record.offset, record.time
    c.length[c.count], c.wire_length[c.count] = record.length, record.wire_length
    c.link_type[c.count] = record.link_type
    c.count += 1
    return True

cdef inline uint32_t read32(const uint8_t* p, bint big) noexcept nogil:
    if big:
        return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
    return <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]

cdef inline uint16_t read16(const uint8_t* p, bint big) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1]) if big else <uint16_t>(p[1] << 8 | p[0])
