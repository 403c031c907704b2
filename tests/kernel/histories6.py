"""The same steps as IPv6 frames: a history of a dual-stack node says of each step which family it is of."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

from frames import (
    ACK,
    ICMP,
    ICMP6,
    TCP,
    UDP,
    discovery,
    eth6,
    fragment6,
    fragments6,
    group_mac,
    ipv6,
    solicited_node,
    tcp,
    udp,
)
from hypothesis import strategies as st

from kernel.answers6 import spoilt6
from kernel.histories import (
    CHANGES,
    MTUS,
    Ask,
    Fresh,
    Pieces,
    Scale,
    Step,
    Wait,
    large,
    ports,
    scripts,
    steps,
    told,
    whole,
)
from kernel.nodes import doors, six_view
from kernel.world import GATEWAY_MAC, World

HOSTS6 = ("fd00:10::5", "fd00:10::9", "fd00:10::50", "fd00:10::64")
FAR6 = ("fd12:3456:789a:0:2::10", "2001:db8::7")
ODD6 = (
    "ff02::1",
    "ff02::2",
    "ff05::7",
    "ff01::1",
    "::1",
    "::",
    "fe80::99",
    "fd00:10::",
    "fd12:3456:789a:0:1::",
    "fd12:3456:789a:0:1::99",
    "2001:db8:bad:1::1",
    "2001:db8:bad:2::1",
    "2001:db8:bad:3::1",
)
QUERIES = (128, 128, 128, 129, 139, 1, 200)
LEAST_MTU = 1280


@dataclass(frozen=True)
class Six:
    """A step as IPv6; `extra` are extension headers in front of a fresh packet's transport."""

    step: Step
    extra: int


def _of(six: bool, step: Step, extra: int) -> Six | Step:
    return Six(step, extra) if six else step


_NONE = st.just(0)
_extra = st.sampled_from([0] * 9 + [1, 2, 3, 4, 5, 6, 7, 8])
_six = st.sampled_from([True, True, True, True, False])
_either = st.builds(_of, _six, steps, _extra)
_script = st.builds(
    lambda six, script: [_of(six, step, 0) for step in script],
    _six,
    st.one_of(*scripts, *[told(24, [28, 28, 29])] * 2),
)
_OWN, _REFUSED = (
    range(28, 32),
    range(46, 49),
)  # of `World6.targets`: the node's own, and routes that lead nowhere


def _whole6(
    extra: st.SearchStrategy[int] = _NONE, **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Six]:
    """A sound packet of no service, but for these fields."""
    return st.builds(Six, st.builds(replace, whole, mac=st.just(0), door=st.none(), **fields), extra)


#: What few packets would be by chance.
_rare = st.one_of(
    st.builds(
        Six,
        st.builds(
            Ask,
            port=ports,
            target=st.one_of(st.integers(0, 12), st.sampled_from(_OWN)),
            op=st.sampled_from([1, 1, 1, 2]),
        ),
        st.integers(0, 5),
    ),
    _whole6(dst=st.sampled_from(_REFUSED)),
    _whole6(dst=st.sampled_from(_OWN), proto=st.sampled_from([ICMP, ICMP, 253, TCP, UDP])),
    _whole6(st.integers(1, 8)),
    _whole6(
        proto=st.just(ICMP), dport=st.just(5353), ttl=st.just(1)
    ),  # an error that is lost: one of `QUERIES`
).map(lambda step: [step])
#: Links that carry less for a while, but as much as IPv6 needs (RFC 8200 section 5: a device without has none).
_narrow = st.builds(
    lambda change, packets: [change, *(_of(six, packet, 0) for six, packet in packets)],
    st.sampled_from([change for change in MTUS if int(CHANGES[change.which][2]) >= LEAST_MTU]),
    st.lists(st.tuples(_six, large), min_size=1, max_size=3),
)
#: One at a time, and scripts between.
both = st.lists(
    st.one_of(*[_either.map(lambda step: [step])] * 8, _script, _script, _rare, _rare, _narrow),
    min_size=12,
    max_size=40,
).map(lambda parts: [step for part in parts for step in part][:48])
#: Time passes between some steps.
slowly = st.lists(
    st.one_of(*[_either] * 14, st.builds(Wait, ms=st.sampled_from([150, 600, 1200]))),
    min_size=12,
    max_size=30,
)


