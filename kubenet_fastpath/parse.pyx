"""Frames to columns: Ethernet, up to two VLAN tags, ARP, IPv4, IPv6, TCP, UDP, ICMP."""

from enum import IntEnum

import numpy as np

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .frame cimport (
    ARP_LEN, ARP_OP, ARP_SHA, ARP_SPA, ARP_THA, ARP_TPA, ETH_ARP, ETH_DST, ETH_IP, ETH_IP6, ETH_LEN, ETH_QINQ,
    ETH_SRC, ETH_TYPE, ETH_VLAN, ICMP_CODE, ICMP_ECHO, ICMP_ECHOREPLY, ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE,
    ICMP6_ECHO, ICMP6_ECHOREPLY, ICMP_TIMESTAMP, ICMP_TYPE, IP6_LEN, IP_DF, IP_DST, IP_FRAG, IP_ID, IP_LEN, IP_MF, IP_OFFSET, IP_PROTO, IP_SRC, IP_TOS,
    IP_TOTAL, IP_TTL, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, TCP_ACK,
    TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQ, TCP_WINDOW, UDP_CHECK, UDP_LEN, UDP_LENGTH, VLAN_LEN, csum, csum_fold,
    csum_partial, csum_pseudo, load16, load32, load_mac,
)
from .rows cimport outside

cdef enum:
    SCTP_LEN = 12

cdef enum:              # Status
    OK = 0
    OTHER = 1
    SHORT_ETHERNET = 2
    SHORT_VLAN = 3
    SHORT_ARP = 4
    SHORT_IP = 5
    BAD_IP = 6
    SHORT_L4 = 7
    BAD_L4 = 8


class Status(IntEnum):
    """How far a frame could be read."""

    OK = 0                  #: to the end of its last header
    OTHER = 1               #: to a protocol that is not taken apart
    SHORT_ETHERNET = 2      #: shorter than 14 bytes
    SHORT_VLAN = 3          #: ends in a VLAN tag
    SHORT_ARP = 4           #: ends in the ARP packet
    SHORT_IP = 5            #: ends in the IP header
    BAD_IP = 6              #: IP version, header length or total length make no sense
    SHORT_L4 = 7            #: ends in the header of TCP, UDP, ICMP or SCTP
    BAD_L4 = 8              #: TCP header length or UDP length make no sense


cdef struct header_t:
    uint64_t eth_dst
    uint64_t eth_src
    uint16_t eth_type           # behind the VLAN tags
    uint8_t vlan_tags
    uint16_t vlan_id            # outer
    uint16_t inner_vlan_id
    uint8_t status
    uint16_t l3_offset          # bytes from the frame's start
    uint16_t l4_offset          # 0: none, or a fragment but the first
    uint8_t ip_version
    uint8_t ip_header_len       # bytes
    uint8_t tos
    uint16_t ip_len             # total length, bytes
    uint16_t ip_id
    uint8_t df
    uint8_t mf
    uint16_t frag_offset        # bytes
    uint8_t ttl
    uint8_t proto
    int8_t ip_checksum_ok
    uint32_t src                # IPv4, or ARP sender
    uint32_t dst                # IPv4, or ARP target
    uint64_t src6_high
    uint64_t src6_low
    uint64_t dst6_high
    uint64_t dst6_low
    uint16_t sport
    uint16_t dport
    uint32_t tcp_seq
    uint32_t tcp_ack
    uint8_t tcp_header_len      # bytes
    uint8_t tcp_flags
    uint16_t tcp_window
    uint16_t udp_len
    uint8_t icmp_type
    uint8_t icmp_code
    uint16_t icmp_id
    uint16_t icmp_seq
    int8_t l4_checksum_ok
    uint16_t payload_len        # bytes behind the last header, as the headers say
    uint16_t arp_op
    uint64_t arp_sha
    uint64_t arp_tha

HEADER = np.dtype([
    ("eth_dst", "u8"), ("eth_src", "u8"), ("eth_type", "u2"), ("vlan_tags", "u1"), ("vlan_id", "u2"),
    ("inner_vlan_id", "u2"), ("status", "u1"), ("l3_offset", "u2"), ("l4_offset", "u2"), ("ip_version", "u1"),
    ("ip_header_len", "u1"), ("tos", "u1"), ("ip_len", "u2"), ("ip_id", "u2"), ("df", "u1"), ("mf", "u1"),
    ("frag_offset", "u2"), ("ttl", "u1"), ("proto", "u1"), ("ip_checksum_ok", "i1"), ("src", "u4"), ("dst", "u4"),
    ("src6_high", "u8"), ("src6_low", "u8"), ("dst6_high", "u8"), ("dst6_low", "u8"), ("sport", "u2"),
    ("dport", "u2"), ("tcp_seq", "u4"), ("tcp_ack", "u4"), ("tcp_header_len", "u1"), ("tcp_flags", "u1"),
    ("tcp_window", "u2"), ("udp_len", "u2"), ("icmp_type", "u1"), ("icmp_code", "u1"), ("icmp_id", "u2"),
    ("icmp_seq", "u2"), ("l4_checksum_ok", "i1"), ("payload_len", "u2"), ("arp_op", "u2"), ("arp_sha", "u8"),
    ("arp_tha", "u8"),
], align=True)


