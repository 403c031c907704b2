"""IGMP snooping: which ports of the bridge a group's frames go to.

Without a querier everything is flooded. With one, a frame goes to the ports that joined its group and to those with a
router behind them; reports go to routers alone, and 224.0.0.x goes everywhere. The bridge is no querier and listens
by IGMPv2's rules, as Linux has it by default: a report of IGMPv3 that excludes or names sources is a join.

Source: net/bridge/br_multicast.c (br_multicast_ipv4_rcv, br_ip4_multicast_query, br_ip4_multicast_igmp3_report,
br_multicast_leave_group), net/ipv4/igmp.c (ip_mc_check_igmp), net/bridge/br_forward.c (br_multicast_flood); RFC 2236,
RFC 3376, RFC 4541. Timers are read, not run: what has expired is as good as gone.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from .frame cimport IP_DST, IP_LEN, IP_PROTO, IP_SRC, IP_TOTAL, PROTO_IGMP, csum, load16, load32

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
    FIRST_GROUPS = 32
    LAST_MEMBER_COUNT = 2       # mcast_last_member_count

cdef int64_t MEMBERSHIP = 260_000_000_000           # mcast_membership_interval
cdef int64_t QUERIER = 255_000_000_000              # mcast_querier_interval
cdef int64_t LAST_MEMBER = 2_000_000_000            # mcast_last_member_count * mcast_last_member_interval
cdef int64_t TENTH = 100_000_000                    # IGMP_TIMER_SCALE
cdef int64_t TICK = 4_000_000                       # a jiffy of HZ = 250
cdef int64_t DEFAULT_DELAY = 10_000_000_000         # of an IGMPv1 query
cdef int64_t NEVER = -0x8000000000000000


cdef void multicast_init(multicast_t* m, uint64_t seed) noexcept nogil:
    memset(m, 0, sizeof(multicast_t))
    m.secret[0], m.secret[1] = kf_splitmix(&seed), kf_splitmix(&seed)
    m.querier_until = NEVER


cdef void multicast_free(multicast_t* m) noexcept nogil:
    free(m.group)
    free(m.member)
    free(m.port)


cdef group_t* slot(multicast_t* m, uint32_t ip) noexcept nogil:
    """The row of a group, or the free one where it would be."""
    cdef uint64_t i = kf_hash64(ip, m.secret)
    while m.group[i & m.mask].taken and m.group[i & m.mask].ip != ip:
        i += 1
    return &m.group[i & m.mask]


cdef void prune(multicast_t* m, group_t* group, int64_t now) noexcept nogil:
    """Take the members out whose time is over."""
    cdef uint32_t* link = &group.first
    cdef uint32_t row
    while link[0]:
        row = link[0]
        if m.member[row - 1].expires > now:
            link = &m.member[row - 1].next
            continue
        link[0] = m.member[row - 1].next
        m.member[row - 1].next, m.free = m.free, row


cdef group_t* find_group(multicast_t* m, uint32_t ip, int64_t now) noexcept nogil:
    """The group, if any port is in it, else NULL."""
    cdef group_t* group
    if m.group == NULL:
        return NULL
    group = slot(m, ip)
    if not group.taken:
        return NULL
    prune(m, group, now)
    return group if group.first else NULL


cdef bint rebuild(multicast_t* m, int64_t now) noexcept nogil:
    """Leave groups without members out, and make room for as many again. False without memory."""
    cdef group_t* old = m.group
    cdef uint32_t size = FIRST_GROUPS, n = 0, k, before = 0 if old == NULL else m.mask + 1
    for k in range(before):
        if old[k].taken:
            prune(m, &old[k], now)
            n += old[k].first != 0
    while size < 4 * (n + 1):
        size *= 2
    m.group = <group_t*>calloc(size, sizeof(group_t))
    if m.group == NULL:
        m.group = old
        return False
    m.mask, m.used = size - 1, n
    for k in range(before):
        if old[k].first:
            slot(m, old[k].ip)[0] = old[k]
    free(old)
    return True


cdef bint add_member(multicast_t* m, group_t* group, uint16_t port, int64_t expires) noexcept nogil:
    cdef member_t* grown
    cdef uint32_t row = m.free, room
    if row:
        m.free = m.member[row - 1].next
    else:
        if m.n_members == m.room:
            room = 2 * m.room + 32
            grown = <member_t*>realloc(m.member, room * sizeof(member_t))
            if grown == NULL:
                return False
            m.member, m.room = grown, room
        m.n_members += 1
        row = m.n_members
    m.member[row - 1].port, m.member[row - 1].expires, m.member[row - 1].next = port, expires, group.first
    group.first = row
    return True


cdef member_t* find_member(multicast_t* m, const group_t* group, uint16_t port) noexcept nogil:
    cdef uint32_t row = group.first
    while row and m.member[row - 1].port != port:
        row = m.member[row - 1].next
    return &m.member[row - 1] if row else NULL


cdef bint join(multicast_t* m, uint32_t ip, uint16_t port, int64_t now) noexcept nogil:
    """A port is in a group for as long as a membership lasts. False when there are too many groups."""
    cdef group_t* group
    cdef member_t* member
    if ip >> 8 == LOCAL_GROUPS:
        return True
    group = find_group(m, ip, now)
    if group == NULL:
        if (m.group == NULL or 2 * (m.used + 1) > m.mask + 1 or m.used >= GROUPS_MAX) and not rebuild(m, now):
            return False
        if m.used >= GROUPS_MAX:                        # br_multicast_new_group turns snooping off
            m.off = True
            return False
        group = slot(m, ip)
        if not group.taken:
            m.used += 1
        group.ip, group.taken = ip, True
    member = find_member(m, group, port)
    if member == NULL:
        return add_member(m, group, port, now + MEMBERSHIP)
    member.expires = now + MEMBERSHIP
    return True


cdef void leave(multicast_t* m, uint32_t ip, uint16_t port, int64_t now) noexcept nogil:
    """With a querier the answer to its question counts; without one the port is out soon."""
    cdef group_t* group
    cdef member_t* member
    if ip >> 8 == LOCAL_GROUPS or m.querier_until > now:
        return
    group = find_group(m, ip, now)
    if group == NULL:
        return
    member = find_member(m, group, port)
    if member != NULL:
        member.expires = min(member.expires, now + LAST_MEMBER)


cdef snooped_port_t* port_of(multicast_t* m, uint16_t port) noexcept nogil:
    """The port's row, made if need be; NULL without memory."""
    cdef snooped_port_t* grown
    if port >= m.n_ports:
        grown = <snooped_port_t*>realloc(m.port, (<size_t>port + 1) * sizeof(snooped_port_t))
        if grown == NULL:
            return NULL
        m.port = grown
        while m.n_ports <= port:
            grown[m.n_ports].router, grown[m.n_ports].wanted = NEVER, 0
            m.n_ports += 1
    return &m.port[port]


