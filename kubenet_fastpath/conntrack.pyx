"""ConnectionTable: connection tracking for Python (first landing: the table, and its size)."""

from libc.stdlib cimport calloc, free

from .flowtable cimport (
    EXPIRY_GENERIC, EXPIRY_GRE, EXPIRY_GRE_STREAM, EXPIRY_ICMP, EXPIRY_UDP, EXPIRY_UDP_STREAM, EXPIRY_UDPLITE,
    EXPIRY_UDPLITE_STREAM, ct_init, ct_release,
)


cdef class ConnectionTable:
    """Linux's nf_conntrack."""

    def __cinit__(self, capacity=262144, *, seed=0, loose=True, liberal=False, checksum=True):
        self.table = <ct_t*>calloc(1, sizeof(ct_t))
        if not self.table or not ct_init(self.table, capacity, seed):
            raise MemoryError
        t = self.table
        t.checksum, t.tcp.loose, t.tcp.liberal, t.tcp.max_retrans = checksum, loose, liberal, 3
        for i, seconds in enumerate((0, 120, 60, 432_000, 120, 60, 30, 120, 10, 120, 300, 300)):
            t.tcp.timeout[i] = seconds * <int64_t>SECOND
        t.timeout[EXPIRY_GENERIC] = 600 * <int64_t>SECOND
        t.timeout[EXPIRY_ICMP] = 30 * <int64_t>SECOND
        t.timeout[EXPIRY_UDP] = 30 * <int64_t>SECOND
        t.timeout[EXPIRY_UDP_STREAM] = 120 * <int64_t>SECOND
        t.timeout[EXPIRY_UDPLITE] = 30 * <int64_t>SECOND
        t.timeout[EXPIRY_UDPLITE_STREAM] = 120 * <int64_t>SECOND
        t.timeout[EXPIRY_GRE] = 30 * <int64_t>SECOND
        t.timeout[EXPIRY_GRE_STREAM] = 180 * <int64_t>SECOND

    def __dealloc__(self):
        if self.table:
            ct_release(self.table)
            free(self.table)

    def __len__(self):
        return self.table.count
