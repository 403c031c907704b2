"""What the bridge learns from IGMP: by its version 2, as Linux has it by default. A report of version 3 that excludes or
names sources is a join; 224.0.0.x goes everywhere.

Source: net/bridge/br_multicast.c (br_multicast_ipv4_rcv, br_ip4_multicast_query, br_ip4_multicast_igmp3_report),
net/ipv4/igmp.c (ip_mc_check_igmp); RFC 2236, RFC 3376.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from .frame cimport IP_DST, IP_LEN, IP_PROTO, IP_SRC, IP_TOTAL, PROTO_IGMP, csum, load16, load32
from .multicast cimport (
    SNOOP_BAD, SNOOP_DATA, SNOOP_FLOOD, SNOOP_ROUTERS, address128_t, multicast_general_query, multicast_group_query,
    multicast_join, multicast_leave, multicast_router, multicast_t, snoop_t,
)

cdef enum:
    IGMP_QUERY = 0x11
    IGMP_REPORT_V1 = 0x12
    IGMP_REPORT_V2 = 0x16
    IGMP_LEAVE = 0x17
    IGMP_REPORT_V3 = 0x22
    IGMP_ROUTER_ADVERT = 0x30   # RFC 4286
    IGMP_LEN = 8
    QUERY_V3_LEN = 12
    RECORD_LEN = 8              # of an IGMPv3 report, before its sources
    IS_INCLUDE = 1
    TO_INCLUDE = 3
    LAST_RECORD = 6             # BLOCK_OLD_SOURCES
    PROTO_PIM = 103
    PIM_HELLO = 0x20            # version 2, type 0
    ALL_HOSTS = 0xE0000001
    ALL_PIM_ROUTERS = 0xE000000D
    ALL_SNOOPERS = 0xE000006A
    LOCAL_GROUPS = 0xE00000     # 224.0.0.0/24

cdef int64_t TENTH = 100_000_000                    # IGMP_TIMER_SCALE
cdef int64_t TICK = 4_000_000                       # a jiffy of HZ = 250
cdef int64_t DEFAULT_DELAY = 10_000_000_000         # of an IGMPv1 query


cdef inline address128_t group_of(uint32_t ip) noexcept nogil:
    cdef address128_t made
    made.hi, made.lo = 0, ip
    return made


cdef int64_t response_time(uint8_t code) noexcept nogil:
    """IGMPv3's Max Resp Code: a float of 3 and 4 bits from 128 on (RFC 3376 section 4.1.1)."""
    if code == 0:
        return TICK
    if code < 0x80:
        return code * TENTH
    return <int64_t>((code & 15 | 16) << ((code >> 4 & 7) + 3)) * TENTH


cdef void query(multicast_t* m, const uint8_t* l3, const uint8_t* igmp, uint32_t n, uint16_t port,
                int64_t now) noexcept nogil:
    """A general query names the querier; one about a group shortens its members' time."""
    cdef uint32_t ip = load32(igmp + 4)
    cdef int64_t delay
    if n == IGMP_LEN:
        delay = igmp[1] * TENTH
        if delay == 0:
            delay, ip = DEFAULT_DELAY, 0
    else:
        if load16(igmp + 10):                           # about sources
            return
        delay = response_time(igmp[1])
    if ip == 0:
        multicast_general_query(m, False, group_of(load32(l3 + IP_SRC)), delay, port, now)
    else:
        multicast_group_query(m, group_of(ip), delay, now)


cdef snoop_t report_v3(multicast_t* m, const uint8_t* igmp, uint32_t n, uint16_t port, int64_t now) noexcept nogil:
    cdef uint32_t at = IGMP_LEN, sources, ip
    cdef uint8_t type
    for _ in range(load16(igmp + 6)):
        if n < at + RECORD_LEN:
            return SNOOP_BAD
        type, sources, ip = igmp[at], load16(igmp + at + 2), load32(igmp + at + 4)
        at += RECORD_LEN + 4 * sources
        if n < at:
            return SNOOP_BAD
        if type == 0 or type > LAST_RECORD:
            continue
        if sources == 0 and (type == IS_INCLUDE or type == TO_INCLUDE):
            multicast_leave(m, group_of(ip), port, now)
        elif not multicast_join(m, group_of(ip), port, now):
            return SNOOP_BAD
    return SNOOP_FLOOD


cdef snoop_t no_message(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port, int64_t now) noexcept nogil:
    """Not one of IGMP's messages: data, unless the whole link is meant. Routers show themselves by PIM and MRD."""
    cdef uint32_t header = (l3[0] & 15) * 4, dst = load32(l3 + IP_DST)
    if dst >> 8 != LOCAL_GROUPS:
        return SNOOP_DATA
    if dst == ALL_PIM_ROUTERS and l3[IP_PROTO] == PROTO_PIM and n >= header + 4 and l3[header] == PIM_HELLO:
        multicast_router(m, False, port, now)
    if dst == ALL_SNOOPERS and l3[IP_PROTO] == PROTO_IGMP and l3[header] == IGMP_ROUTER_ADVERT:
        multicast_router(m, False, port, now)
    return SNOOP_FLOOD


cdef snoop_t igmp_receive(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port,
                          int64_t now) noexcept nogil:
    """Learn from an IPv4 packet in a multicast frame; n bytes are there from its header on (br_multicast_ipv4_rcv)."""
    cdef uint32_t header, total
    cdef const uint8_t* igmp
    if n < IP_LEN or l3[0] >> 4 != 4:
        return SNOOP_BAD
    header = (l3[0] & 15) * 4
    if header < IP_LEN or n < header or csum(l3, header) != 0:
        return SNOOP_BAD
    total = load16(l3 + IP_TOTAL)
    if total > n or total < header:
        return SNOOP_BAD
    if l3[IP_PROTO] != PROTO_IGMP:
        return no_message(m, l3, total, port, now)
    igmp, n = l3 + header, total - header
    if n < IGMP_LEN or csum(igmp, n) != 0:
        return SNOOP_BAD
    if igmp[0] == IGMP_REPORT_V1 or igmp[0] == IGMP_REPORT_V2:
        return SNOOP_ROUTERS if multicast_join(m, group_of(load32(igmp + 4)), port, now) else SNOOP_BAD
    if igmp[0] == IGMP_REPORT_V3:
        return report_v3(m, igmp, n, port, now)
    if igmp[0] == IGMP_LEAVE:
        multicast_leave(m, group_of(load32(igmp + 4)), port, now)
        return SNOOP_FLOOD
    if igmp[0] != IGMP_QUERY:
        return no_message(m, l3, total, port, now)
    if n != IGMP_LEN and n < QUERY_V3_LEN:
        return SNOOP_BAD
    if load32(igmp + 4) == 0 and load32(l3 + IP_DST) != ALL_HOSTS:
        return SNOOP_BAD
    query(m, l3, igmp, n, port, now)
    return SNOOP_FLOOD
