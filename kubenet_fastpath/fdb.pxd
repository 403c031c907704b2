"""C interface of `ForwardingDatabase`: the bridge's (VLAN, MAC) -> port."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t

cdef enum:
    FDB_UNKNOWN = -1        # no entry: flood
    FDB_LOCAL = -2          # the bridge's own address or a port's: up to the host

cdef struct fdb_t           # the table; opaque to its users

cdef int32_t fdb_lookup(fdb_t* f, uint64_t mac, uint16_t vlan) noexcept nogil
cdef void fdb_learn(fdb_t* f, uint64_t mac, uint16_t vlan, uint16_t port, int64_t now) noexcept nogil
cdef void fdb_age(fdb_t* f, int64_t now) noexcept nogil


@cython.final
cdef class ForwardingDatabase:
    cdef fdb_t* table
