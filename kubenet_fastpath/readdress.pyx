"""Another destination for captured packets, in place; checksums stay as right or wrong as they were.

An outside host answers to the address that it saw. When the node masquerades, that is not the one that the
capture has.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .frame cimport (
    ICMP_CHECK, ICMP_ECHO, ICMP_ECHOREPLY, ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE, ICMP_PARAMETER, ICMP_QUENCH,
    ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_TIMESTAMP, ICMP_UNREACH, IP_CHECK, IP_DST, IP_FRAG, IP_LEN,
    IP_OFFSET, IP_PROTO, IP_SRC, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE,
    TCP_CHECK, UDP_CHECK, UDP_LEN, csum_fold, csum_partial, csum_replace16, csum_replace32, load16, load32, store16, store32,
)

cdef enum:
    MIDDLE = 4                  # a port of any protocol that has ports ends here


cdef bint is_error(uint8_t icmp_type) noexcept nogil:
    return icmp_type in (ICMP_UNREACH, ICMP_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETER)


cdef bint is_query(uint8_t icmp_type) noexcept nogil:
    """Echo, timestamp, information and address mask, requests and replies: those that carry an id."""
    return icmp_type in (ICMP_ECHO, ICMP_ECHOREPLY) or ICMP_TIMESTAMP <= icmp_type <= ICMP_MAX_TYPE


cdef void put16(uint8_t* p, uint16_t value, uint8_t* check) noexcept nogil:
    """Write a field and keep the checksum at `check`, if there is one, as right as it was."""
    if check != NULL:
        store16(check, csum_replace16(load16(check), load16(p), value))
    store16(p, value)


cdef uint8_t* l4_check(uint8_t* l4, uint32_t n, uint8_t proto) noexcept nogil:
    """The checksum that also covers the addresses; NULL without one or where it was not captured."""
    if proto == PROTO_TCP:
        return l4 + TCP_CHECK if n >= TCP_CHECK + 2 else NULL
    if proto == PROTO_UDP or proto == PROTO_UDPLITE:
        return l4 + UDP_CHECK if n >= UDP_LEN and load16(l4 + UDP_CHECK) != 0 else NULL
    return NULL


cdef void put_endpoint(
        uint8_t* l3, uint32_t n, uint32_t field, uint32_t address, uint16_t port) noexcept nogil:
    """Give a packet, n bytes of it, another source or destination (`field`), in all its checksums."""
    cdef uint32_t header = (l3[0] & 15) * 4, old = load32(l3 + field)
    cdef uint8_t* l4 = l3 + header
    cdef uint8_t* check
    cdef uint8_t proto = l3[IP_PROTO]
    store16(l3 + IP_CHECK, csum_replace32(load16(l3 + IP_CHECK), old, address))
    store32(l3 + field, address)
    if header < IP_LEN or n < header + MIDDLE or load16(l3 + IP_FRAG) & IP_OFFSET:
        return
    n -= header
    if proto == PROTO_ICMP:
        if n >= ICMP_LEN and is_query(l4[0]):
            put16(l4 + ICMP_ID, port, l4 + ICMP_CHECK)
        return
    check = l4_check(l4, n, proto)
    if proto == PROTO_TCP or proto == PROTO_UDP:
        put16(l4 + (L4_DPORT if field == IP_DST else L4_SPORT), port, check)
    if check != NULL:
        store16(check, csum_replace32(load16(check), old, address))
        if proto != PROTO_TCP and load16(check) == 0:
            store16(check, 0xFFFF)


cdef void redirect_one(uint8_t* l3, uint32_t n, uint32_t address, uint16_t port) noexcept nogil:
    """Send a packet to (address, port); of an ICMP error also the quoted packet comes from there."""
    cdef uint32_t header = (l3[0] & 15) * 4, quoted
    cdef uint8_t* icmp = l3 + header
    cdef uint8_t* inner = icmp + ICMP_LEN
    cdef uint64_t before, check
    cdef bint error = (
        l3[IP_PROTO] == PROTO_ICMP and header >= IP_LEN and not load16(l3 + IP_FRAG) & IP_OFFSET
        and n >= header + ICMP_LEN + IP_LEN and is_error(icmp[0])
    )
    put_endpoint(l3, n, IP_DST, address, port)
    if error:
        quoted = n - header - ICMP_LEN
        before = csum_partial(inner, quoted, 0)
        put_endpoint(inner, quoted, IP_SRC, address, port)
        # RFC 1624: ~check' = ~check + ~before + after
        check = load16(icmp + ICMP_CHECK) ^ 0xFFFF
        store16(icmp + ICMP_CHECK, csum_fold(check + csum_fold(before) + csum_partial(inner, quoted, 0)))


def redirect(uint8_t[::1] data not None, const int64_t[::1] l3 not None, const int64_t[::1] size not None,
             const uint32_t[::1] address not None, const uint16_t[::1] port not None):
    """Give IPv4 packets another destination.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    l3, size : (N,) ndarray of int64
        Where each IPv4 header begins, and the bytes captured from there; at least 20.
    address, port : (N,) ndarray of uint32, uint16
        The new destination; the port is TCP's or UDP's, or the id of an ICMP query, and others keep theirs.
        An ICMP error goes to the address, and the packet that it quotes comes from address and port.

    Raises
    ------
    ValueError
        When the columns do not agree or a packet is outside `data`. Nothing has changed then.
    """
    cdef Py_ssize_t i, n = l3.shape[0]
    if not n == size.shape[0] == address.shape[0] == port.shape[0]:
        raise ValueError("the columns have different lengths")
    for i in range(n):
        if size[i] < IP_LEN or l3[i] < 0 or l3[i] > data.shape[0] - size[i]:
            raise ValueError(f"packet {i} is outside the data, or too short")
    with nogil:
        for i in range(n):
            redirect_one(&data[l3[i]], <uint32_t>size[i], address[i], port[i])
