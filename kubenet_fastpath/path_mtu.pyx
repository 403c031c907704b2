"""Path MTUs that ICMP told the node, by next hop and destination, for ten minutes each.

Source: net/ipv4/route.c (__ip_rt_update_pmtu, update_or_create_fnhe), net/ipv4/fib_semantics.c (fib_nhc_update_mtu),
net/ipv6/route.c (__ip6_rt_update_pmtu, rt6_exceptions_update_pmtu), with mtu_expires 600 s and min_pmtu 552.
Whoever can send to the node can make it remember, so the table is bounded: it doubles while buckets are full, up to
`MOST_BUCKETS` (fnhe_hash_bucket has as many for each next hop); then the one that was told of longest ago goes.
"""

import numpy as np

from libc.stdlib cimport calloc, free

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef enum:
    LEAST_BUCKETS = 8
    MOST_BUCKETS = 2048         # FNHE_HASH_SIZE

cdef int64_t EXPIRES = 600_000_000_000              # net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires


cdef inline path_mtu_t* bucket_of(const path_mtus_t* t, uint32_t hop, uint32_t ip) noexcept nogil:
    return &t.row[(kf_hash64(<uint64_t>hop << 32 | ip, t.secret) & (t.n_buckets - 1)) * PATH_DEPTH]


cdef path_mtu_t* row_of(const path_mtus_t* t, uint32_t hop, uint32_t ip) noexcept nogil:
    cdef path_mtu_t* bucket = bucket_of(t, hop, ip)
    cdef uint32_t k
    for k in range(PATH_DEPTH):
        if bucket[k].hop == hop and bucket[k].ip == ip:
            return &bucket[k]
    return NULL


cdef path_mtu_t* path_find(const path_mtus_t* t, uint32_t hop, uint32_t ip, int64_t now) noexcept nogil:
    """What is known of a path at this time, or NULL. There must be a table."""
    cdef path_mtu_t* path = row_of(t, hop, ip)
    return NULL if path == NULL or path.expires <= now else path


cdef bint resize(path_mtus_t* t, uint32_t n_buckets) noexcept nogil:
    """Make the table anew with so many buckets. False without memory: it stays."""
    cdef path_mtus_t old = t[0]
    cdef uint32_t i
    t.row = <path_mtu_t*>calloc(<size_t>n_buckets * PATH_DEPTH, sizeof(path_mtu_t))
    if t.row == NULL:
        t.row = old.row
        return False
    t.n_buckets = n_buckets
    for i in range(n_buckets * PATH_DEPTH):
        t.row[i].hop = NO_PATH
    for i in range(old.n_buckets * PATH_DEPTH):
        if old.row[i].hop != NO_PATH:
            place(t, old.row[i].hop, old.row[i].ip)[0] = old.row[i]
    free(old.row)
    return True


cdef path_mtu_t* place(path_mtus_t* t, uint32_t hop, uint32_t ip) noexcept nogil:
    """A free row of a path's bucket, or else the one that was told of longest ago."""
    cdef path_mtu_t* bucket = bucket_of(t, hop, ip)
    cdef path_mtu_t* oldest = bucket
    cdef uint32_t k
    for k in range(PATH_DEPTH):
        if bucket[k].hop == NO_PATH:
            return &bucket[k]
        if bucket[k].told < oldest.told:
            oldest = &bucket[k]
    return oldest


cdef path_mtu_t* make(path_mtus_t* t, uint32_t hop, uint32_t ip, int64_t now) noexcept nogil:
    """The path's row, or one that it may have; NULL without memory."""
    cdef path_mtu_t* path
    if t.row == NULL and not resize(t, LEAST_BUCKETS):
        return NULL
    path = row_of(t, hop, ip)
    if path != NULL:
        return path
    path = place(t, hop, ip)
    while path.hop != NO_PATH and path.expires > now and t.n_buckets < MOST_BUCKETS:
        if not resize(t, 2 * t.n_buckets):
            break
        path = place(t, hop, ip)
    return path


cdef void note(path_mtu_t* path, uint32_t hop, uint32_t ip, uint32_t mtu, bint locked, bint six, int64_t now) noexcept nogil:
    path.hop, path.ip, path.mtu, path.locked, path.six = hop, ip, mtu, locked, six
    path.told, path.expires = now, now + EXPIRES


