"""C interface of `RouteTable`.

`fib_lookup` is the whole of it. Who looks up while the GIL is released and others may change the table
becomes a reader first: `epoch = fib_enter(table.fib)` and `fib_leave(table.fib, epoch)`, both with the GIL.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from .fib_trie cimport FIB_MISS, fib_enter, fib_leave, fib_lookup, fib_prefetch, fib_t
from .rib cimport rib_t


@cython.final
cdef class RouteTable:
    cdef fib_t* fib             # valid as long as the object lives, whatever changes in the table
    cdef fib_t arrays
    cdef rib_t rib

    cdef int put(self, uint32_t net, uint8_t len, uint32_t hop) except -1
    cdef bint drop(self, uint32_t net, uint8_t len) except -1
    cdef object match(self, uint32_t node)
    cdef object matches(self, uint32_t top)
