"""Columns of address texts, and prefixes as text, for C."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum column_kind:
    COLUMN_FIXED                # bytes in fields of one width, filled up with NULs
    COLUMN_UCS4                 # the same of 32-bit characters
    COLUMN_POINTERS             # NULL: null
    COLUMN_OFFSETS32
    COLUMN_OFFSETS64
    COLUMN_VIEWS                # Arrow's views of 16 bytes: length, then the text or prefix, buffer, offset
    COLUMN_NULLS                # nothing else, and without memory

cdef struct text_chunk_t:
    column_kind kind
    Py_ssize_t n
    Py_ssize_t first            # Arrow: rows before
    Py_ssize_t stride
    Py_ssize_t width            # characters
    const char* data            # fields, or what offsets count from
    const char** pointers       # COLUMN_POINTERS: the texts; COLUMN_VIEWS: the buffers
    const int64_t* lengths
    const void* offsets
    const uint8_t* valid        # Arrow: a bit a row, or NULL
    const void* indices         # of a dictionary's rows, or NULL
    int index_size
    const text_chunk_t* dictionary

@cython.final
cdef class TextColumn:
    cdef readonly Py_ssize_t size
    cdef text_chunk_t* chunks
    cdef Py_ssize_t n_chunks
    cdef object owners          # of the memory that chunks refer to

    cdef text_chunk_t* add(self) except NULL
    cdef int add_array(self, object array) except -1
    cdef int add_texts(self, tuple texts) except -1
    cdef int add_arrow(self, object schema, object array) except -1
    cdef Py_ssize_t parse(self, int family, int isa, Py_ssize_t start, Py_ssize_t n, char* out,
                          uint8_t* ok) noexcept nogil

cdef int text_prefix(const char* text, Py_ssize_t size, int family, uint64_t* hi, uint64_t* lo) noexcept nogil
cdef object text_of_key(uint64_t hi, uint64_t lo, int family)
