"""C interface of NAT: choosing a mapping for a new connection, and rewriting packets by it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .connection cimport conn_t, ctinfo_t
from .flowtable cimport ct_t

cdef enum manip_t:
    MANIP_SRC = 0           # POSTROUTING, LOCAL_IN
    MANIP_DST = 1           # PREROUTING, LOCAL_OUT

cdef enum:
    RANGE_PORTS = 1         # min_port..max_port hold (NF_NAT_RANGE_PROTO_SPECIFIED)
    RANGE_RANDOM = 2        # --random, --random-fully
    RANGE_PERSISTENT = 8    # --persistent: a client keeps its address of the range for every destination

cdef struct nat_range_t:    # kernel nf_nat_range2
    uint32_t min_ip         # both 0: the address stays. IPv6: handles, equal
    uint32_t max_ip
    uint16_t min_port       # ICMP: identifier
    uint16_t max_port
    uint8_t flags

cdef void nat_setup(ct_t* t, uint32_t conn, const nat_range_t* chosen, manip_t manip,
                    int64_t now, uint64_t* rng) noexcept nogil
cdef void nat_setup_null(ct_t* t, uint32_t conn, manip_t manip, int64_t now, uint64_t* rng) noexcept nogil
cdef bint nat_packet(const ct_t* t, const conn_t* conn, ctinfo_t info, manip_t manip,
                     uint8_t* l3, uint32_t l3_len) noexcept nogil
cdef bint nat_icmp_error(const ct_t* t, const conn_t* conn, ctinfo_t info, manip_t manip, bint verify,
                         uint8_t* l3, uint32_t l3_len) noexcept nogil
