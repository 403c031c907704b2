"""Saved tables: the image of a table's lookup arrays and of its prefixes, in a file or in any memory."""

from libc.stdint cimport uint8_t, uint32_t

from .arena cimport kf_lpm

cdef object image_memory(const kf_lpm* block, uint32_t prefixes)
cdef object seal_image(object memory, object columns)
cdef object columns_of(const uint8_t[::1] image)
cdef object aligned(object image)
cdef kf_lpm* checked_image(const uint8_t[::1] image) except NULL
cdef object map_image(object path)
cdef int write_image(object path, object image) except -1
