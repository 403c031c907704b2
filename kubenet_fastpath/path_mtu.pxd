"""What ICMP has told the node of paths: the largest packet that gets through to a destination by a next hop.

The kernel's exceptions to a next hop (struct fib_nh_exception, rt6_exception). The node's own packets keep to them; what
it forwards does so of IPv4 where the path was said to carry less than `LEAST_PATH_MTU` (then it is locked), of IPv6 always.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    NO_PATH = 0xFFFFFFFF
    LEAST_PATH_MTU = 552        # net.ipv4.route.min_pmtu
    LEAST_PATH_MTU6 = 1280

cdef struct path_mtu_t:
    uint32_t hop                # NO_PATH: the row is free
    uint32_t ip                 # destination, of IPv6 a handle
    uint32_t mtu                # bytes of an IP packet
    bint six                    # of IPv6
    bint locked
    int64_t expires             # ns
    int64_t told                # ns, when it was last said

cdef struct path_mtus_t:        # buckets of a few rows each; NULL until something was told
    path_mtu_t* row
    uint32_t n_buckets          # a power of two
    uint64_t secret[2]

cdef enum: PATH_DEPTH = 8       # rows of a bucket: the kernel draws six to ten (FNHE_RECLAIM_DEPTH)

cdef path_mtu_t* path_find(const path_mtus_t* t, uint32_t hop, uint32_t ip, int64_t now) noexcept nogil
cdef bint path_told(path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link, uint32_t mtu, int64_t now) noexcept nogil
cdef bint path_told6(path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link, uint32_t mtu, int64_t now) noexcept nogil
cdef void path_relinked(path_mtu_t* path, uint32_t before, uint32_t mtu) noexcept nogil


cdef inline uint32_t path_mtu(const path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link, int64_t now) noexcept nogil:
    """The largest packet of the node's own to a destination, where the link carries `link` bytes (ipv4_mtu, ip6_mtu)."""
    cdef path_mtu_t* path = NULL
    if t.row != NULL:
        path = path_find(t, hop, ip, now)
    return link if path == NULL else path.mtu


cdef inline uint32_t path_mtu_forward(const path_mtus_t* t, uint32_t hop, uint32_t ip, uint32_t link,
                                      int64_t now) noexcept nogil:
    """The largest that is forwarded of IPv4 (ip_dst_mtu_maybe_forward, ip_forward_use_pmtu 0)."""
    cdef path_mtu_t* path = NULL
    if t.row != NULL:
        path = path_find(t, hop, ip, now)
    return path.mtu if path != NULL and path.locked else link


@cython.final
cdef class PathMtuTable:
    cdef path_mtus_t table