def extensions(which: int) -> tuple[tuple[int, bytes], ...]:
    """Extension headers, each without its first byte."""
    return (
        (),
        ((0, bytes([0, 5, 2, 0, 0, 1, 0])),),  # a router alert
        ((60, bytes([0, 1, 4, 0, 0, 0, 0])),),
        ((0, bytes([0, 0x3E, 4, 0, 0, 0, 0])),),  # unknown, to be skipped
        ((0, bytes([0, 0x7E, 4, 0, 0, 0, 0])),),  # unknown, to be dropped
        ((60, bytes([0, 0xBE, 4, 0, 0, 0, 0])),),  # unknown, to be told
        ((43, bytes([0, 0, 0, 0, 0, 0, 0])),),  # a routing header with no segment left
        ((60, bytes([9, 1, 4, 0, 0, 0, 0])),),  # longer than the packet
        ((0, bytes([0, 1, 4, 0, 0, 1, 0])),),  # padding that is not zero
    )[which]


def regrouped(parts: list[bytes], sizes: tuple[int, ...]) -> list[bytes]:
    """Fragments in order, as if the datagram had been cut into these sizes, and the rest into one."""
    body, ident, made, at = (
        b"".join(part[48:] for part in parts),
        int.from_bytes(parts[0][44:48], "big"),
        [],
        0,
    )
    for size in (*sizes, 1440, 1440, 1440):
        if at < len(body):
            more = at + size < len(body)
            made.append(fragment6(parts[0][:40], parts[0][40], body[at : at + size], at, more, ident))
        at += size
    return made


def twisted(parts: list[bytes], how: int) -> list[bytes]:
    """Fragments of one IPv6 datagram as a careless or hostile sender has them."""
    if not how or not parts:
        return parts
    middle = len(parts) // 2
    part = parts[middle]
    head, kind, at, ident = (
        part[:40],
        part[40],
        int.from_bytes(part[42:44], "big"),
        int.from_bytes(part[44:48], "big"),
    )

    def instead(*made: bytes) -> list[bytes]:
        return [*parts[:middle], *made, *parts[middle + 1 :]]

    if how == 1:  # one twice
        return instead(part, part)
    if how == 2:  # one that lies across two
        return instead(part, fragment6(head, kind, part[48:], (at & 0xFFF8) + 8, bool(at & 1), ident))
    if how == 3:  # sizes of all kinds
        return regrouped(parts, (8, 648, 16, 1440))
    if how == 4:  # the last but one is the largest
        return regrouped(parts, (40, 1280, 8))
    if how == 5:  # in the middle of 8 bytes
        return instead(part[:4] + struct.pack("!H", len(part) - 41) + part[6:-1] if len(part) > 49 else part)
    if how == 6:  # congestion on its way, where one does not know of it
        return instead(bytes([part[0], part[1] | 0x30]) + part[2:])
    if how == 10:  # congestion, where all know
        aware = [bytes([p[0], p[1] | (0x30 if p is part else 0x20)]) + p[2:] for p in parts]
        return aware
    if how == 11:  # another end than the last one's
        return [*parts, fragment6(head, kind, bytes(8), 8, False, ident), *parts[:1]]
    if how == 12:  # empty
        return instead(fragment6(head, kind, b"", at & 0xFFF8, False, ident), part)
    if how == 13:  # beyond 65535 bytes
        return instead(fragment6(head, kind, bytes(16), 65528, True, ident), part)
    if how == 14:  # destination options in front of it
        return [
            p[:4] + struct.pack("!HB", len(p) - 32, 60) + p[7:40] + b"\x2c\0\1\4\0\0\0\0" + p[40:]
            for p in parts
        ]
    if how == 15:  # and so many that their end is beyond 255
        long = b"\x3c\x1a\x3e\xd4" + bytes(212) + b"\x2c\0\1\4\0\0\0\0"
        return [
            p[:4] + struct.pack("!HB", len(p) + 184, 0) + p[7:40] + long + p[40 : len(p) - 224] for p in parts
        ]
    if how == 16:  # whole, and yet a fragment
        return [fragment6(head, kind, b"".join(p[48:] for p in parts)[:1440], 0, False, ident)]
    return parts


