"""IPv6 headers: what a bridge's hooks and the stack both check, and where the transport's header is.

Source: net/ipv6/ip6_input.c (ip6_rcv_core), net/bridge/br_netfilter_ipv6.c (br_validate_ipv6), net/netfilter/utils.c
(nf_ip6_check_hbh_len); RFC 8200.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t

from .address_pool cimport POOL_NONE
from .context cimport destination_of, record, scratch, source_of
from .defrag cimport defrag_add6
from .extension cimport extension_skip, is_extension
from .frame cimport (
    EXT_AUTH, EXT_FRAGMENT, EXT_HOP, EXT_NONE, FRAGMENT_LEN, IP6_DST, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, PROTO_TCP, PROTO_UDP,
    TCP_LEN, UDP_LEN, load16, load32,
)
from .hooks cimport prerouting
from .reassembly cimport FATE_HELD, FATE_MISFIT, FATE_WHOLE, datagram_t, fragment_fate_t, fragment_t
from .recorder cimport STAGE_REASSEMBLY
from .route6 cimport is_link_local6, is_multicast6
from .verdict cimport PASS, R_FRAGMENT, R_FRAG_REASM, R_IP_INHDR, R_NOMEM, R_TRUNCATED, V_HELD, drop, fate

cdef enum:
    PAD1 = 0
    JUMBO = 0xC2


cdef bint hop_options_fit(const uint8_t* l3, uint32_t n) noexcept nogil:
    """Whether the options of a hop-by-hop header fill it exactly; none of them is a jumbo payload, which no frame holds."""
    cdef uint32_t at = IP6_LEN + 2, end, size
    if n < IP6_LEN + 2:
        return False
    end = IP6_LEN + (<uint32_t>l3[IP6_LEN + 1] + 1) * 8
    if end > n:
        return False
    while at < end:
        if l3[at] == PAD1:
            at += 1
            continue
        if end - at < 2:
            return False
        size = <uint32_t>l3[at + 1] + 2
        if size > end - at or l3[at] == JUMBO:
            return False
        at += size
    return True


cdef void find_transport(packet_t* p) noexcept nogil:
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint16_t fragment
    cdef int32_t at
    p.proto = l3[IP6_NEXT]
    at = extension_skip(l3, p.length - p.l3, IP6_LEN, &p.proto, &fragment)
    p.l4 = 0 if at < 0 or at > 0xFFFF else <uint16_t>at


cdef int check_header6(packet_t* p) noexcept nogil:
    """Check the header and cut off what lies behind the packet."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t n = p.length - p.l3, total
    if n < IP6_LEN or l3[0] >> 4 != 6:
        return drop(R_IP_INHDR)
    if n - IP6_LEN < p.missing:
        return drop(R_TRUNCATED)
    total = IP6_LEN + load16(l3 + IP6_PAYLOAD)
    if total > n or (l3[IP6_NEXT] == EXT_HOP and not hop_options_fit(l3, n)):
        return drop(R_IP_INHDR)
    p.missing = 0 if p.missing <= n - total else p.missing - (n - total)
    p.length = p.l3 + total
    find_transport(p)
    return PASS


cdef uint32_t find_fragment(const uint8_t* l3, uint32_t n, uint8_t* next) noexcept nogil:
    """Where the fragment header is, 0: there is none; and the byte that names it, in the 8 bits that find_prev_fhdr has for it."""
    cdef uint32_t at = IP6_LEN
    cdef uint8_t kind = l3[IP6_NEXT]
    cdef uint32_t size
    next[0] = IP6_NEXT
    while kind != EXT_FRAGMENT:
        if not is_extension(kind) or kind == EXT_NONE or n < at + 2:
            return 0
        next[0] = <uint8_t>at
        size = (<uint32_t>l3[at + 1] + 2) * 4 if kind == EXT_AUTH else (<uint32_t>l3[at + 1] + 1) * 8
        kind = l3[at]
        at += size
    return at if at <= n and n > IP6_LEN else 0


cdef bint lacks_headers(const uint8_t* l3, uint32_t n, uint32_t at) noexcept nogil:
    """Whether a first fragment ends within its headers, the transport's included (ipv6frag_thdr_truncated)."""
    cdef uint8_t kind = EXT_FRAGMENT
    cdef uint16_t fragment
    cdef int32_t l4 = extension_skip(l3, n, at, &kind, &fragment)
    if l4 < 0 or fragment & 0xFFF8:
        return False
    return l4 + (TCP_LEN if kind == PROTO_TCP else UDP_LEN if kind == PROTO_UDP else 1) > <int64_t>n


cdef int gather6(node_t* node, packet_t* p, uint32_t at, uint8_t next) noexcept nogil:
    """Hold a fragment until its datagram is whole, then go on with that (nf_ct_frag6_gather)."""
    cdef const uint8_t* l3 = p.frame + p.l3
    cdef uint32_t n = p.length - p.l3, src, dst
    cdef uint64_t user = p.port != p.dev
    cdef datagram_t* datagram
    cdef fragment_t g
    cdef fragment_fate_t outcome
    if p.missing:
        return drop(R_TRUNCATED)
    if lacks_headers(l3, n, at):
        return PASS
    if n < at + FRAGMENT_LEN:
        return drop(R_FRAG_REASM)
    g.frame, g.l3, g.header, g.length, g.next, g.six = p.frame, p.l3, at + FRAGMENT_LEN, p.length, next, True
    g.offset, g.more, g.df = load16(l3 + at + 2) & 0xFFF8, load16(l3 + at + 2) & 1, False
    g.end, g.ecn, g.size = g.offset + n - g.header, l3[1] >> 4 & 3, <uint16_t>n
    if g.end > 65535:
        return drop(R_FRAG_REASM)
    if is_link_local6(l3 + IP6_DST) or is_multicast6(l3 + IP6_DST):
        user |= <uint64_t>(p.dev + 1) << 1
    datagram = <datagram_t*>scratch(node, sizeof(datagram_t))
    if datagram == NULL:
        return drop(R_NOMEM)
    src, dst = source_of(node, p), destination_of(node, p)
    if src == POOL_NONE or dst == POOL_NONE:
        return drop(R_NOMEM)
    outcome = defrag_add6(node.defrag6, &g, src, dst, load32(l3 + at + 4), user, p.port, p.now, datagram)
    if outcome == FATE_HELD:
        return fate(V_HELD, R_FRAGMENT)
    if outcome == FATE_MISFIT:
        return PASS
    if outcome != FATE_WHOLE:
        return drop(R_FRAG_REASM)
    p.frame, p.length, p.l3, p.shared = datagram.frame, datagram.end, datagram.l3, False
    p.origin = &datagram.geometry
    find_transport(p)
    return PASS


cdef int enter_netfilter6(node_t* node, packet_t* p) noexcept nogil:
    """PREROUTING from the top: defragmentation, conntrack, destination NAT."""
    cdef uint8_t next
    cdef uint32_t at = find_fragment(p.frame + p.l3, p.length - p.l3, &next)
    cdef int end
    if at:
        end = gather6(node, p, at, next)
        record(node, p, STAGE_REASSEMBLY, 0, end)
        if end != PASS:
            return end
    return prerouting(node, p)
