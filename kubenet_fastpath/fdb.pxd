"""C interface of `ForwardingDatabase`: the bridge's (VLAN, MAC) -> port.

`fdb_lookup`, `fdb_learn` and `fdb_age` are the whole bridge. To hide memory latency, hash a vector of keys
ahead (`fdb_key`, `fdb_hash`, `fdb_prefetch`) and hand the hash to `fdb_lookup_hashed`, `fdb_learn_hashed`.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from .fdb_table cimport (
    FDB_LOCAL, FDB_NO_ROW, FDB_UNKNOWN, fdb_age, fdb_entry_t, fdb_flush, fdb_hash, fdb_key, fdb_learn,
    fdb_learn_hashed, fdb_lookup, fdb_lookup_hashed, fdb_prefetch, fdb_refresh, fdb_row, fdb_t,
)


@cython.final
cdef class ForwardingDatabase:
    cdef fdb_t* table           # valid as long as the object lives; under the caller's care while it is used
    cdef fdb_t rows
    cdef int isa_number
    cdef readonly object seed
    cdef int64_t created        # ns

    cdef int put(self, key, port, unsigned flags) except -1
    cdef object in_order(self, const uint64_t[::1] src, const uint64_t[::1] dst, port, now, vlan, out)
    cdef object frames_in_order(self, batch, port, now, vlan, out)
    cdef object frames_lookup(self, batch, vlan, out)
