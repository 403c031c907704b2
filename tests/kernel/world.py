"""What a step of a history is on the wire, beside what a node has sent and seen so far."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from frames import ACK, ICMP, TCP, UDP, arp, eth, fragments, icmp, ipv4, tcp, udp
from golden_compare import with_checksums

from kernel.answers6 import FULL, answer6, error_about6
from kernel.groups import igmp_frame, mld_frame
from kernel.histories import Again, Ask, Change, Error, Fresh, Group, Pieces, Reply, Scale, Step, Wait
from kernel.nodes import BALANCER, doors

UPLINK = "vnet"
GATEWAY_MAC = "12:34:56:78:9a:bc"
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
    "192.0.2.10",  # of a golden node: unreachable, prohibit, blackhole, throw
    "192.0.2.70",
    "192.0.2.130",
    "192.0.2.200",
)
TAGS = (
    b"",
    b"\x81\0\0\0",
    b"\x81\0\0\5",
    b"\x81\0\xe0\0",
    b"\x88\xa8\0\0",
    b"\x81\0\0\0\x81\0\0\0",
    b"\x81\0\0\5\x81\0\0\6",
)
OPTIONS = tuple(
    option + bytes(-len(option) % 4)
    for option in (
        b"",
        b"\x07\x0b\x04" + bytes(8),  # record route
        b"\x44\x0c\x05\x00" + bytes(8),  # timestamps
        b"\x44\x0c\x05\x01" + bytes(8),  # with addresses
        b"\x94\x04\0\0",  # router alert
        b"\x83\x07\x04\x0a\xf0\0\x05",  # a loose source route
        b"\x01\x07\x03\x04",  # a recorded route without room
        b"\x07\x07\x04" + bytes(4) + b"\x44\x02\0\0",  # and a timestamp that is none
        b"\x83\x07\x04\x0a\xf0\0\x05\x07\x02",  # a record without a pointer behind a source route
        b"\x44\x04\xff\xf0",  # a timestamp that has overflown for good
    )
)


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
        if isinstance(step, Scale | Wait | Change):
            return []
        if isinstance(step, Group):
            return [(step.port, self._group(step, number))]
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
        if isinstance(step, Reply) and frame[12:14] == b"\x08\x06":
            made = self.arp_answer(port, frame)
            return [(port, made)] if made else []
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
        options, tag = OPTIONS[step.options], TAGS[step.tag]
        data = bytes(i & 255 for i in range(min(step.size, 1460 - len(options) - len(tag))))
        if proto == TCP:
            l4 = tcp(step.sport, dport, step.flags, 1000, 2000 if step.flags & ACK else 0, data)
        elif proto == UDP:
            l4 = udp(step.sport, dport, data)
        elif proto == ICMP:
            l4 = icmp((8, 8, 8, 0, 13, 17, 10)[step.dport % 7], 0, step.sport, 1, data)
        else:
            l4 = struct.pack("!HHI", step.sport, step.dport, 0) + data
        l3 = ipv4(
            src, dst, proto, l4, ttl=step.ttl, ident=number, flags=0x4000 if step.df else 0, options=options
        )
        made = _spoilt(with_checksums(eth(self.eth_dst(step.port, step.mac, dst), mac, l3)), step.spoil)
        return made[:12] + tag + made[12:]

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

    def mac_of(self, port: str, ip: str) -> str | None:
        """The MAC of who has an address at a port; None: nobody there."""
        pod = self.pod(port)
        if pod is not None:
            return str(pod["mac"]) if pod["ip"] == ip else None
        if ip in {pod["ip"] for pod in self.node["pods"]} or not ip.startswith("10.240."):
            return None
        if ip == self.node["eth0"]["ip"].split("/")[0]:
            return None
        known = (n["mac"] for n in self.node["neigh"] if n["ip"] == ip)
        return next(
            known, GATEWAY_MAC if ip == "10.240.0.1" else f"00:0d:3a:00:00:{IPv4Address(ip).packed[3]:02x}"
        )

    def arp_answer(self, port: str, frame: bytes) -> bytes | None:
        """What the owner of an address at a port says to an ARP request that came out there."""
        if frame[20:22] != b"\0\1" or len(frame) < 42:
            return None
        asked, asker = str(IPv4Address(frame[38:42])), str(IPv4Address(frame[28:32]))
        mac = self.mac_of(port, asked)
        if mac is None or asked in ("10.240.0.66", "10.240.0.67"):  # nobody's
            return None
        return arp(2, mac, asked, frame[22:28].hex(":"), asker, frame[22:28].hex(":"))

    def _group(self, step: Group, number: int) -> bytes:
        mac, src = self.addresses(step.port, 0)
        if step.six:
            low = IPv4Address(src).packed[3]
            return mld_frame(step.kind, step.group, mac, f"fe80::{low:x}")
        return igmp_frame(step.kind, step.group, mac, src, number)

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
        mine, theirs = (ack or 5000) + step.drift, seq + data if step.flags & ACK else 0
        l4 = tcp(second, first, step.flags, mine & 0xFFFFFFFF, theirs & 0xFFFFFFFF, bytes(step.size))
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
    rest = struct.pack("!HH", 0, step.mtu) if step.kind == (3, 4) else bytes(4)
    l4 = struct.pack("!BBH", kind, code, 0) + rest + quote
    l3 = ipv4("198.51.100.1" if step.by_router else dst, src, ICMP, l4, ident=number)
    return with_checksums(eth(frame[6:12].hex(":"), frame[:6].hex(":"), l3))