cdef bint path_told(path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link, uint32_t mtu, int64_t now) noexcept nogil:
    """"Fragmentation needed" said `mtu` of a path whose link carries `link` (__ip_rt_update_pmtu).

    True if what is forwarded fits otherwise from now on.
    """
    cdef path_mtu_t* path = NULL
    cdef uint32_t known = link
    cdef bint locked
    if t.row != NULL:
        path = path_find(t, hop, ip, now)
    if path != NULL:
        known = path.mtu
        if path.locked:
            return False
    if known < mtu:
        return False
    locked = mtu < LEAST_PATH_MTU
    if locked:
        mtu = min(known, <uint32_t>LEAST_PATH_MTU)
    if path != NULL and path.mtu == mtu and not locked and now < path.expires - EXPIRES // 2:
        return False
    path = make(t, hop, ip, now)
    if path == NULL:
        return False
    note(path, hop, ip, mtu, locked, False, now)
    return locked


cdef bint path_told6(path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link, uint32_t mtu, int64_t now) noexcept nogil:
    """"Packet too big" said so (__ip6_rt_update_pmtu)."""
    cdef path_mtu_t* path = NULL
    if t.row != NULL:
        path = path_find(t, hop, ip, now)
    if mtu < LEAST_PATH_MTU6 or mtu >= (link if path == NULL else path.mtu):
        return False
    path = make(t, hop, ip, now)
    if path == NULL:
        return False
    note(path, hop, ip, mtu, False, True, now)
    return True


cdef void path_relinked(path_mtu_t* path, uint32_t before, uint32_t mtu) noexcept nogil:
    """The link of its next hop carries `mtu` bytes now, no more `before` (fib_nhc_update_mtu)."""
    if path.locked:
        if mtu <= path.mtu:
            path.mtu, path.locked = mtu, False
    elif mtu < path.mtu or path.mtu == before:
        path.mtu = mtu


cdef class PathMtuTable:
    """Path MTUs by next hop and destination.

    Parameters
    ----------
    seed : int
        Secret of the hash.

    Notes
    -----
    No memory until something is told; then 3 KiB, growing to 768 KiB at most: 2,048 buckets of eight paths. A node's
    next hops are numbered as in `Node.next_hops`; destinations of IPv6 are handles of `Node.addresses`.
    """

    def __cinit__(self, seed=0):
        cdef uint64_t state = seed & 0xFFFFFFFFFFFFFFFF
        self.table.secret[0] = kf_splitmix(&state)
        self.table.secret[1] = kf_splitmix(&state)

    def __dealloc__(self):
        free(self.table.row)

    def tell(self, uint32_t hop, uint32_t ip, uint32_t link, uint32_t mtu, int64_t now, *, int family=4):
        """An ICMP error says that no more than `mtu` bytes get through, where the hop's link carries `link`.

        Returns
        -------
        bool
            What is forwarded fits otherwise from now on: of IPv4 below 552 bytes alone.
        """
        if family == 6:
            return path_told6(&self.table, hop, ip, link, mtu, now)
        return path_told(&self.table, hop, ip, link, mtu, now)

    def mtu(self, uint32_t hop, uint32_t ip, uint32_t link, int64_t now, *, bint forwarded=False):
        """The largest packet, in bytes: of the node's own, or of IPv4 that is `forwarded`."""
        if forwarded:
            return path_mtu_forward(&self.table, hop, ip, link, now)
        return path_mtu(&self.table, hop, ip, link, now)

    def forget(self, uint32_t hop):
        """A next hop is gone."""
        cdef uint32_t i
        for i in range(self.table.n_buckets * PATH_DEPTH):
            if self.table.row[i].hop == hop:
                self.table.row[i].hop = NO_PATH

    def set_link(self, uint32_t hop, uint32_t before, uint32_t mtu):
        """A hop's link carries `mtu` bytes, no more `before`."""
        cdef uint32_t i
        for i in range(self.table.n_buckets * PATH_DEPTH):
            if self.table.row[i].hop == hop:
                path_relinked(&self.table.row[i], before, mtu)

    def __len__(self):
        return len(self.to_records())

    def to_records(self):
        """The table as a structured array: hop, ip (host order; of IPv6 a handle), family, mtu (bytes), locked, expires (ns).

        Those that have expired are there until somebody needs their place.
        """
        cdef uint32_t i
        cdef path_mtu_t* row = self.table.row
        rows = [(row[i].hop, row[i].ip, 6 if row[i].six else 4, row[i].mtu, row[i].locked, row[i].expires)
                for i in range(self.table.n_buckets * PATH_DEPTH) if row[i].hop != NO_PATH]
        return np.array(sorted(rows), dtype=[("hop", "u4"), ("ip", "u4"), ("family", "u1"), ("mtu", "u4"), ("locked", "?"),
                                             ("expires", "i8")])
