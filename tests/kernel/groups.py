"""Messages of IGMP and MLD, and data for their groups, as frames (RFC 2236, 3376, 2710, 3810)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from frames import UDP, eth, ipv4, mac, udp
from golden_compare import with_checksums

GROUPS = ("239.1.1.1", "239.1.1.2", "232.0.0.9", "224.0.0.251")
GROUPS6 = ("ff0e::1:1", "ff05::2", "ff02::1:ff00:7", "ff02::1")
KINDS = ("data", "report", "report v3", "leave v3", "leave", "query", "query group", "query v3", "router")
IGMP, ICMPV6, PIM, HOP_BY_HOP = 2, 58, 103, 0
TENTH_MS = 100  # what a query gives its listeners to answer


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _igmp(kind: int, code: int, word: bytes, more: bytes = b"") -> bytes:
    head = struct.pack("!BBH", kind, code, 0) + word + more
    return head[:2] + struct.pack("!H", checksum(head)) + head[4:]


def igmp_frame(kind: str, which: int, src_mac: str, src: str, ident: int) -> bytes:
    """A message of IGMP, or data, about one of `GROUPS`."""
    group = GROUPS[which % len(GROUPS)]
    about, dst, proto = IPv4Address(group).packed, group, IGMP
    if kind == "data":
        l4, proto = udp(5353, 5353), UDP
    elif kind == "report":
        l4 = _igmp(0x16, 0, about)
    elif kind in ("report v3", "leave v3"):
        record = struct.pack("!BBH", 4 if kind == "report v3" else 3, 0, 0) + about
        l4, dst = _igmp(0x22, 0, struct.pack("!HH", 0, 1), record), "224.0.0.22"
    elif kind == "leave":
        l4, dst = _igmp(0x17, 0, about), "224.0.0.2"
    elif kind == "query":
        l4, dst = _igmp(0x11, 1, bytes(4)), "224.0.0.1"
    elif kind == "query v3":
        l4, dst = _igmp(0x11, 1, bytes(4), bytes([2, 10, 0, 0])), "224.0.0.1"
    elif kind == "query group":
        l4 = _igmp(0x11, 1, about)
    else:  # a router that speaks PIM
        l4, dst, proto = b"\x20\0" + struct.pack("!H", checksum(b"\x20\0\0\0")), "224.0.0.13", PIM
    low = IPv4Address(dst).packed
    to = bytes([1, 0, 0x5E, low[1] & 127, low[2], low[3]]).hex(":")
    options = b"\x94\x04\0\0" if proto == IGMP else b""
    return with_checksums(eth(to, src_mac, ipv4(src, dst, proto, l4, ttl=1, ident=ident, options=options)))


def ipv6(src: str, dst: str, header: int, payload: bytes, *, hops: int = 1, alert: bool = False) -> bytes:
    """An IPv6 packet, with the router alert option if asked."""
    if alert:
        payload, header = bytes([header, 0, 5, 2, 0, 0, 1, 0]) + payload, HOP_BY_HOP
    head = struct.pack("!IHBB", 6 << 28, len(payload), header, hops)
    return head + IPv6Address(src).packed + IPv6Address(dst).packed + payload


def icmpv6(src: str, dst: str, kind: int, body: bytes, wrong: int = 0) -> bytes:
    """An ICMPv6 message with its checksum."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = IPv6Address(src).packed + IPv6Address(dst).packed + struct.pack("!II", len(message), ICMPV6)
    return message[:2] + struct.pack("!H", checksum(pseudo + message) ^ wrong) + message[4:]


def mld_frame(kind: str, which: int, src_mac: str, src: str) -> bytes:
    """A message of MLD, or data, about one of `GROUPS6`."""
    group = GROUPS6[which % len(GROUPS6)]
    about, dst = IPv6Address(group).packed, group
    delay = struct.pack("!HH", TENTH_MS, 0)
    if kind == "data":
        l4 = udp(5353, 5353)
        return _to_group6(dst, src_mac, ipv6(src, dst, UDP, l4))
    if kind == "report":
        number, body = 131, bytes(4) + about
    elif kind in ("report v3", "leave v3"):
        record = struct.pack("!BBH", 4 if kind == "report v3" else 3, 0, 0) + about
        number, body, dst = 143, struct.pack("!HH", 0, 1) + record, "ff02::16"
    elif kind == "leave":
        number, body, dst = 132, bytes(4) + about, "ff02::2"
    elif kind == "query":
        number, body, dst = 130, delay + bytes(16), "ff02::1"
    elif kind == "query v3":
        number, body, dst = 130, delay + bytes(16) + bytes([2, 10, 0, 0]), "ff02::1"
    elif kind == "query group":
        number, body = 130, delay + about
    else:  # a router that speaks PIM
        return _to_group6("ff02::d", src_mac, ipv6(src, "ff02::d", PIM, b"\x20\0\0\0"))
    return _to_group6(dst, src_mac, ipv6(src, dst, ICMPV6, icmpv6(src, dst, number, body), alert=True))


def _to_group6(dst: str, src_mac: str, l3: bytes) -> bytes:
    return b"\x33\x33" + IPv6Address(dst).packed[12:] + mac(src_mac) + b"\x86\xdd" + l3
