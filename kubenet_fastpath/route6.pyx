"""Where an IPv6 packet goes, and the address to speak from.

Source: net/ipv6/route.c (ip6_route_input), net/ipv6/addrconf.c (ipv6_dev_get_saddr), net/ipv6/addrlabel.c; RFC 6724.
IPv6 has neither martian sources nor rp_filter in its stack. Link-local addresses belong to one link each, so they are
looked up on the interface and not in the FIB.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from .context cimport (
    NO_DEV, NO_HOP, ROUTE_BLACKHOLE, ROUTE_LOCAL, ROUTE_PROHIBIT, address6_t, interface_t, nexthop_t,
)
from .fib cimport FIB_MISS, fib_lookup6
from .frame cimport IP6_DST, load32
from .verdict cimport PASS, R_BLACKHOLE, R_IP_INNOROUTES, R_PROHIBIT, drop


cdef inline uint64_t load64(const uint8_t* p) noexcept nogil:
    return <uint64_t>load32(p) << 32 | load32(p + 4)


cdef uint32_t route6_find(const node_t* node, const uint8_t* ip) noexcept nogil:
    """Index of the next hop for a global address, or NO_HOP."""
    cdef uint32_t hop = fib_lookup6(node.fib6, load64(ip), load64(ip + 8))
    return NO_HOP if hop == FIB_MISS else hop


cdef bint has_address6(const node_t* node, uint16_t dev, const uint8_t* ip) noexcept nogil:
    """Whether an address is one of an interface."""
    cdef const interface_t* i = &node.interface[dev]
    cdef uint32_t k
    for k in range(i.n_addresses6):
        if memcmp(i.address6[k].prefix.ip, ip, 16) == 0:
            return True
    return False


cdef bint owns6(const node_t* node, const uint8_t* ip) noexcept nogil:
    """Whether any interface has the address (ipv6_chk_addr)."""
    cdef uint32_t hop, k
    if is_link_local6(ip):
        for k in range(node.n_interfaces):
            if has_address6(node, <uint16_t>k, ip):
                return True
        return False
    hop = route6_find(node, ip)
    return hop != NO_HOP and node.hops[hop].type == ROUTE_LOCAL


cdef int scope(const uint8_t* ip) noexcept nogil:
    """ipv6_addr_src_scope."""
    if is_multicast6(ip):
        return ip[1] & 15
    if is_unspecified6(ip):
        return 0
    if is_link_local6(ip) or is_loopback6(ip):
        return 2
    return 5 if ip[0] == 0xFE and ip[1] & 0xC0 == 0xC0 else 14


cdef int label(const uint8_t* ip) noexcept nogil:
    """The default policy table of RFC 6724 as Linux has it (ip6addrlbl_init_table)."""
    cdef bint low = load64(ip) == 0 and load32(ip + 8) == 0
    if ip[0] & 0xFE == 0xFC:
        return 5
    if ip[0] == 0xFE and ip[1] & 0xC0 == 0xC0:
        return 11
    if ip[0] == 0x20 and ip[1] == 0x02:
        return 2
    if ip[0] == 0x3F and ip[1] == 0xFE:
        return 12
    if load32(ip) == 0x20010000:
        return 6
    if load32(ip) >> 4 == 0x2001001:
        return 7
    if load64(ip) == 0 and load32(ip + 8) == 0xFFFF:
        return 4
    if low:
        return 0 if load32(ip + 12) == 1 else 3
    return 1


cdef int common(const uint8_t* a, const uint8_t* b) noexcept nogil:
    """Leading bits that are equal (ipv6_addr_diff)."""
    cdef int n = 0, i
    cdef uint8_t x
    for i in range(16):
        x = a[i] ^ b[i]
        if x:
            while not x & 0x80:
                n += 1
                x <<= 1
            return n
        n += 8
    return n


cdef int64_t score(const address6_t* a, bint outgoing, const uint8_t* to) noexcept nogil:
    """How fit an address is, by the rules that tell in their order (ipv6_get_saddr_eval)."""
    cdef int reach = scope(a.prefix.ip), wanted = scope(to)
    cdef int64_t value = memcmp(a.prefix.ip, to, 16) == 0
    value = value << 9 | (256 - reach if reach >= wanted else 256 + reach - 128)
    value = value << 1 | outgoing
    value = value << 1 | (label(a.prefix.ip) == label(to))
    return value << 8 | min(common(a.prefix.ip, to), <int>a.prefix.length)


cdef uint32_t select_address6(const node_t* node, uint16_t dev, const uint8_t* to) noexcept nogil:
    """The address to speak from towards `to` by an interface (ipv6_dev_get_saddr): its handle, 0: there is none."""
    cdef uint32_t best = 0, k, n
    cdef int64_t most = -1, value
    cdef bint near = scope(to) <= 2 or is_multicast6(to)
    for k in range(node.n_interfaces):
        if near and k != dev:
            continue
        for n in range(node.interface[k].n_addresses6):
            value = score(&node.interface[k].address6[n], k == dev, to)
            if value > most:
                best, most = node.interface[k].address6[n].handle, value
    return best


cdef bint is_member6(const node_t* node, uint16_t dev, const uint8_t* group) noexcept nogil:
    """Whether an interface listens to a group: all nodes, all routers, solicited nodes of its addresses."""
    cdef const interface_t* i = &node.interface[dev]
    cdef uint32_t k
    cdef uint8_t reach = group[1]
    if load64(group) & <uint64_t>0x0000FFFFFFFFFFFF == 0 and load32(group + 8) == 0 and reach >> 4 == 0:
        if load32(group + 12) == 1:
            return reach == 1 or reach == 2
        if load32(group + 12) == 2:
            return reach == 1 or reach == 2 or reach == 5
        return False
    if load64(group) != (<uint64_t>0xFF02 << 48) or load32(group + 8) != 1 or group[12] != 0xFF:
        return False
    for k in range(i.n_addresses6):
        if memcmp(i.address6[k].prefix.ip + 13, group + 13, 3) == 0:
            return True
        if i.address6[k].prefix.length <= 104 and load32(group + 12) == <uint32_t>0xFF000000:     # of the subnet's anycast address
            return True
    return False


cdef bint is_anycast_of(const address6_t* a, const uint8_t* ip) noexcept nogil:
    """The subnet-router anycast address (RFC 4291 2.6.1)."""
    cdef uint8_t[16] first
    cdef int i
    if a.prefix.length >= 127:
        return False
    for i in range(16):
        if 8 * i + 8 <= a.prefix.length:
            first[i] = a.prefix.ip[i]
        elif 8 * i >= a.prefix.length:
            first[i] = 0
        else:
            first[i] = a.prefix.ip[i] & <uint8_t>(0xFF << (8 - a.prefix.length % 8))
    return memcmp(first, ip, 16) == 0


cdef bint route6_anycast(const node_t* node, uint16_t dev, const uint8_t* ip) noexcept nogil:
    """Whether an address is an anycast address of an interface."""
    cdef uint32_t k
    for k in range(node.interface[dev].n_addresses6):
        if is_anycast_of(&node.interface[dev].address6[k], ip):
            return True
    return False


cdef uint32_t route6_output(const node_t* node, uint16_t dev, const uint8_t* dst) noexcept nogil:
    """The next hop of a packet that the node sends; `dev` is whose link a link-local destination is on, or NO_DEV."""
    if is_link_local6(dst):
        return node.interface[dev].link_hop if dev != NO_DEV else NO_HOP
    return route6_find(node, dst)


cdef int route6_input(node_t* node, packet_t* p) noexcept nogil:
    """Choose p.hop for a packet that came in on p.dev. PASS, or the fate of a packet that has no way.

    p.hop is NO_HOP where no route matched, and of multicast.
    """
    cdef const uint8_t* dst = p.frame + p.l3 + IP6_DST
    cdef const address6_t* a
    cdef nexthop_t* hop
    cdef uint32_t k
    p.hop, p.redirect = NO_HOP, False
    if is_multicast6(dst):
        return PASS
    if is_link_local6(dst):
        p.hop = node.interface[p.dev].link_hop
        for k in range(node.interface[p.dev].n_addresses6):
            a = &node.interface[p.dev].address6[k]
            if memcmp(a.prefix.ip, dst, 16) == 0:
                p.hop = node.local_hop6
            elif is_link_local6(a.prefix.ip) and is_anycast_of(a, dst):
                p.hop = node.anycast_hop6
        return PASS
    p.hop = route6_find(node, dst)
    if p.hop == NO_HOP:
        return drop(R_IP_INNOROUTES)
    hop = &node.hops[p.hop]
    if hop.type == ROUTE_BLACKHOLE:
        return drop(R_BLACKHOLE)
    if hop.type == ROUTE_PROHIBIT:
        return drop(R_PROHIBIT)
    if hop.type > ROUTE_BLACKHOLE:
        return drop(R_IP_INNOROUTES)
    return PASS
