"""C interface of `RouteTable`."""

cimport cython
from libc.stdint cimport uint32_t

cdef enum:
    FIB_MISS = 0xFFFFFFFF

cdef struct fib_t           # the lookup arrays; opaque to its users

cdef uint32_t fib_lookup(const fib_t* f, uint32_t dst) noexcept nogil


@cython.final
cdef class RouteTable:
    cdef fib_t* fib
