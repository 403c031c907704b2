"""IPv4 options on a packet's way through the router: record route, timestamps, source routes, what is malformed.

The kernel reads options after the routing decision, and writes into them at once: the address towards the sender on
the way in; in a recorded route, though not beside a timestamp, the one that the packet leaves by takes its place on
the way out. Only then is the header's checksum made
anew, so an ICMP error in between quotes the new options under the old checksum. Source routes are not followed: the
default of accept_source_route. Router alert has no listener here; CIPSO no domain, so it is a parameter problem.

Source: net/ipv4/ip_options.c (__ip_options_compile, ip_forward_options, __ip_options_echo, ip_options_build),
net/ipv4/ip_input.c (ip_rcv_options), fib_frontend.c (fib_compute_spec_dst), route.c (ip_rt_get_source); RFC 791
section 3.1, RFC 781.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from .context cimport NO_HOP, ROUTE_BLACKHOLE, ROUTE_BROADCAST, ROUTE_LOCAL, nexthop_t
from .frame cimport IP_CHECK, IP_DST, IP_LEN, IP_SRC, csum, load32, store16, store32
from .route cimport route_find, route_type, select_address

cdef enum:
    IPOPT_END = 0
    IPOPT_NOOP = 1
    IPOPT_RR = 7
    IPOPT_TIMESTAMP = 68
    IPOPT_LSRR = 131
    IPOPT_CIPSO = 134
    IPOPT_SSRR = 137
    IPOPT_RA = 148
    TS_ONLY = 0
    TS_AND_ADDRESS = 1
    TS_PRESPECIFIED = 3
    DAY_MS = 86_400_000


cdef uint32_t milliseconds(const node_t* node) noexcept nogil:
    """Since midnight UT (inet_current_timestamp)."""
    return <uint32_t>(node.now // 1_000_000 % DAY_MS)


cdef uint32_t source_of(const node_t* node, uint32_t hop, uint32_t to) noexcept nogil:
    """The address that a route speaks from (fib_result_prefsrc)."""
    cdef const nexthop_t* h = &node.hops[hop]
    if h.type == ROUTE_LOCAL:
        return to
    return h.source if h.source else select_address(node, h.dev, h.gateway if h.gateway else to)


cdef uint32_t own_address(const node_t* node, const packet_t* p) noexcept nogil:
    """The node's address as the sender knows it (fib_compute_spec_dst)."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t src = load32(l3 + IP_SRC), hop
    if p.hop != NO_HOP and node.hops[p.hop].type == ROUTE_LOCAL:
        return load32(l3 + IP_DST)
    if src == 0:
        return select_address(node, p.dev, src)
    hop = route_find(node, src)
    if hop == NO_HOP or node.hops[hop].type >= ROUTE_BLACKHOLE:
        return select_address(node, p.dev, src)
    return source_of(node, hop, src)


cdef uint32_t record(node_t* node, packet_t* p, uint8_t* option, uint32_t at) noexcept nogil:
    """Record route: the node's address into the next free slot. OPTIONS_OK, or the offset of what is wrong."""
    cdef uint8_t size = option[1], pointer
    if p.record_route:
        return at
    if size < 3:
        return at + 1
    pointer = option[2]
    if pointer < 4:
        return at + 2
    if pointer <= size:
        if pointer + 3 > size:
            return at + 2
        store32(option + pointer - 1, own_address(node, p))
        option[2] = pointer + 4
        p.option_flags |= OPTION_RECORD | OPTION_CHANGED
    p.record_route = <uint8_t>at
    return OPTIONS_OK


