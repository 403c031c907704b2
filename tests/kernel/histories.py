"""Histories of a node: steps that Hypothesis draws, and the frames that they become.

A step says little by itself: `Reply(2)` answers the third latest frame that came out, wherever that was and whatever
it had become. So a history stays one when steps are left out, and the same steps go to two nodes whose random choices
(ports after a clash, IP ids) differ: each gets the answer to its own frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from frames import ACK, FIN, ICMP, RST, SYN, TCP, UDP, arp, eth, fragments, icmp, ipv4, tcp, udp
from golden_compare import with_checksums
from hypothesis import strategies as st

from kernel.answers6 import FULL, answer6, error_about6
from kernel.nodes import BALANCER, doors

UPLINK = "vnet"
GATEWAY_MAC = "12:34:56:78:9a:bc"
PODS = ("pod1", "pod2", "pod3", "pod4")
PORTS = (9, 53, 80, 443, 5000, 5353, 8080, 30080)
HOSTS = ("10.240.0.5", "10.240.0.9", "10.240.0.50", "10.240.0.100")
FAR = ("10.244.2.10", "198.51.100.7")
ODD = (
    "224.0.0.1",
    "239.1.2.3",
    "255.255.255.255",
    "127.0.0.1",
    "0.0.0.0",
    "240.0.0.1",
    "10.0.0.99",
    "169.254.1.1",
)


@dataclass(frozen=True)
class Fresh:
    """A packet that nothing has asked for."""

    port: str
    src: int  # 0: the pod's own, or a host's; else an odd one
    dst: int
    mac: int  # 0: the node's
    proto: int
    sport: int
    dport: int
    flags: int  # of TCP
    ttl: int
    df: bool
    size: int
    spoil: int
    door: int | None  # of a service or host port, whose address, protocol and port these are then


@dataclass(frozen=True)
class Reply:
    """The answer to a frame that came out."""

    back: int
    flags: int
    spoil: int


@dataclass(frozen=True)
class Error:
    """An ICMP error about a frame that came out, from who got it or from a router."""

    back: int
    kind: tuple[int, int]
    quoted: int
    by_router: bool


@dataclass(frozen=True)
class Again:
    """A frame that went in once more."""

    back: int
    spoil: int
    bit: int


@dataclass(frozen=True)
class Pieces:
    """A datagram in fragments: in order, backwards, or without the last."""

    port: str
    dst: int
    sport: int
    dport: int
    size: int
    cut: int
    order: int
    door: int | None


@dataclass(frozen=True)
class Scale:
    """A service has these of its endpoints now; None: it is gone."""

    service: int
    kept: tuple[bool, ...] | None


@dataclass(frozen=True)
class Ask:
    """An ARP request, or an announcement."""

    port: str
    target: int
    op: int


Step = Fresh | Reply | Error | Again | Pieces | Ask | Scale

_ports = st.sampled_from([*PODS, UPLINK])
_spoil = st.sampled_from([0] * 12 + [1, 2, 3, 4, 5, 6])
_small = st.integers(0, 3)
_door = st.one_of(st.none(), st.integers(0, 60), st.integers(0, 60))
_scale = st.builds(
    Scale,
    service=st.integers(0, 15),
    kept=st.one_of(st.none(), *[st.tuples(*[st.booleans()] * 4)] * 5),
)
_flags = st.sampled_from(
    [SYN, SYN, SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, 0, SYN | FIN, 8 | ACK]
)
_fresh = st.builds(
    Fresh,
    port=_ports,
    src=st.sampled_from([0] * 10 + [1, 2, 3, 4]),
    dst=st.integers(0, 40),
    mac=st.sampled_from([0] * 8 + [1, 2, 3]),
    proto=st.sampled_from([TCP, TCP, TCP, UDP, UDP, UDP, ICMP, ICMP, 47, 50, 132, 253]),
    sport=st.sampled_from([1024, 1025, 40000]),
    dport=st.sampled_from(PORTS),
    flags=_flags,
    ttl=st.sampled_from([64, 64, 64, 64, 2, 1, 255]),
    df=st.booleans(),
    size=st.sampled_from([0, 1, 4, 8, 100, 1440, 1460]),
    spoil=_spoil,
    door=_door,
)
_reply = st.builds(Reply, back=_small, flags=_flags, spoil=_spoil)
_error = st.builds(
    Error,
    back=_small,
    kind=st.sampled_from(
        [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0), (4, 0), (5, 1)]
    ),
    quoted=st.sampled_from([0, 4, 7, 8, 16, 28, 100]),
    by_router=st.booleans(),
)
_again = st.builds(Again, back=_small, spoil=_spoil, bit=st.integers(0, 600))
_pieces = st.builds(
    Pieces,
    port=_ports,
    dst=st.integers(0, 40),
    sport=st.sampled_from([1024, 1025]),
    dport=st.sampled_from(PORTS),
    size=st.sampled_from([100, 1472, 1480, 2900]),
    cut=st.sampled_from([8, 48, 800, 1480]),
    order=st.integers(0, 2),
    door=_door,
)
_ask = st.builds(Ask, port=_ports, target=st.integers(0, 12), op=st.sampled_from([1, 1, 1, 2]))

steps = st.one_of(
    _fresh, _fresh, _fresh, _fresh, _reply, _reply, _reply, _reply, _error, _again, _pieces, _ask, _scale
)
histories = st.lists(steps, min_size=12, max_size=40)


@dataclass
class World:
    """What a node's frames have been so far: those that went in, and those that came out."""

    node: dict[str, Any]
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.doors = doors(self.node)

    def pod(self, port: str) -> dict[str, Any] | None:
        return next((pod for pod in self.node["pods"] if pod["port"] == port), None)

    def targets(self) -> list[str]:
        pods = [pod["ip"] for pod in self.node["pods"]]
        own = [self.node["eth0"]["ip"].split("/")[0]]
        if "cbr0" in self.node:
            own.append(self.node["cbr0"]["ip"].split("/")[0])
        services = list(dict.fromkeys(service["ip"] for service in self.node["services"]))
        far = (self.node["far"], *FAR)
        return [*pods, *pods, *services, *BALANCER, *HOSTS, *own, *own, *far, *far, *ODD]

    def addresses(self, port: str, which: int) -> tuple[str, str]:
        """(MAC, IP) of who sends at a port."""
        pod = self.pod(port)
        odd = [self.node["pods"][1]["ip"], "127.0.0.1", "198.51.100.99", "0.0.0.0"]
        if pod:
            return pod["mac"], odd[which - 1] if which else pod["ip"]
        return GATEWAY_MAC, odd[which - 1] if which else HOSTS[0]

    def node_mac(self, port: str) -> str:
        """The MAC address that a neighbour at a port has for the node."""
        pod = self.pod(port)
        if pod is None:
            return str(self.node["eth0"]["mac"])
        return str(self.node["cbr0"]["mac"] if "cbr0" in self.node else pod["host_mac"])

    def eth_dst(self, port: str, which: int, dst: str) -> str:
        owner = next((pod["mac"] for pod in self.node["pods"] if pod["ip"] == dst), None)
        if which == 0:
            bridged = "cbr0" in self.node and self.pod(port) is not None
            return str(owner) if bridged and owner else self.node_mac(port)
        return (self.node_mac(port), "ff:ff:ff:ff:ff:ff", "02:00:00:00:77:77")[which - 1]

    def render(self, step: Step, number: int) -> list[tuple[str, bytes]]:
        """The frames of a step; none where it speaks of something that has not been. `number` tells IP ids apart."""
        if isinstance(step, Scale):
            return []
        if isinstance(step, Fresh):
            return [(step.port, self._fresh(step, number))]
        if isinstance(step, Pieces):
            return self._pieces(step, number)
        if isinstance(step, Ask):
            return [(step.port, self._ask(step))]
        past = self.sent if isinstance(step, Again) else self.seen
        if step.back >= len(past):
            return []
        port, frame = past[-1 - step.back]
        if isinstance(step, Again):
            made = bytearray(frame)
            if step.spoil and step.bit // 8 < len(made):
                made[step.bit // 8] ^= 1 << step.bit % 8
            return [(port, bytes(made))]
        if frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
            made = answer6(frame, step) if isinstance(step, Reply) else error_about6(frame, step)
            return [(port, made)] if made else []
        if frame[12:14] != b"\x08\x00" or len(frame) < 34:
            return []
        made = _answer(frame, step, number) if isinstance(step, Reply) else _error_about(frame, step, number)
        return [(port, made)] if made else []

    def _fresh(self, step: Fresh, number: int) -> bytes:
        mac, src = self.addresses(step.port, step.src)
        targets = self.targets()
        dst, proto, dport = targets[step.dst % len(targets)], step.proto, step.dport
        if step.door is not None:
            dst, name, dport = self.doors[step.door % len(self.doors)]
            proto = TCP if name == "tcp" else UDP
        data = bytes(i & 255 for i in range(step.size))
        if proto == TCP:
            l4 = tcp(step.sport, dport, step.flags, 1000, 2000 if step.flags & ACK else 0, data)
        elif proto == UDP:
            l4 = udp(step.sport, dport, data)
        elif proto == ICMP:
            l4 = icmp((8, 8, 8, 0, 13, 17, 10)[step.dport % 7], 0, step.sport, 1, data)
        else:
            l4 = struct.pack("!HHI", step.sport, step.dport, 0) + data
        l3 = ipv4(src, dst, proto, l4, ttl=step.ttl, ident=number, flags=0x4000 if step.df else 0)
        made = with_checksums(eth(self.eth_dst(step.port, step.mac, dst), mac, l3))
        return _spoilt(made, step.spoil)

    def _pieces(self, step: Pieces, number: int) -> list[tuple[str, bytes]]:
        mac, src = self.addresses(step.port, 0)
        targets = self.targets()
        dst, dport = targets[step.dst % len(targets)], step.dport
        if step.door is not None:
            udp_doors = [door for door in self.doors if door[1] == "udp"]
            dst, _, dport = udp_doors[step.door % len(udp_doors)]
        whole = with_checksums(
            eth(self.eth_dst(step.port, 0, dst), mac, ipv4(src, dst, UDP, udp(step.sport, dport, bytes(step.size)),
                                                           ident=number, flags=0))
        )  # fmt: skip
        parts = fragments(whole[14:], step.cut)[:8]
        if step.order == 1:
            parts = parts[::-1]
        elif step.order == 2:
            parts = parts[:-1]
        return [(step.port, with_checksums(whole[:14] + part)) for part in parts]

    def _ask(self, step: Ask) -> bytes:
        mac, src = self.addresses(step.port, 0)
        targets = self.targets()
        target = targets[step.target % len(targets)]
        if step.op == 2:
            return arp(2, mac, src, "ff:ff:ff:ff:ff:ff", src)
        return arp(1, mac, src, "00:00:00:00:00:00", target)


def _spoilt(frame: bytes, how: int) -> bytes:
    made = bytearray(frame)
    if how == 1:  # the L4 checksum, of most protocols
        made[-1] ^= 0x55
    elif how == 2:  # the IP checksum
        made[24] ^= 1
    elif how == 3:
        return frame[: max(14, len(frame) * 2 // 3)]
    elif how == 4:
        return (frame + b"trailer")[: max(len(frame), FULL)]
    elif how == 5 and frame[23] == UDP and len(frame) >= 42:
        made[40:42] = b"\0\0"
    elif how == 6:
        made[14] = 0x4F
    return bytes(made)


def _head(frame: bytes) -> tuple[int, str, str]:
    length = (frame[14] & 15) * 4
    return 14 + length, str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34]))


