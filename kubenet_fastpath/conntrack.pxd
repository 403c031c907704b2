"""C interface of `ConnectionTable`: Linux's nf_conntrack over tuples of either family.

A connection is a row of one slab, named by its index; NO_CONN means none. Nothing here reads a clock.
The floors below: `connection` (types), `tcp`, `flowtable` (rows and index), `tracker` (packets).
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport AddressPool
from .columns cimport columns_t
from .connection cimport (
    CT_DROP, CT_UNTRACKED, CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_INVALID, CT_NEW, CT_RELATED, CT_RELATED_REPLY,
    IPS_ASSURED, IPS_CONFIRMED, IPS_DST_NAT, IPS_DST_NAT_DONE, IPS_DYING, IPS_FIXED_TIMEOUT, IPS_NAT_CLASH,
    IPS_NAT_DONE_MASK, IPS_NAT_MASK, IPS_SEEN_REPLY, IPS_SRC_NAT, IPS_SRC_NAT_DONE, NO_CONN, SECOND, conn_t,
    ctinfo_t, segment_t, tuple_equal, tuple_invert, tuple_ports, tuple_t,
)
from .flowtable cimport (
    CONFIRM_CLASH, CONFIRM_FULL, CONFIRM_OK, confirm_t, ct_confirm, ct_conn, ct_discard, ct_expire, ct_find,
    ct_hash, ct_kill, ct_live, ct_prefetch, ct_prefetch_conn, ct_source, ct_t, ct_taken,
)
from .tracker cimport ct_track, ct_track_hashed


@cython.final
cdef class ConnectionTable:
    cdef ct_t* table
    cdef int isa_number
    cdef uint64_t rng               # of the search for a free port
    cdef readonly object timeouts
    cdef readonly object seed
    cdef readonly AddressPool addresses
    cdef public object guard        # a Lock, held by whoever inspects; a node's table has the node's

    cdef object rows(self, now, int family)
    cdef uint32_t handle(self, address) except? 0xFFFFFFFF
    cdef object frames(self, columns_t* c, int64_t* time, batch, sport, dport, proto, now)
    cdef object columns(self, columns_t* c, int64_t* time, src, dst, sport, dport, proto, now, int zone)
