"""Building frames for tests: Ethernet, ARP, IPv4, UDP, TCP, ICMP, byte by byte and with the right checksums."""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from golden_compare import ones_sum, with_checksums

TCP, UDP, ICMP = 6, 17, 1
FIN, SYN, RST, ACK = 1, 2, 4, 16


@lru_cache
def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@lru_cache
def packed(address: str) -> bytes:
    return IPv4Address(address).packed


def eth(dst: str, src: str, payload: bytes, kind: int = 0x0800, tags: tuple[int, ...] = ()) -> bytes:
    """An Ethernet frame; `tags` are the VLAN TCIs, outer first."""
    vlan = b"".join(struct.pack("!HH", 0x8100, tci) for tci in tags)
    return mac(dst) + mac(src) + vlan + struct.pack("!H", kind) + payload


def ipv4(
    src: str,
    dst: str,
    proto: int,
    payload: bytes,
    *,
    ttl: int = 64,
    ident: int = 7,
    flags: int = 0x4000,
    tos: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet; checksums are filled in by `frame`. `flags` is the whole fragment field."""
    words = 5 + len(options) // 4
    addresses = packed(src) + packed(dst)
    head = struct.pack("!BBHHHBBH", 0x40 | words, tos, words * 4 + len(payload), ident, flags, ttl, proto, 0)
    return head + addresses + options + payload


def udp(sport: int, dport: int, data: bytes = b"data") -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 1) + data


def tcp(
    sport: int, dport: int, flags: int, seq: int = 0, ack: int = 0, data: bytes = b"", window: int = 64240
) -> bytes:
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, window, 0, 0) + data


def icmp(kind: int, code: int = 0, ident: int = 1, seq: int = 1, data: bytes = b"ping") -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, ident, seq) + data


def packet(dst: str, src: str, l3: bytes, tags: tuple[int, ...] = ()) -> bytes:
    """A frame around an IPv4 packet, all checksums right."""
    return with_checksums(eth(dst, src, l3, tags=tags))


def arp(op: int, sha: str, spa: str, tha: str, tpa: str, dst: str = "ff:ff:ff:ff:ff:ff") -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
    body += mac(sha) + packed(spa) + mac(tha) + packed(tpa)
    return eth(dst, sha, body, 0x0806)


def fragments(l3: bytes, size: int) -> list[bytes]:
    """An IPv4 packet without options, cut into pieces of `size` bytes of payload (a multiple of 8)."""
    head, payload = l3[:20], l3[20:]
    pieces = []
    for at in range(0, len(payload), size):
        part = payload[at : at + size]
        field = at // 8 | (0x2000 if at + size < len(payload) else 0)
        pieces.append(
            head[:2]
            + struct.pack("!H", 20 + len(part))
            + head[4:6]
            + struct.pack("!H", field)
            + head[8:]
            + part
        )
    return pieces


def fields(frame: bytes) -> dict[str, object]:
    """What tests ask of an untagged IPv4 frame."""
    l3 = frame[14:]
    head = (l3[0] & 15) * 4
    found: dict[str, object] = {
        "eth_dst": frame[:6].hex(":"),
        "eth_src": frame[6:12].hex(":"),
        "src": str(IPv4Address(l3[12:16])),
        "dst": str(IPv4Address(l3[16:20])),
        "ttl": l3[8],
        "proto": l3[9],
    }
    if l3[9] in (TCP, UDP):
        found["sport"], found["dport"] = struct.unpack_from("!HH", l3, head)
    elif l3[9] == ICMP:
        found["type"], found["code"] = l3[head], l3[head + 1]
    return found


@lru_cache
def packed6(address: str) -> bytes:
    return IPv6Address(address).packed


ICMP6 = 58
CHECK6 = {TCP: 16, UDP: 6, ICMP6: 2}  # protocol -> offset of its checksum


def completed6(src: bytes, dst: bytes, proto: int, l4: bytes) -> bytes:
    """A transport message with the checksum that it has over IPv6."""
    at = CHECK6.get(proto)
    if at is None or len(l4) < at + 2:
        return l4
    blank = l4[:at] + b"\0\0" + l4[at + 2 :]
    total = ones_sum(src + dst + struct.pack("!II", len(l4), proto) + blank)
    value = 0xFFFF - total
    return l4[:at] + struct.pack("!H", 0xFFFF if proto == UDP and value == 0 else value) + l4[at + 2 :]


def ipv6(
    src: str,
    dst: str,
    proto: int,
    payload: bytes,
    *,
    hops: int = 64,
    tclass: int = 0,
    label: int = 0,
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    """An IPv6 packet, its transport checksum right; `extensions` are (kind, header without its first byte)."""
    body = completed6(packed6(src), packed6(dst), proto, payload)
    kind = proto
    for number, header in reversed(extensions):
        body, kind = bytes([kind]) + header + body, number
    head = struct.pack("!IHBB", 6 << 28 | tclass << 20 | label, len(body), kind, hops)
    return head + packed6(src) + packed6(dst) + body


def eth6(dst: str, src: str, l3: bytes) -> bytes:
    return eth(dst, src, l3, 0x86DD)


def solicited_node(address: str) -> str:
    """The group that an address's owner listens to (RFC 4291 2.7.1)."""
    return str(IPv6Address(packed6("ff02::1:ff00:0")[:13] + packed6(address)[13:]))


def group_mac(group: str) -> str:
    return (b"\x33\x33" + packed6(group)[12:]).hex(":")


def discovery(kind: int, flags: int, target: str, lladdr: str | None = None) -> bytes:
    """A neighbour solicitation (135) or advertisement (136)."""
    option = b"" if lladdr is None else bytes([1 if kind == 135 else 2, 1]) + mac(lladdr)
    return struct.pack("!BBHI", kind, 0, 0, flags) + packed6(target) + option


def fragment6(head: bytes, kind: int, part: bytes, at: int, more: bool, ident: int) -> bytes:
    """A fragment behind an IPv6 header's bytes; `at` is its offset, in bytes."""
    body = struct.pack("!BBHI", kind, 0, at | more, ident) + part
    return head[:4] + struct.pack("!HB", len(body), 44) + head[7:] + body


def fragments6(l3: bytes, size: int, ident: int) -> list[bytes]:
    """An IPv6 packet without extension headers, cut into pieces of `size` bytes of payload (a multiple of 8)."""
    head, payload = l3[:40], l3[40:]
    places = range(0, len(payload), size)
    return [
        fragment6(head, head[6], payload[at : at + size], at, at + size < len(payload), ident)
        for at in places
    ]