class World6(World):
    """What a dual-stack node's frames have been; its addresses are those of IPv6."""

    def __init__(self, node: dict[str, Any], four: World) -> None:
        self.node, self.four = six_view(node), four
        self.sent, self.seen = four.sent, four.seen
        self.doors = doors(self.node)

    def targets(self) -> list[str]:
        pods = [pod["ip"] for pod in self.node["pods"]]
        own = [self.node["eth0"]["ip"].split("/")[0]]
        if "cbr0" in self.node:
            own.append(self.node["cbr0"]["ip"].split("/")[0])
        services = [service["ip"] for service in self.node["services"]]
        return [*pods, *pods, *dict.fromkeys(services), *HOSTS6, *own, *own, *FAR6, *FAR6, *ODD6]

    def addresses(self, port: str, which: int) -> tuple[str, str]:
        pod = self.pod(port)
        odd = [self.node["pods"][1]["ip"], "fe80::77", "2001:db8::99", "::"]
        if pod:
            return pod["mac"], odd[which - 1] if which else pod["ip"]
        return GATEWAY_MAC, odd[which - 1] if which else HOSTS6[0]

    def eth_dst(self, port: str, which: int, dst: str) -> str:
        if dst.startswith("ff") and which == 0:
            return group_mac(dst)
        return super().eth_dst(port, which, dst)

    def render6(self, six: Six, number: int) -> list[tuple[str, bytes]]:
        step = six.step
        if isinstance(step, Scale):
            return []
        if isinstance(step, Fresh):
            return [(step.port, self._fresh6(step, six.extra))]
        if isinstance(step, Pieces):
            return self._pieces6(step, number, six.extra)
        if isinstance(step, Ask):
            return [(step.port, self._ask6(step, six.extra))]
        return self.four.render(step, number)

    def _fresh6(self, step: Fresh, extra: int) -> bytes:
        mac, src = self.addresses(step.port, step.src)
        targets = self.targets()
        dst, proto, dport = targets[step.dst % len(targets)], step.proto, step.dport
        if step.door is not None:
            dst, name, dport = self.doors[step.door % len(self.doors)]
            proto = TCP if name == "tcp" else UDP
        bridged = "cbr0" in self.node and self.pod(step.port)
        if bridged and src.startswith("fe80") and dst in {door[0] for door in self.doors}:
            src = self.addresses(step.port, 0)[
                1
            ]  # what the bridge refuses is answered by any of its ports' links
        data = bytes(i & 255 for i in range(min(step.size, 1432 if extra else 1440)))
        if proto == TCP:
            l4 = tcp(step.sport, dport, step.flags, 1000, 2000 if step.flags & ACK else 0, data)
        elif proto == UDP:
            l4 = udp(step.sport, dport, data)
        elif proto == ICMP:
            proto = ICMP6
            l4 = struct.pack("!BBHHH", QUERIES[step.dport % 7], 0, 0, step.sport, 1) + data
        else:
            l4 = struct.pack("!HHI", step.sport, step.dport, 0) + data
        label = 0x12345 if step.df else 0
        l3 = ipv6(src, dst, proto, l4, hops=step.ttl, label=label, tclass=0xB9 if step.df else 0,
                  extensions=extensions(extra))  # fmt: skip
        return spoilt6(eth6(self.eth_dst(step.port, step.mac, dst), mac, l3), step.spoil)

    def _pieces6(self, step: Pieces, number: int, extra: int) -> list[tuple[str, bytes]]:
        mac, src = self.addresses(step.port, 0)
        targets = self.targets()
        dst, proto, dport = targets[step.dst % len(targets)], UDP, step.dport
        if step.door is not None:
            udp_doors = [door for door in self.doors if door[1] == "udp"]
            dst, _, dport = udp_doors[step.door % len(udp_doors)]
        twist = extra and extra + 8 * (step.sport & 1)
        l4 = udp(step.sport, dport, bytes(step.size))
        if twist in (7, 8):
            proto, l4 = ICMP6, struct.pack("!BBHHH", 128, 0, 0, step.sport, 1) + bytes(step.size)
        elif twist == 9:
            proto, l4 = TCP, tcp(step.sport, dport, 2, 1000, 0, bytes(step.size))
        parts = fragments6(ipv6(src, dst, proto, l4), min(step.cut, 1440), number)[:8]
        if step.order == 1:
            parts = parts[::-1]
        elif step.order == 2:
            parts = parts[:-1]
        parts = twisted(parts, twist)
        return [(step.port, eth6(self.eth_dst(step.port, 0, dst), mac, part)) for part in parts]

    def _ask6(self, step: Ask, extra: int) -> bytes:
        """A solicitation, or an advertisement; `extra` makes it unlike the usual one."""
        mac, src = self.addresses(step.port, 0)
        targets = self.targets()
        target = targets[step.target % len(targets)]
        own = self.node["eth0" if self.pod(step.port) is None or "cbr0" not in self.node else "cbr0"]["ip"]
        if step.op == 2:
            who = (src, HOSTS6[2], target)[extra % 3]
            dst = own.split("/")[0] if extra % 2 else "ff02::1"
            flags = (0x20000000, 0x60000000, 0x40000000, 0)[extra % 4]
            body = discovery(136, flags, who, None if extra == 5 else mac)
        else:
            src = "::" if extra == 1 else src
            dst = own.split("/")[0] if extra == 2 else solicited_node(target)
            body = discovery(135, 0, target, None if extra in (1, 3) else mac)
        hops = 64 if extra == 4 else 255
        eth_dst = group_mac(dst) if dst.startswith("ff") else self.node_mac(step.port)
        return eth6(eth_dst, mac, ipv6(src, dst, ICMP6, body, hops=hops))
