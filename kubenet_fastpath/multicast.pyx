"""The bridge's multicast database: which ports a group's frames go to. `igmp` and `mld` fill it.

Without a querier everything is flooded. With one, a frame goes to the ports that joined its group and to those with a
router behind them; reports go to routers alone. Each family has its querier and its routers. The bridge is no querier.
Groups of IPv4 are those of which the upper 64 bits are 0.

Source: net/bridge/br_multicast.c (br_multicast_add_group, br_multicast_leave_group, br_multicast_query_received),
net/bridge/br_forward.c (br_multicast_flood); RFC 4541. Timers are read, not run: what has expired is as good as gone.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

cdef enum:
    LOCAL_GROUPS = 0xE00000     # 224.0.0.0/24
    FIRST_GROUPS = 32
    LAST_MEMBER_COUNT = 2       # mcast_last_member_count

cdef uint64_t ALL_NODES_HI = 0xFF02000000000000     # of ff02::1
cdef int64_t MEMBERSHIP = 260_000_000_000           # mcast_membership_interval
cdef int64_t QUERIER = 255_000_000_000              # mcast_querier_interval
cdef int64_t LAST_MEMBER = 2_000_000_000            # mcast_last_member_count * mcast_last_member_interval
cdef int64_t NEVER = -0x8000000000000000


cdef void multicast_init(multicast_t* m, uint64_t seed) noexcept nogil:
    memset(m, 0, sizeof(multicast_t))
    m.secret[0], m.secret[1] = kf_splitmix(&seed), kf_splitmix(&seed)
    m.querier[0].until = m.querier[1].until = NEVER


cdef void multicast_free(multicast_t* m) noexcept nogil:
    free(m.group)
    free(m.member)
    free(m.port)


cdef group_t* slot(multicast_t* m, address128_t ip) noexcept nogil:
    """The row of a group, or the free one where it would be."""
    cdef uint64_t i = kf_hash128(ip.hi, ip.lo, m.secret)
    while m.group[i & m.mask].taken and (m.group[i & m.mask].ip.lo != ip.lo or m.group[i & m.mask].ip.hi != ip.hi):
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


cdef group_t* find_group(multicast_t* m, address128_t ip, int64_t now) noexcept nogil:
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


cdef inline bint of_everybody(address128_t ip) noexcept nogil:
    """224.0.0.x or ff02::1, which nobody joins."""
    return ip.lo >> 8 == LOCAL_GROUPS if ip.hi == 0 else ip.hi == ALL_NODES_HI and ip.lo == 1


cdef bint multicast_join(multicast_t* m, address128_t ip, uint16_t port, int64_t now) noexcept nogil:
    """A port is in a group for as long as a membership lasts. False when there are too many groups."""
    cdef group_t* group
    cdef member_t* member
    if of_everybody(ip):
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


cdef void multicast_leave(multicast_t* m, address128_t ip, uint16_t port, int64_t now) noexcept nogil:
    """With a querier the answer to its question counts; without one the port is out soon."""
    cdef group_t* group
    cdef member_t* member
    if of_everybody(ip) or m.querier[ip.hi != 0].until > now:
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
            grown[m.n_ports].router[0] = grown[m.n_ports].router[1] = NEVER
            grown[m.n_ports].wanted = 0
            m.n_ports += 1
    return &m.port[port]


cdef void multicast_router(multicast_t* m, bint six, uint16_t port, int64_t now) noexcept nogil:
    cdef snooped_port_t* row = port_of(m, port)
    if row != NULL:
        row.router[six] = now + QUERIER


cdef void multicast_general_query(multicast_t* m, bint six, address128_t src, int64_t delay, uint16_t port,
                                  int64_t now) noexcept nogil:
    """Somebody asks for all groups: the querier, unless one with a lower address is there."""
    cdef querier_t* querier = &m.querier[six]
    cdef bint higher = src.hi > querier.ip.hi or (src.hi == querier.ip.hi and src.lo > querier.ip.lo)
    if querier.until > now and higher and (querier.ip.hi or querier.ip.lo):
        return
    querier.ip = src
    if querier.until <= now:
        querier.since = now + delay
    querier.until = now + QUERIER
    multicast_router(m, six, port, now)


cdef void multicast_group_query(multicast_t* m, address128_t ip, int64_t delay, int64_t now) noexcept nogil:
    """Somebody asks for one group: who does not answer in twice that time is no member."""
    cdef group_t* group = find_group(m, ip, now)
    cdef uint32_t row = group.first if group != NULL else <uint32_t>0
    while row:
        m.member[row - 1].expires = min(m.member[row - 1].expires, now + delay * LAST_MEMBER_COUNT)
        row = m.member[row - 1].next


cdef bint multicast_confined(multicast_t* m, address128_t group, bint routers, int64_t now) noexcept nogil:
    """Whether the frame goes to some ports only; `port[k].wanted` is `serial` for these. `routers`: a report."""
    cdef snooped_port_t* port
    cdef group_t* members = NULL
    cdef uint32_t k, row
    cdef bint six = group.hi != 0
    if m.querier[six].until <= now or m.querier[six].since >= now:
        return False
    m.serial += 1
    for k in range(m.n_ports):
        if m.port[k].router[six] > now:
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
        m.port[port].router[0] = m.port[port].router[1] = NEVER
    if m.group == NULL:
        return
    for k in range(m.mask + 1):
        if m.group[k].taken:
            member = find_member(m, &m.group[k], port)
            if member != NULL:
                member.expires = NEVER
