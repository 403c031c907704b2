"""IPv6 extension headers: where the protocol behind them begins (net/ipv6/exthdrs_core.c, ipv6_skip_exthdr)."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from .frame cimport EXT_AUTH, EXT_DESTINATION, EXT_FRAGMENT, EXT_HOP, EXT_NONE, EXT_ROUTING, load16


cdef inline bint is_extension(uint8_t proto) noexcept nogil:
    return (proto == EXT_HOP or proto == EXT_ROUTING or proto == EXT_FRAGMENT or proto == EXT_AUTH
            or proto == EXT_NONE or proto == EXT_DESTINATION)


cdef inline int32_t extension_skip(const uint8_t* l3, uint32_t n, uint32_t at, uint8_t* proto,
                                   uint16_t* fragment) noexcept nogil:
    """Offset of the first header that is none of them, from `at` on, whose kind is `proto` and becomes that one's.

    It may lie behind the n bytes that are there. -1: they end within one, or nothing follows. `fragment` is the word of
    a fragment header that was met, else 0; behind one that is not the first nothing is looked at.
    """
    cdef uint32_t size
    fragment[0] = 0
    while is_extension(proto[0]):
        if proto[0] == EXT_NONE or n < at + 2:
            return -1
        if proto[0] == EXT_FRAGMENT:
            if n < at + 4:
                return -1
            fragment[0] = load16(l3 + at + 2)
            if fragment[0] & 0xFFF8:
                return <int32_t>at
            size = 8
        elif proto[0] == EXT_AUTH:
            size = (<uint32_t>l3[at + 1] + 2) * 4
        else:
            size = (<uint32_t>l3[at + 1] + 1) * 8
        proto[0] = l3[at]
        at += size
    return <int32_t>at
