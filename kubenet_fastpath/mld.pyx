"""What the bridge learns from MLD: by its version 1, as Linux has it by default. A report of version 2 that excludes or
names sources is a join; ff02::1 goes everywhere, other groups of the link to those who joined them.

A message of MLD has the router alert option: what comes without a header of options for every hop is data.

Source: net/bridge/br_multicast.c (br_multicast_ipv6_rcv, br_ip6_multicast_query, br_ip6_multicast_mld2_report),
net/ipv6/mcast_snoop.c (ipv6_mc_check_mld), net/ipv6/exthdrs_core.c (ipv6_skip_exthdr); RFC 2710, RFC 3810, RFC 4286.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .extension cimport extension_skip
from .frame cimport (
    EXT_HOP, IP6_DST, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, IP6_SRC, PROTO_ICMP6, csum_fold, csum_partial, load16, load32,
)
from .multicast cimport (
    SNOOP_BAD, SNOOP_DATA, SNOOP_FLOOD, SNOOP_ROUTERS, multicast_general_query, multicast_group_query, multicast_join,
    multicast_leave, multicast_router,
)

cdef enum:
    MLD_QUERY = 130
    MLD_REPORT = 131
    MLD_DONE = 132
    MLD_REPORT_V2 = 143
    MLD_ROUTER_ADVERT = 151
    MLD_LEN = 24
    QUERY_V2_LEN = 28
    REPORT_V2_LEN = 8           # before its records
    RECORD_LEN = 20             # before its sources
    IS_INCLUDE = 1
    TO_INCLUDE = 3
    LAST_RECORD = 6             # BLOCK_OLD_SOURCES

cdef int64_t MS = 1_000_000
cdef int64_t TICK = 4_000_000                       # a jiffy of HZ = 250
cdef uint64_t LINK = 0xFF02000000000000             # the upper half of ff02::x
cdef uint64_t ALL_NODES = 1
cdef uint64_t ALL_SNOOPERS = 0x6A


cdef address128_t address_at(const uint8_t* ip) noexcept nogil:
    cdef address128_t made
    made.hi = <uint64_t>load32(ip) << 32 | load32(ip + 4)
    made.lo = <uint64_t>load32(ip + 8) << 32 | load32(ip + 12)
    return made


cdef void query(multicast_t* m, const uint8_t* l3, const uint8_t* mld, uint32_t n, uint16_t port,
                int64_t now) noexcept nogil:
    cdef uint32_t code = load16(mld + 4)
    cdef address128_t group = address_at(mld + 8)
    cdef int64_t delay = code * MS
    if n == MLD_LEN:
        if code == 0:
            return
    else:
        if load16(mld + 26):                            # about sources
            return
        if code >= 0x8000:                              # a float of 3 and 12 bits (RFC 3810 section 5.1.3)
            delay = <int64_t>((code & 0xFFF | 0x1000) << ((code >> 12 & 7) + 3)) * MS
        delay = max(delay, TICK)
    if group.hi == 0 and group.lo == 0:
        multicast_general_query(m, True, address_at(l3 + IP6_SRC), delay, port, now)
    else:
        multicast_group_query(m, group, delay, now)


cdef snoop_t report_v2(multicast_t* m, const uint8_t* mld, uint32_t n, uint16_t port, int64_t now) noexcept nogil:
    cdef uint32_t at = REPORT_V2_LEN, sources
    cdef address128_t group
    cdef uint8_t type
    for _ in range(load16(mld + 6)):
        if n < at + RECORD_LEN:
            return SNOOP_BAD
        type, sources, group = mld[at], load16(mld + at + 2), address_at(mld + at + 4)
        at += RECORD_LEN + 16 * sources
        if n < at:
            return SNOOP_BAD
        if type == 0 or type > LAST_RECORD:
            continue
        if sources == 0 and (type == IS_INCLUDE or type == TO_INCLUDE):
            multicast_leave(m, group, port, now)
        elif not multicast_join(m, group, port, now):
            return SNOOP_BAD
    return SNOOP_FLOOD


cdef bint intact(const uint8_t* l3, const uint8_t* mld, uint32_t n) noexcept nogil:
    """The checksum, over a pseudo header with the length and the protocol (RFC 8200 section 8.1)."""
    return csum_fold(csum_partial(mld, n, csum_partial(l3 + IP6_SRC, 32, 0) + <uint64_t>n + PROTO_ICMP6)) == 0


cdef snoop_t mld_receive(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port, int64_t now) noexcept nogil:
    """Learn from an IPv6 packet in a multicast frame; n bytes are there from its header on (br_multicast_ipv6_rcv)."""
    cdef uint32_t at, total
    cdef int32_t found
    cdef uint16_t fragment
    cdef const uint8_t* mld
    cdef uint8_t protocol = EXT_HOP
    cdef address128_t dst, group
    cdef bint everybody
    if n < IP6_LEN or l3[0] >> 4 != 6:
        return SNOOP_BAD
    total = IP6_LEN + load16(l3 + IP6_PAYLOAD)
    if total > n or total == IP6_LEN:
        return SNOOP_BAD
    dst = address_at(l3 + IP6_DST)
    everybody = dst.hi == LINK and dst.lo == ALL_NODES
    if l3[IP6_NEXT] != EXT_HOP:
        return SNOOP_FLOOD if everybody else SNOOP_DATA
    found = extension_skip(l3, n, IP6_LEN, &protocol, &fragment)
    if found < 0:
        return SNOOP_BAD
    at = <uint32_t>found
    if protocol != PROTO_ICMP6:
        return SNOOP_FLOOD if everybody else SNOOP_DATA
    if total < at + 8 or not intact(l3, l3 + at, total - at):
        return SNOOP_BAD
    mld, n = l3 + at, total - at
    if n >= MLD_LEN:
        group = address_at(mld + 8)
        if mld[0] == MLD_REPORT:
            return SNOOP_ROUTERS if multicast_join(m, group, port, now) else SNOOP_BAD
        if mld[0] == MLD_REPORT_V2:
            return report_v2(m, mld, n, port, now)
        if mld[0] == MLD_DONE:
            multicast_leave(m, group, port, now)
            return SNOOP_FLOOD
        if mld[0] == MLD_QUERY:
            if l3[IP6_SRC] != 0xFE or l3[IP6_SRC + 1] & 0xC0 != 0x80 or (n != MLD_LEN and n < QUERY_V2_LEN):
                return SNOOP_BAD
            if group.hi == 0 and group.lo == 0 and not everybody:
                return SNOOP_BAD
            query(m, l3, mld, n, port, now)
            return SNOOP_FLOOD
    if dst.hi == LINK and dst.lo == ALL_SNOOPERS and mld[0] == MLD_ROUTER_ADVERT:
        multicast_router(m, True, port, now)
    return SNOOP_FLOOD if everybody else SNOOP_DATA
