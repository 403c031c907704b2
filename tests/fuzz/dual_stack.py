"""IPv6 frames that bytes choose, for a node that has IPv6 beside, and answers to those that came out of it."""

from __future__ import annotations

import struct

import frames as made

from .choices import Choices

NODE6 = {"node_ip6": "fd00:10::4/64", "gateway6": "fd00:10::1", "cluster_cidr6": "fd12:3456:789a::/64"}
PODS6 = "fd12:3456:789a:0:1::/80"
VIPS6 = ("fd00:20::10", "fd00:20::20", "fd00:20::30")
HOSTS6 = ("fd00:10::1", "fd00:10::9", "2001:db8::7", "fd12:3456:789a:0:2::10", *VIPS6, "fd00:10::4")
HOSTS6 += ("fd12:3456:789a:0:1::1", "fe80::99", "ff02::1", "ff02::2", "ff02::16", "ff05::7", "::", "::1")
TYPES = (128, 128, 129, 133, 134, 135, 135, 136, 137, 1, 2, 3, 4, 130, 131, 132, 139, 143)
PORTS = (9, 80, 8080, 30080, 40000)
HEADERS = (0, 60, 43, 44, 51, 0)


def message(choices: Choices, target: str) -> tuple[int, bytes]:
    """A transport's message: its protocol and its bytes."""
    proto = choices.one((made.TCP, made.UDP, made.ICMP6, made.ICMP6, 47, 132, 59, 253))
    data = bytes(choices.one((0, 1, 8, 64, 1400, 1452, 2000)))
    sport, dport = choices.one(PORTS), choices.one(PORTS)
    if proto == made.TCP:
        return proto, made.tcp(sport, dport, choices.number(), choices.number(), choices.number(), data)
    if proto == made.UDP:
        return proto, made.udp(sport, dport, data)
    if proto != made.ICMP6:
        return proto, struct.pack("!HHI", sport, dport, 0) + data
    kind = choices.one(TYPES)
    if kind in (135, 136):
        lladdr = "02:00:00:00:88:88" if choices.number() & 1 else None
        return proto, made.discovery(kind, choices.number() << 24, target, lladdr)
    return proto, struct.pack("!BBHHH", kind, choices.number() % 4, 0, sport, dport) + choices.take(
        choices.number() % 64
    )


def fresh6(choices: Choices, own: str, hosts: list[str], src_mac: str, dst_mac: str) -> bytes:
    """A packet from `own`, or from who else, to one of the hosts."""
    dst, odd, hops = choices.one(hosts), choices.number(), choices.one((64, 255, 255, 2, 1, 0))
    src = choices.one(hosts) if odd & 0x80 else own
    if odd & 0x40:
        dst = made.solicited_node(dst)
    proto, body = message(choices, choices.one(hosts))
    extensions = tuple(
        (choices.one(HEADERS), (bytes([choices.number() % 3]) + choices.take(14) + bytes(14))[:7])
        for _ in range(odd & 3)
    )
    mac = made.group_mac(dst) if dst.startswith("ff") else dst_mac
    l3 = made.ipv6(src, dst, proto, body, hops=hops, label=odd, tclass=odd, extensions=extensions)
    return made.eth6(mac, src_mac, l3)


def answer6(choices: Choices, frame: bytes) -> bytes:
    """A frame that goes back to where one came from: an answer, or an ICMPv6 error about it."""
    back, src, dst = frame[6:12] + frame[:6] + frame[12:14], frame[22:38], frame[38:54]
    how, body, proto = choices.number(), frame[54:], frame[20]
    if how & 0x80:
        rest = (
            struct.pack("!BBHI", how & 7, how >> 3 & 7, 0, choices.number(2)) + frame[14:][: choices.number()]
        )
        proto, body = made.ICMP6, rest
    elif len(body) >= 8 and proto == made.ICMP6:
        kind = {128: 129, 135: 136, 139: 140}.get(body[0], body[0])
        body = (
            bytes([kind]) + body[1:4] + (bytes([choices.number()]) if kind == 136 else body[4:5]) + body[5:]
        )
    elif len(body) >= 8:
        body = body[2:4] + body[:2] + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), proto, 255 if proto == made.ICMP6 else 64)
    return back + head + dst + src + made.completed6(dst, src, proto, body)