def _answer(frame: bytes, step: Reply, number: int) -> bytes | None:
    at, src, dst = _head(frame)
    proto, body = frame[23], frame[at : 14 + int.from_bytes(frame[16:18], "big")]
    if len(body) < 8 or int.from_bytes(frame[20:22], "big") & 0x1FFF:
        return None
    first, second = struct.unpack_from("!HH", body)
    if proto == TCP and len(body) >= 20:
        seq, ack = struct.unpack_from("!II", body, 4)
        data = len(body) - (body[12] >> 4) * 4 + (body[13] & 1) + (body[13] >> 1 & 1)
        l4 = tcp(second, first, step.flags, ack or 5000, (seq + data) & 0xFFFFFFFF if step.flags & ACK else 0)
    elif proto == UDP:
        l4 = udp(second, first, b"answer")
    elif proto == ICMP and body[0] in (8, 13, 17):
        l4 = bytes([{8: 0, 13: 14, 17: 18}[body[0]]]) + body[1:]
    elif proto in (47, 50, 132, 253):
        l4 = struct.pack("!HHI", second, first, 0) + body[8:]
    else:
        return None
    l3 = ipv4(dst, src, proto, l4, ident=number)
    return _spoilt(with_checksums(eth(frame[6:12].hex(":"), frame[:6].hex(":"), l3)), step.spoil)


def _error_about(frame: bytes, step: Error, number: int) -> bytes | None:
    at, src, dst = _head(frame)
    quote = frame[14 : at + step.quoted]
    kind, code = step.kind
    rest = struct.pack("!HH", 0, 1400) if step.kind == (3, 4) else bytes(4)
    l4 = struct.pack("!BBH", kind, code, 0) + rest + quote
    l3 = ipv4("198.51.100.1" if step.by_router else dst, src, ICMP, l4, ident=number)
    return with_checksums(eth(frame[6:12].hex(":"), frame[:6].hex(":"), l3))
