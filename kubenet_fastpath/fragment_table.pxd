"""C door of `FragmentTable`: `table.table` is what defrag.pxd works on."""

cimport cython

from .defrag cimport defrag_t


@cython.final
cdef class FragmentTable:
    cdef defrag_t* table
