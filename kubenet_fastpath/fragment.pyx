"""Fragmentation of packets that are too large for a link, as Linux's ip_do_fragment and ip6_fragment do it.

A packet that was reassembled leaves, where it can, in the pieces in which it came (the kernel still has them
as a list); any other packet is cut into pieces as large as the MTU allows.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
import numpy as np

from .frame cimport (
    EXT_DESTINATION, EXT_FRAGMENT, EXT_HOP, EXT_ROUTING, FRAGMENT_LEN, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, IP_CHECK, IP_DF, IP_FRAG,
    IP_LEN, IP_MF, IP_OFFSET, IP_TOTAL, csum, ipv4_valid, load16, store16, store32,
)

cdef enum:
    LEAST_MTU6 = 1280           # IPV6_MIN_MTU
    IPOPT_END = 0
    IPOPT_NOOP = 1
    IPOPT_COPY = 0x80


cdef bint keeps_geometry(fragmenter_t* f, const geometry_t* origin) noexcept nogil:
    """Whether every original piece fits and begins at a multiple of 8 (before ip_fraglist_init). The first is what the
    others leave, for IPv6's headers before and after reassembly may end at different places."""
    cdef uint32_t i, size, others = 0
    if f.more or f.offset or f.flags & FRAGMENT_CLONED:
        return False
    for i in range(1, origin.fragments):
        others += origin.payload[i]
    if others >= f.left:
        return False
    f.first = f.left - others
    for i in range(origin.fragments):
        size = origin.payload[i] if i else f.first
        if size > f.room or (size & 7 and i + 1 < origin.fragments):
            return False
    return True


cdef void blank_uncopied_options(uint8_t* header, uint32_t length) noexcept nogil:
    """Make no-operations of options for the first fragment only (ip_options_fragment, RFC 791 3.1)."""
    cdef uint32_t at = IP_LEN, size
    while at < length and header[at] != IPOPT_END:
        if header[at] == IPOPT_NOOP:
            at += 1
            continue
        size = header[at + 1] if at + 1 < length else 0
        if size < 2 or size > length - at:
            return
        if not header[at] & IPOPT_COPY:
            memset(header + at, IPOPT_NOOP, size)
        at += size


cdef uint32_t fragment_start(fragmenter_t* f, const uint8_t* frame, uint32_t l3, uint32_t end, uint32_t mtu,
                             const geometry_t* origin, uint8_t flags) noexcept nogil:
    cdef uint16_t word = load16(frame + l3 + IP_FRAG)
    f.frame, f.l3, f.flags = frame, l3, flags
    f.header_len = (frame[l3] & 15) * 4
    f.left = end - l3 - f.header_len
    f.cut = f.index = 0
    f.offset = <uint32_t>(word & IP_OFFSET) * 8
    f.more = word & IP_MF
    f.df = f.next = 0
    f.payload = NULL
    memcpy(f.header, frame + l3, f.header_len)
    if origin != NULL and origin.fragments and origin.max_size < mtu:
        mtu = origin.max_size
    if f.left == 0 or mtu < f.header_len + 8:
        f.left = 0
        return 0
    f.room = mtu - f.header_len
    if origin != NULL and origin.fragments:
        if keeps_geometry(f, origin):
            f.payload = origin.payload
            return origin.fragments
        if origin.df:                   # only pieces that the kernel cuts anew get DF back
            f.df = IP_DF
    if f.left <= f.room:
        return 1
    return 1 + (f.left - f.room + (f.room & ~7u) - 1) // (f.room & ~7u)


cdef uint32_t unfragmentable(const uint8_t* l3, uint32_t n, uint16_t* next) noexcept nogil:
    """Bytes of headers that every fragment carries, and the place of the byte that names what follows them
    (ip6_find_1stfragopt): all up to a transport's, but for destination options behind a routing header. 0: the n bytes
    end within them."""
    cdef uint32_t at = IP6_LEN
    cdef bint routed = False
    next[0] = IP6_NEXT
    while l3[next[0]] == EXT_HOP or l3[next[0]] == EXT_ROUTING or (l3[next[0]] == EXT_DESTINATION and not routed):
        if at + 2 > n:
            return 0
        routed |= l3[next[0]] == EXT_ROUTING
        next[0] = <uint16_t>at
        at += (<uint32_t>l3[at + 1] + 1) * 8
        if at > n:
            return 0
    return at


cdef uint32_t fragment_start6(fragmenter_t* f, const uint8_t* frame, uint32_t l3, uint32_t end, uint32_t mtu,
                              const geometry_t* origin, uint8_t flags, uint32_t id) noexcept nogil:
    cdef uint32_t there = end - l3
    f.frame, f.l3, f.flags, f.id, f.payload = frame, l3, flags, id, NULL
    f.cut = f.index = f.offset = f.more = f.df = f.left = 0
    if origin != NULL and origin.max_size < mtu:
        mtu = max(origin.max_size, <uint32_t>LEAST_MTU6)
    f.header_len = unfragmentable(frame + l3, there, &f.next)
    if f.header_len == 0 or f.header_len >= there or mtu < f.header_len + FRAGMENT_LEN + 8:
        return 0
    f.left, f.room = there - f.header_len, mtu - f.header_len - FRAGMENT_LEN
    if origin != NULL and origin.fragments and keeps_geometry(f, origin):
        f.payload = origin.payload
        return origin.fragments
    return 1 + (f.left - min(f.left, f.room) + (f.room & ~7u) - 1) // (f.room & ~7u)