cdef uint32_t stamp(node_t* node, packet_t* p, uint8_t* option, uint32_t at) noexcept nogil:
    """Timestamp: the time, and by its flag the node's address, into the next free slot; or one more that had none."""
    cdef uint8_t size = option[1], pointer, flag
    cdef int type
    if p.timestamp:
        return at
    if size < 4:
        return at + 1
    pointer, flag = option[2], option[3] & 15
    if pointer < 5:
        return at + 2
    p.timestamp = <uint8_t>at
    if pointer > size:
        if flag == TS_PRESPECIFIED:
            return OPTIONS_OK
        if option[3] >> 4 == 15:
            p.timestamp = 0
            return at + 3
        option[3] += 16
        p.option_flags |= OPTION_CHANGED
        return OPTIONS_OK
    if pointer + 3 > size or ((flag == TS_AND_ADDRESS or flag == TS_PRESPECIFIED) and pointer + 7 > size):
        p.timestamp = 0
        return at + 2
    if flag == TS_ONLY:
        store32(option + pointer - 1, milliseconds(node))
        option[2] = pointer + 4
        p.option_flags |= OPTION_STAMP_TIME | OPTION_CHANGED
    elif flag == TS_AND_ADDRESS:
        store32(option + pointer - 1, own_address(node, p))
        store32(option + pointer + 3, milliseconds(node))
        option[2] = pointer + 8
        p.option_flags |= OPTION_STAMP_ADDRESS | OPTION_STAMP_TIME | OPTION_CHANGED
    elif flag == TS_PRESPECIFIED and not other_host(node, load32(option + pointer - 1)):
        store32(option + pointer + 3, milliseconds(node))
        option[2] = pointer + 8
        p.option_flags |= OPTION_STAMP_TIME | OPTION_CHANGED
    return OPTIONS_OK


cdef bint other_host(const node_t* node, uint32_t ip) noexcept nogil:
    """inet_addr_type says unicast: the local table does not know the address."""
    cdef int type
    if ip == 0 or ip >> 28 == 14 or ip == <uint32_t>0xFFFFFFFF:
        return False
    type = route_type(node, ip)
    return type != ROUTE_LOCAL and type != ROUTE_BROADCAST


cdef uint32_t options_compile(node_t* node, packet_t* p) noexcept nogil:
    """Act on the options of a packet that has its route; its bytes must be its own.

    OPTIONS_OK; or the offset in the header of what is wrong, for a parameter problem; or OPTIONS_SOURCE_ROUTE.
    """
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint32_t end = (l3[0] & 15) * 4, at = IP_LEN, wrong, left
    cdef uint8_t* option
    cdef uint8_t size
    p.record_route = p.timestamp = p.label = p.source_route = 0
    p.option_flags = OPTION_COMPILED
    while at < end:
        option = l3 + at
        if option[0] == IPOPT_END:
            for left in range(at + 1, end):
                if l3[left] != IPOPT_END:
                    l3[left] = IPOPT_END
                    p.option_flags |= OPTION_CHANGED
            break
        if option[0] == IPOPT_NOOP:
            at += 1
            continue
        if end - at < 2 or option[1] < 2 or option[1] > end - at:
            return at
        size = option[1]
        wrong = OPTIONS_OK
        if option[0] == IPOPT_LSRR or option[0] == IPOPT_SSRR:
            if size < 3:
                wrong = at + 1
            elif option[2] < 4:
                wrong = at + 2
            elif p.source_route:
                wrong = at
            else:
                p.source_route = <uint8_t>at
        elif option[0] == IPOPT_RR:
            wrong = record(node, p, option, at)
        elif option[0] == IPOPT_TIMESTAMP:
            wrong = stamp(node, p, option, at)
        elif option[0] == IPOPT_RA and size < 4:
            wrong = at + 1
        elif option[0] == IPOPT_CIPSO:
            p.label, wrong = <uint8_t>at, at + (<uint32_t>1 if size < 8 else <uint32_t>2)
        if wrong != OPTIONS_OK:
            return wrong
        at += size
    return OPTIONS_SOURCE_ROUTE if p.source_route else OPTIONS_OK


cdef bint options_read_again(node_t* node, packet_t* p) noexcept nogil:
    """Act on the options once more, on the bytes as they are by now, before the sender is told that the next hop does not
    answer (ipv4_send_dest_unreach). False: they are malformed, and nothing is said."""
    cdef uint32_t wrong
    p.record_route = p.timestamp = p.label = p.source_route = p.option_flags = 0
    if p.frame[p.l3] & 15 == 5:
        return True
    wrong = options_compile(node, p)
    return wrong == OPTIONS_OK or wrong == OPTIONS_SOURCE_ROUTE