cdef uint64_t load64(const uint8_t* p) noexcept nogil:
    return <uint64_t>load32(p) << 32 | load32(p + 4)


cdef uint64_t address_sum(const uint8_t* l3, const header_t* h, uint32_t l4_len) noexcept nogil:
    """The pseudo header's sum."""
    if h.ip_version == 4:
        return csum_pseudo(h.src, h.dst, h.proto, l4_len)
    return csum_partial(l3 + 8, 32, 0) + h.proto + l4_len


cdef uint64_t icmp_sum(const uint8_t* l3, const header_t* h, uint32_t l4_len) noexcept nogil:
    """ICMP's checksum is of its message alone, that of ICMPv6 of a pseudo header too (RFC 4443, 2.3)."""
    return 0 if h.ip_version == 4 else address_sum(l3, h, l4_len)


cdef bint is_query(const header_t* h) noexcept nogil:
    """Whether an ICMP message has an identifier and a sequence number."""
    if h.ip_version == 6:
        return h.icmp_type == ICMP6_ECHO or h.icmp_type == ICMP6_ECHOREPLY
    return (h.icmp_type == ICMP_ECHO or h.icmp_type == ICMP_ECHOREPLY
            or ICMP_TIMESTAMP <= h.icmp_type <= ICMP_MAX_TYPE)


cdef uint8_t parse_l4(const uint8_t* l3, const uint8_t* p, uint32_t here, uint32_t l4_len, header_t* h) noexcept nogil:
    """`here` bytes are captured at p, of the l4_len that the IP header tells of."""
    cdef uint32_t header
    cdef bint whole = here >= l4_len and not h.mf
    if h.proto == PROTO_TCP:
        if here < TCP_LEN:
            return SHORT_L4
        h.sport, h.dport = load16(p + L4_SPORT), load16(p + L4_DPORT)
        h.tcp_seq, h.tcp_ack = load32(p + TCP_SEQ), load32(p + TCP_ACK)
        h.tcp_flags, h.tcp_window = p[TCP_FLAGS], load16(p + TCP_WINDOW)
        header = (p[TCP_OFFSET] >> 4) * 4
        h.tcp_header_len = header
        if header < TCP_LEN or header > l4_len:
            return BAD_L4
        h.payload_len = l4_len - header
        if whole:
            h.l4_checksum_ok = csum_fold(csum_partial(p, l4_len, address_sum(l3, h, l4_len))) == 0
        return SHORT_L4 if here < header else OK
    if h.proto == PROTO_UDP:
        if here < UDP_LEN:
            return SHORT_L4
        h.sport, h.dport, h.udp_len = load16(p + L4_SPORT), load16(p + L4_DPORT), load16(p + UDP_LENGTH)
        if h.udp_len < UDP_LEN or (h.udp_len > l4_len and not h.mf):
            return BAD_L4
        h.payload_len = min(h.udp_len, l4_len) - UDP_LEN
        if whole and load16(p + UDP_CHECK) != 0:
            h.l4_checksum_ok = csum_fold(csum_partial(p, h.udp_len, address_sum(l3, h, h.udp_len))) == 0
        return OK
    if h.proto == (PROTO_ICMP if h.ip_version == 4 else PROTO_ICMP6):
        if here < ICMP_LEN:
            return SHORT_L4
        h.icmp_type, h.icmp_code = p[ICMP_TYPE], p[ICMP_CODE]
        if is_query(h):
            h.icmp_id, h.icmp_seq = load16(p + ICMP_ID), load16(p + ICMP_ID + 2)
        h.payload_len = l4_len - ICMP_LEN
        if whole:
            h.l4_checksum_ok = csum_fold(csum_partial(p, l4_len, icmp_sum(l3, h, l4_len))) == 0
        return OK
    if h.proto == PROTO_SCTP or h.proto == PROTO_UDPLITE:
        header = SCTP_LEN if h.proto == PROTO_SCTP else UDP_LEN
        if here < header:
            return SHORT_L4
        h.sport, h.dport, h.payload_len = load16(p + L4_SPORT), load16(p + L4_DPORT), l4_len - header
        return OK
    h.payload_len = l4_len
    return OTHER


cdef uint8_t parse_ipv4(const uint8_t* p, uint32_t here, uint32_t on_wire, header_t* h) noexcept nogil:
    cdef uint32_t header
    if here < IP_LEN:
        return SHORT_IP
    h.ip_version, header = p[0] >> 4, (p[0] & 15) * 4
    h.ip_header_len, h.tos, h.ttl, h.proto = header, p[IP_TOS], p[IP_TTL], p[IP_PROTO]
    h.ip_len, h.ip_id = load16(p + IP_TOTAL), load16(p + IP_ID)
    h.df, h.mf = load16(p + IP_FRAG) & IP_DF != 0, load16(p + IP_FRAG) & IP_MF != 0
    h.frag_offset = (load16(p + IP_FRAG) & IP_OFFSET) * 8
    h.src, h.dst = load32(p + IP_SRC), load32(p + IP_DST)
    if h.ip_version != 4 or header < IP_LEN or h.ip_len < header or h.ip_len > on_wire:
        return BAD_IP
    if here < header:
        return SHORT_IP
    h.ip_checksum_ok = csum(p, header) == 0
    if h.frag_offset:
        h.payload_len = h.ip_len - header
        return OK
    h.l4_offset = h.l3_offset + header
    return parse_l4(p, p + header, min(here, <uint32_t>h.ip_len) - header, h.ip_len - header, h)