cdef uint32_t write6(const fragmenter_t* f, uint8_t* out, uint32_t length, uint32_t offset) noexcept nogil:
    """Headers of an IPv6 fragment around its payload; the length of all."""
    cdef uint8_t* header = out + f.l3
    cdef uint8_t* fragment = header + f.header_len
    memcpy(out, f.frame, f.l3 + f.header_len)
    fragment[0], fragment[1] = header[f.next], 0
    header[f.next] = EXT_FRAGMENT
    store16(header + IP6_PAYLOAD, <uint16_t>(f.header_len - IP6_LEN + FRAGMENT_LEN + length))
    store16(fragment + 2, <uint16_t>(offset | (f.left != 0)))
    store32(fragment + 4, f.id)
    memcpy(fragment + FRAGMENT_LEN, f.frame + f.l3 + f.header_len + f.cut, length)
    return f.l3 + f.header_len + FRAGMENT_LEN + length


cdef uint32_t fragment_next(fragmenter_t* f, uint8_t* out) noexcept nogil:
    cdef uint32_t length, written
    cdef uint16_t word
    cdef uint8_t* header = out + f.l3
    if f.left == 0:
        return 0
    if f.payload != NULL:
        length = f.payload[f.index] if f.index else f.first
    else:
        length = f.left if f.left <= f.room else f.room & ~7u
    f.left -= length
    if f.next:
        written = write6(f, out, length, f.offset)
        f.cut += length
        f.offset += length
        f.index += 1
        return written
    word = <uint16_t>(f.offset >> 3) | f.df | f.more
    if f.left:
        word |= IP_MF
    memcpy(out, f.frame, f.l3)
    memcpy(header, f.header, f.header_len)
    store16(header + IP_TOTAL, <uint16_t>(f.header_len + length))
    store16(header + IP_FRAG, word)
    store16(header + IP_CHECK, 0)
    store16(header + IP_CHECK, csum(header, f.header_len))
    memcpy(header + f.header_len, f.frame + f.l3 + f.header_len + f.cut, length)
    if f.offset == 0 and not f.flags & FRAGMENT_BRIDGED:
        blank_uncopied_options(f.header, f.header_len)
    f.cut += length
    f.offset += length
    f.index += 1
    return f.l3 + f.header_len + length


def fragment(const uint8_t[::1] frame not None, int mtu, *, sizes=(), int max_size=0, bint df=False,
             bint cloned=False, bint bridged=False):
    """Split a frame whose IPv4 packet is too large for a link.

    Parameters
    ----------
    frame : bytes-like
        Ethernet frame, with up to two VLAN tags, around a valid IPv4 packet.
    mtu : int
        Bytes of IP packet that the link takes.
    sizes : sequence of int, optional
        If the packet was reassembled: payload bytes of each fragment in which it came (`Datagram.sizes`).
    max_size : int, optional
        IP bytes of the largest of those fragments; no fragment is made larger.
    df : bool, optional
        Whether that largest fragment had the don't-fragment bit.
    cloned : bool, optional
        Whether copies of the packet go elsewhere too (it is flooded): then `sizes` cannot be kept.
    bridged : bool, optional
        Whether a bridge splits it, which copies all IP options to every fragment.

    Returns
    -------
    list of bytes
        The fragments, in order; the packet alone, without padding, if it fits and was not reassembled.

    Raises
    ------
    ValueError
        If `frame` holds no valid IPv4 packet, `sizes` do not add up to its payload, or `mtu` leaves no room
        for eight bytes of payload.

    Notes
    -----
    The don't-fragment bit of a packet that was not reassembled is not looked at: whether such a packet may be
    split is decided before (Linux's ip_fragment), and the fragments come out without it.

    Examples
    --------
    >>> header = bytes.fromhex("4500002c0001000040110000 0a000001 0a000002")
    >>> header = header[:10] + bytes.fromhex("66be") + header[12:]
    >>> [len(part) for part in fragment(bytes(12) + b"\\x08\\x00" + header + bytes(24), 36)]
    [50, 42]
    """
    cdef uint32_t n = frame.shape[0], l3 = ipv4_offset(&frame[0], n) if n else 0, end, length, payload
    cdef const uint8_t* ip = &frame[0] + l3 if l3 else NULL
    cdef fragmenter_t f
    cdef geometry_t origin
    cdef uint8_t* out = NULL
    cdef uint16_t[::1] column
    if ip == NULL or not ipv4_valid(ip, n - l3):
        raise ValueError("frame holds no valid IPv4 packet")
    end = l3 + load16(ip + IP_TOTAL)
    payload = end - l3 - (ip[0] & 15) * 4
    if mtu < 0 or (max_size and not 0 < max_size <= 65535):
        raise ValueError(f"mtu and max_size must lie in 0..65535: {mtu}, {max_size}")
    sizes = [int(size) for size in sizes]
    if sizes and (sum(sizes) != payload or min(sizes) < 1):
        raise ValueError(f"sizes {sizes} do not add up to the {payload} bytes of payload")
    if not sizes and not max_size and end - l3 <= <uint32_t>mtu:
        return [bytes(frame[:end])]
    column = np.array(sizes or [payload], np.uint16)
    origin.payload, origin.fragments, origin.df = &column[0], len(column), df
    origin.max_size = max_size or 65535
    flags = FRAGMENT_CLONED * (cloned or not sizes) | FRAGMENT_BRIDGED * bridged
    if not fragment_start(&f, &frame[0], l3, end, mtu, &origin if sizes or max_size else NULL, flags):
        raise ValueError(f"an MTU of {mtu} leaves no room for payload")
    out = <uint8_t*>malloc(l3 + 65536)
    if out == NULL:
        raise MemoryError
    try:
        parts = []
        while True:
            length = fragment_next(&f, out)
            if not length:
                return parts
            parts.append(out[:length])
    finally:
        free(out)