cdef uint32_t back_route(const packet_t* p, uint8_t* to, uint32_t* first) noexcept nogil:
    """The way back along a source route: its length, 0: none. `first` receives the hop that it begins with, 0 likewise."""
    cdef const uint8_t* option = p.frame + p.l3 + p.source_route
    cdef uint32_t src = load32(p.frame + p.l3 + IP_SRC), n = 0
    cdef int at = min(<int>option[2], <int>option[1] + 1) - 4
    first[0] = 0
    if at > 3:
        first[0] = load32(option + at - 1)
        at, n = at - 4, 4
        while at > 3:
            memcpy(to + n - 1, option + at - 1, 4)
            at, n = at - 4, n + 4
        if load32(option + at + 3) == src:              # RFC 1812 section 5.3.13.4
            n -= 4
    if n == 0:
        first[0] = 0
        return 0
    to[0], to[1], to[2] = option[0], <uint8_t>(n + 3), 4
    store32(to + n - 1, src)                            # where it ends (ip_options_build)
    return n + 3


cdef uint32_t options_answer_to(const packet_t* p) noexcept nogil:
    """Where an answer goes first: the sender, or the way back along a source route."""
    cdef uint8_t unused[OPTIONS_MAX]
    cdef uint32_t first = 0
    if p.option_flags & OPTION_COMPILED and p.source_route:
        back_route(p, unused, &first)
    return first if first else load32(p.frame + p.l3 + IP_SRC)


cdef void options_forward(node_t* node, packet_t* p) noexcept nogil:
    """The packet leaves: the address that it leaves by, and the header's checksum (ip_forward_options)."""
    cdef uint8_t* l3 = p.frame + p.l3
    cdef uint8_t* option
    if p.option_flags & OPTION_RECORD:
        option = l3 + p.record_route
        store32(option + option[2] - 5, source_of(node, p.hop, load32(l3 + IP_DST)))
    if p.option_flags & OPTION_CHANGED:
        p.option_flags &= ~<uint8_t>OPTION_CHANGED
        store16(l3 + IP_CHECK, 0)
        store16(l3 + IP_CHECK, csum(l3, (l3[0] & 15) * 4))


cdef uint32_t echo_stamp(const node_t* node, const packet_t* p, uint32_t src, uint8_t* to) noexcept nogil:
    """The timestamps of `to` go on by those of the answer's sender; their length, or OPTIONS_NO_ECHO."""
    cdef uint32_t size = to[1], pointer = to[2]
    cdef bint address = p.option_flags & OPTION_STAMP_ADDRESS, time = False
    if pointer > size:
        return size
    if address:
        if pointer + 3 > size:
            return OPTIONS_NO_ECHO
        pointer += 4
    if p.option_flags & OPTION_STAMP_TIME:
        if pointer + 3 > size:
            return OPTIONS_NO_ECHO
        if to[3] & 15 != TS_PRESPECIFIED:
            time = True
            pointer += 4
        elif pointer + 7 <= size and not other_host(node, load32(to + pointer - 1)):
            time = True
            pointer += 8
    to[2] = <uint8_t>pointer
    if address:
        store32(to + pointer - 9, src)
    if time:
        store32(to + pointer - 5, milliseconds(node))
    return size


cdef uint32_t options_echo(const node_t* node, const packet_t* p, uint32_t src, uint8_t* to) noexcept nogil:
    """The options of an answer to `p` that is sent from `src`: what was recorded goes on being recorded.

    Writes at most OPTIONS_MAX bytes; how many, a multiple of 4, or OPTIONS_NO_ECHO: no answer is sent.
    """
    cdef const uint8_t* option
    cdef uint32_t n = 0, size, first
    if not p.option_flags & OPTION_COMPILED:
        return 0
    if p.record_route:
        option = p.frame + p.l3 + p.record_route
        n = option[1]
        memcpy(to, option, n)
        if p.option_flags & OPTION_RECORD and option[2] <= n:
            if option[2] + 3 > <int>n:
                return OPTIONS_NO_ECHO
            store32(to + option[2] - 1, src)
            to[2] = option[2] + 4
    if p.timestamp:
        option = p.frame + p.l3 + p.timestamp
        memcpy(to + n, option, option[1])
        size = echo_stamp(node, p, src, to + n)
        if size == OPTIONS_NO_ECHO:
            return size
        n += size
    if p.source_route:
        n += back_route(p, to + n, &first)
    if p.label:
        option = p.frame + p.l3 + p.label
        memcpy(to + n, option, option[1])
        n += option[1]
    while n & 3:
        to[n] = IPOPT_END
        n += 1
    return n