cdef uint8_t parse_ipv6(const uint8_t* p, uint32_t here, uint32_t on_wire, header_t* h) noexcept nogil:
    """The fixed header, and TCP, UDP or ICMPv6 right behind it; extension headers are not followed."""
    if here < IP6_LEN:
        return SHORT_IP
    h.ip_version, h.ip_header_len = p[0] >> 4, IP6_LEN
    h.tos, h.proto, h.ttl = load16(p) >> 4 & 0xFF, p[6], p[7]
    h.src6_high, h.src6_low, h.dst6_high, h.dst6_low = load64(p + 8), load64(p + 16), load64(p + 24), load64(p + 32)
    h.ip_len = load16(p + 4)
    if h.ip_version != 6 or h.ip_len > on_wire - IP6_LEN:
        return BAD_IP
    h.l4_offset = h.l3_offset + IP6_LEN
    return parse_l4(p, p + IP6_LEN, min(here - IP6_LEN, <uint32_t>h.ip_len), h.ip_len, h)


cdef uint8_t parse_arp(const uint8_t* p, uint32_t here, header_t* h) noexcept nogil:
    """ARP for IPv4 over Ethernet."""
    if here < 8:
        return SHORT_ARP
    if load16(p) != 1 or load16(p + 2) != ETH_IP or p[4] != 6 or p[5] != 4:
        return OTHER
    if here < ARP_LEN:
        return SHORT_ARP
    h.arp_op, h.arp_sha, h.arp_tha = load16(p + ARP_OP), load_mac(p + ARP_SHA), load_mac(p + ARP_THA)
    h.src, h.dst = load32(p + ARP_SPA), load32(p + ARP_TPA)
    return OK


cdef uint8_t parse_frame(const uint8_t* p, uint32_t here, uint32_t on_wire, header_t* h) noexcept nogil:
    """Fill a row that is all zero from `here` captured bytes; nothing behind them is read."""
    cdef uint32_t at = ETH_LEN
    h.ip_checksum_ok = h.l4_checksum_ok = -1
    if here < ETH_LEN:
        return SHORT_ETHERNET
    h.eth_dst, h.eth_src, h.eth_type = load_mac(p + ETH_DST), load_mac(p + ETH_SRC), load16(p + ETH_TYPE)
    while h.vlan_tags < 2 and (h.eth_type == ETH_VLAN or h.eth_type == ETH_QINQ):
        if here < at + VLAN_LEN:
            return SHORT_VLAN
        if h.vlan_tags == 0:
            h.vlan_id = load16(p + at) & 0xFFF
        else:
            h.inner_vlan_id = load16(p + at) & 0xFFF
        h.eth_type = load16(p + at + 2)
        h.vlan_tags += 1
        at += VLAN_LEN
    h.l3_offset = at
    if h.eth_type == ETH_IP:
        return parse_ipv4(p + at, here - at, on_wire - at, h)
    if h.eth_type == ETH_IP6:
        return parse_ipv6(p + at, here - at, on_wire - at, h)
    if h.eth_type == ETH_ARP:
        return parse_arp(p + at, here - at, h)
    return OTHER


def parse_headers(const uint8_t[::1] data not None, const int64_t[::1] offset not None,
                  const uint32_t[::1] length not None, const uint32_t[::1] wire_length not None):
    """Parse every frame.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    offset : (N,) ndarray of int64
    length, wire_length : (N,) ndarray of uint32
        Bytes captured, and on the wire.

    Returns
    -------
    (N,) ndarray of HEADER
        See `PacketBatch.headers`.

    Raises
    ------
    ValueError
        When the columns do not agree, or a frame is outside `data` or longer than on the wire.
    """
    cdef Py_ssize_t i, n = offset.shape[0]
    cdef int64_t room = data.shape[0]
    if length.shape[0] != n or wire_length.shape[0] != n:
        raise ValueError(f"the columns have {n}, {length.shape[0]} and {wire_length.shape[0]} rows")
    i = outside(room, offset, length)
    if i < n:
        raise ValueError(f"frame {i} is outside the data")
    for i in range(n):
        if wire_length[i] < length[i]:
            raise ValueError(f"frame {i} is longer than on the wire")
    rows = np.zeros(n, HEADER)
    if n == 0 or room == 0:
        rows["status"] = SHORT_ETHERNET
        rows["ip_checksum_ok"] = rows["l4_checksum_ok"] = -1
        return rows
    cdef header_t[::1] h = rows
    cdef const uint8_t* base = &data[0]
    with nogil:
        for i in range(n):
            h[i].status = parse_frame(base + offset[i], length[i], wire_length[i], &h[i])
    return rows