cdef void mark_router(multicast_t* m, uint16_t port, int64_t now) noexcept nogil:
    cdef snooped_port_t* row = port_of(m, port)
    if row != NULL:
        row.router = now + QUERIER


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
    cdef uint32_t ip = load32(igmp + 4), src = load32(l3 + IP_SRC), row
    cdef int64_t delay
    cdef group_t* group
    if n == IGMP_LEN:
        delay = igmp[1] * TENTH
        if delay == 0:
            delay, ip = DEFAULT_DELAY, 0
    else:
        if load16(igmp + 10):                           # about sources
            return
        delay = response_time(igmp[1])
    if ip == 0:
        if m.querier_until > now and m.querier and src > m.querier:
            return
        m.querier = src
        if m.querier_until <= now:
            m.querier_from = now + delay
        m.querier_until = now + QUERIER
        mark_router(m, port, now)
        return
    group = find_group(m, ip, now)
    if group == NULL:
        return
    row = group.first
    while row:
        m.member[row - 1].expires = min(m.member[row - 1].expires, now + delay * LAST_MEMBER_COUNT)
        row = m.member[row - 1].next


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
            leave(m, ip, port, now)
        elif not join(m, ip, port, now):
            return SNOOP_BAD
    return SNOOP_FLOOD


cdef snoop_t no_message(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port, int64_t now) noexcept nogil:
    """Not one of IGMP's messages: data, unless the whole link is meant. Routers show themselves by PIM and MRD."""
    cdef uint32_t header = (l3[0] & 15) * 4, dst = load32(l3 + IP_DST)
    if dst >> 8 != LOCAL_GROUPS:
        return SNOOP_DATA
    if dst == ALL_PIM_ROUTERS and l3[IP_PROTO] == PROTO_PIM and n >= header + 4 and l3[header] == PIM_HELLO:
        mark_router(m, port, now)
    if dst == ALL_SNOOPERS and l3[IP_PROTO] == PROTO_IGMP and l3[header] == IGMP_ROUTER_ADVERT:
        mark_router(m, port, now)
    return SNOOP_FLOOD


cdef snoop_t multicast_receive(multicast_t* m, const uint8_t* l3, uint32_t n, uint16_t port,
                               int64_t now) noexcept nogil:
    """Learn from an IPv4 packet in a multicast frame; n bytes are there from its header on (br_multicast_rcv)."""
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
        return SNOOP_ROUTERS if join(m, load32(igmp + 4), port, now) else SNOOP_BAD
    if igmp[0] == IGMP_REPORT_V3:
        return report_v3(m, igmp, n, port, now)
    if igmp[0] == IGMP_LEAVE:
        leave(m, load32(igmp + 4), port, now)
        return SNOOP_FLOOD
    if igmp[0] != IGMP_QUERY:
        return no_message(m, l3, total, port, now)
    if n != IGMP_LEN and n < QUERY_V3_LEN:
        return SNOOP_BAD
    if load32(igmp + 4) == 0 and load32(l3 + IP_DST) != ALL_HOSTS:
        return SNOOP_BAD
    query(m, l3, igmp, n, port, now)
    return SNOOP_FLOOD


cdef bint multicast_confined(multicast_t* m, uint32_t group, bint routers, int64_t now) noexcept nogil:
    """Whether the frame goes to some ports only; `port[k].wanted` is `serial` for these. `routers`: a report."""
    cdef snooped_port_t* port
    cdef group_t* members = NULL
    cdef uint32_t k, row
    if m.querier_until <= now or m.querier_from >= now:
        return False
    m.serial += 1
    for k in range(m.n_ports):
        if m.port[k].router > now:
            m.port[k].wanted = m.serial
    if not routers:
        members = find_group(m, group, now)
    row = members.first if members != NULL else <uint32_t>0
    while row:
        port = port_of(m, m.member[row - 1].port)
        if port != NULL:
            port.wanted = m.serial
        row = m.member[row - 1].next
    return True


cdef void multicast_forget(multicast_t* m, uint16_t port) noexcept nogil:
    """The port is gone: it is in no group, and no router is behind it (br_multicast_del_port)."""
    cdef uint32_t k
    cdef member_t* member
    if port < m.n_ports:
        m.port[port].router = NEVER
    if m.group == NULL:
        return
    for k in range(m.mask + 1):
        if m.group[k].taken:
            member = find_member(m, &m.group[k], port)
            if member != NULL:
                member.expires = NEVER
