"""C interface of `RouteTable`.

`fib_lookup` is the whole of it. Who looks up while the GIL is released and others may change the table
becomes a reader first: `epoch = fib_enter(table.fib)` and `fib_leave(table.fib, epoch)`, both with the GIL.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .arena cimport KF_MISS as FIB_MISS, kf_lpm
from .fib_engine cimport fib_enter, fib_leave, fib_lookup, fib_lookup6, fib_prefetch, fib_status, fib_t
from .rib cimport kf_key, rib_t


@cython.final
cdef class RouteTable:
    cdef fib_t* fib             # valid as long as the object lives, whatever changes in the table
    cdef fib_t arrays
    cdef rib_t rib              # empty as long as the table is frozen
    cdef int isa_number
    cdef int reading            # threads that walk the RIB without the GIL
    cdef bint frozen            # the prefixes are still in the image only
    cdef const uint8_t[::1] image
    cdef readonly int family

    cdef rib_t* rib_ready(self) except NULL
    cdef rib_t* rib_mine(self) except NULL
    cdef int check(self, fib_status status) except -1
    cdef void expect(self, kf_key net) noexcept
    cdef fib_status draw(self, kf_key net, int len, uint32_t before) noexcept
    cdef void undo(self, const uint64_t[:, ::1] net, const uint8_t[::1] len, const uint32_t[::1] before,
                   Py_ssize_t n, bint drawn) noexcept
    cdef object matches(self, uint32_t top)
    cdef object image_now(self)
