"""C interface of a flow table's memory as arrays that pickle carries out of band."""

from .flowtable cimport ct_t

cdef dict snapshot(const ct_t* t)
cdef int restore(ct_t* t, dict state) except -1
