"""Columns of packets that grow while a capture file is scanned."""

from libc.stdint cimport int64_t, uint16_t, uint32_t

cdef struct record_t:
    int64_t offset          # of the frame in the buffer
    int64_t time            # ns
    uint32_t length         # bytes captured
    uint32_t wire_length    # bytes on the wire
    uint16_t link_type      # LINKTYPE_*

cdef struct records_t:
    record_t* row
    Py_ssize_t count
    Py_ssize_t room

cdef bint append(records_t* r, const record_t* record) noexcept nogil
cdef object take(records_t* r)
