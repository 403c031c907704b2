"""Flows between places of a cluster, by name, so that every addressing mode can carry the same; and their frames."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .address import ipv4, ipv4_text
from .cluster import Cluster
from .delivery import Place, PlaceKind
from .errors import ConfigError
from .topology import is_address

__all__ = ["Flow", "Packet", "answer", "parse_flow", "question", "read_packet"]

TCP, UDP = 6, 17
FIN, SYN, ACK = 1, 2, 16
INTERNET_HOST = "198.51.100.7"
ETHER = struct.Struct("!6s6sH")
IP = struct.Struct("!BBHHHBBHII")
TCP_HEADER = struct.Struct("!HHIIBBHHH")
UDP_HEADER = struct.Struct("!HHHH")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Traffic of one class.

    Parameters
    ----------
    label : str
        The class, as a reader knows it.
    src : str
        The place that begins.
    dst : str
        A place, `node:NAME` or `service:NAME` or `external:NAME` of a service, or an address.
    port : int
        Of the destination.
    proto : int
        6 or 17.
    connections : int
        How many there are of it in a mix; the first stands for all where one packet is looked at.
    """

    label: str
    src: str
    dst: str
    port: int
    proto: int = TCP
    connections: int = 1


@dataclass(frozen=True, kw_only=True)
class Packet:
    """Addresses and ports of a frame, with its TTL."""

    src: int
    sport: int
    dst: int
    dport: int
    proto: int
    ttl: int = 64

    @property
    def source(self) -> str:
        """Address and port."""
        return f"{ipv4_text(self.src)}:{self.sport}"

    @property
    def destination(self) -> str:
        """Address and port."""
        return f"{ipv4_text(self.dst)}:{self.dport}"


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _frame(
    macs: tuple[int, int], packet: Packet, *, flags: int, ack: int, ident: int, payload: bytes
) -> bytes:
    pseudo = struct.pack("!IIBB", packet.src, packet.dst, 0, packet.proto)
    if packet.proto == TCP:
        l4 = TCP_HEADER.pack(packet.sport, packet.dport, 1, ack, 0x50, flags, 64240, 0, 0) + payload
        check = _checksum(pseudo + struct.pack("!H", len(l4)) + l4)
        l4 = l4[:16] + struct.pack("!H", check) + l4[18:]
    else:
        size = 8 + len(payload)
        l4 = UDP_HEADER.pack(packet.sport, packet.dport, size, 0) + payload
        check = _checksum(pseudo + struct.pack("!H", size) + l4) or 0xFFFF
        l4 = l4[:6] + struct.pack("!H", check) + l4[8:]
    size = 20 + len(l4)
    head = IP.pack(0x45, 0, size, ident, 0x4000, packet.ttl, packet.proto, 0, packet.src, packet.dst)
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return ETHER.pack(macs[0].to_bytes(6, "big"), macs[1].to_bytes(6, "big"), 0x0800) + head + l4


def resolve(flow: Flow, cluster: Cluster) -> int:
    """The destination address of a flow in this cluster.

    Raises
    ------
    ConfigError
        For a destination that it does not have.
    """
    kind, colon, name = flow.dst.partition(":")
    if colon and kind in ("service", "external"):
        for service in cluster.services:
            if service.name == name and (kind == "service" or service.outside):
                return ipv4(service.cluster_ip if kind == "service" else service.outside[0])
        some = [s.name for s in cluster.services if kind == "service" or s.outside]
        raise ConfigError(f"no service {name!r} has a {kind} address: there are {_some(some)}")
    if colon and kind == "node":
        if name not in cluster.nodes:
            raise ConfigError(f"no node {name!r}: there are {_some(list(cluster.nodes))}")
        return cluster.places[name].address
    if flow.dst in cluster.places:
        return cluster.places[flow.dst].address
    if not is_address(flow.dst):
        raise ConfigError(
            f"{flow.dst!r} is neither an address nor a place of the cluster: there are {_some(_senders(cluster))}"
        )
    return ipv4(flow.dst)


def _senders(cluster: Cluster) -> list[str]:
    return [place.name for place in cluster.places.values() if place.kind is not PlaceKind.NODE]


def _some(names: list[str]) -> str:
    """A few names, for somebody who has mistyped one."""
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "none"


def question(
    flow: Flow,
    cluster: Cluster,
    sport: int,
    *,
    established: bool = False,
    closing: bool = False,
    payload: bytes = b"",
) -> bytes:
    """The frame with which a flow begins, or one in its middle, or its last.

    Raises
    ------
    ConfigError
        For a source or destination that the cluster does not have.
    """
    if flow.src not in cluster.places:
        raise ConfigError(f"no place {flow.src!r} in the cluster: there are {_some(_senders(cluster))}")
    place = cluster.places[flow.src]
    packet = Packet(
        src=place.address or ipv4(INTERNET_HOST),
        sport=sport,
        dst=resolve(flow, cluster),
        dport=flow.port,
        proto=flow.proto,
    )
    flags = FIN | ACK if closing else ACK if established else SYN
    macs = cluster.link_addresses(place, packet.dst)
    ack = 1 if established or closing else 0
    return _frame(macs, packet, flags=flags, ack=ack, ident=sport, payload=payload)


def read_packet(frame: bytes | memoryview) -> Packet:
    """Addresses, ports and TTL of an IPv4 frame of TCP or UDP without a VLAN tag."""
    l3 = bytes(frame[14:])
    header = (l3[0] & 15) * 4
    sport, dport = struct.unpack_from("!HH", l3, header)
    src, dst = struct.unpack_from("!II", l3, 12)
    return Packet(src=src, sport=sport, dst=dst, dport=dport, proto=l3[9], ttl=l3[8])


def answer(frame: bytes | memoryview, place: Place, cluster: Cluster) -> bytes:
    """What the receiver of a frame sends back: SYN/ACK or ACK or FIN/ACK, or a datagram."""
    asked = read_packet(frame)
    flags = SYN | ACK
    if asked.proto == TCP:
        sent = frame[14 + (frame[14] & 15) * 4 + 13]
        flags = SYN | ACK if sent & SYN else ACK | sent & FIN
    packet = Packet(src=asked.dst, sport=asked.dport, dst=asked.src, dport=asked.sport, proto=asked.proto)
    macs = cluster.link_addresses(place, packet.dst)
    return _frame(macs, packet, flags=flags, ack=2, ident=asked.sport, payload=b"")


FLOW = re.compile(r"(?:(?:pod|host)\s+)?(\S+?)\s*->\s*(\S+?):(\d{1,5})(?:/(tcp|udp))?")


def parse_flow(text: str) -> Flow:
    """Read `pod web -> 10.0.0.10:53/udp`; the destination is whatever a `Flow` takes, tcp if no protocol is named.

    Raises
    ------
    ConfigError
        For a text that is no such thing.

    Examples
    --------
    >>> flow = parse_flow("pod web -> 10.0.0.10:53/udp")
    >>> flow.src, flow.dst, flow.port, flow.proto
    ('web', '10.0.0.10', 53, 17)
    """
    found = FLOW.fullmatch(text.strip())
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise ConfigError(f"{text!r} is no packet such as 'pod web -> 10.0.0.10:53/udp'")
    return Flow(
        label=text.strip(),
        src=found[1],
        dst=found[2],
        port=int(found[3]),
        proto=UDP if found[4] == "udp" else TCP,
    )
