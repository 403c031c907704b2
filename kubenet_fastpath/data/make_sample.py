"""Make sample.pcap: ten seconds of six pods on one node, as a capture on cbr0 shows them, before any translation.

    python make_sample.py [FILE]

Nothing in it is real. What the node itself would say (ARP, its answers to ping) is left out: a replay makes it.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
from pathlib import Path

EPOCH = 1_795_000_000  # November 2026
GATEWAY = "10.244.1.1"
DNS, WEB, API, SHOP, BATCH, CACHE = (f"10.244.1.{n}" for n in range(2, 8))
FAR_DATABASE, FAR_CLIENT = "10.244.2.8", "10.244.3.9"  # pods of other nodes
VNET_HOST = "10.230.0.9"
RESOLVER, SERVER, REGISTRY, ROUTER = "192.0.2.53", "203.0.113.10", "198.51.100.20", "198.51.100.1"
ICMP, TCP, UDP = 1, 6, 17
SYN, FIN, RST, PSH, ACK = 2, 1, 4, 8, 16
MSS = 1400


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = int(sum(struct.unpack(f">{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(address: str) -> bytes:
    return b"\x0a\x58" + socket.inet_aton(address if address.startswith("10.244.1.") else GATEWAY)


class Capture:
    """Frames and their times."""

    def __init__(self) -> None:
        self.random = random.Random(2028)
        self.frames: list[tuple[float, bytes]] = []

    def add(self, at: float, frame: bytes) -> None:
        self.frames.append((at, frame))

    def ip(
        self,
        at: float,
        src: str,
        dst: str,
        proto: int,
        payload: bytes,
        ttl: int | None = None,
        fragment: int = 0,
        ident: int | None = None,
    ) -> bytes:
        """An IPv4 packet; `fragment` is the header's field of flags and offset. Returns it."""
        ttl = ttl or (64 if src.startswith("10.244.1.") else 62 if src.startswith("10.244.") else 52)
        ident = self.random.randrange(1 << 16) if ident is None else ident
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, ttl, proto, 0)
        head += socket.inet_aton(src) + socket.inet_aton(dst)
        packet = head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload
        self.add(at, mac(dst) + mac(src) + b"\x08\x00" + packet)
        return packet

    def udp(
        self, at: float, src: str, sport: int, dst: str, dport: int, data: bytes, ttl: int | None = None
    ) -> bytes:
        return self.ip(at, src, dst, UDP, udp(src, sport, dst, dport, data), ttl=ttl)

    def tcp(
        self,
        at: float,
        src: str,
        sport: int,
        dst: str,
        dport: int,
        flags: int,
        seq: int,
        ack: int = 0,
        data: bytes = b"",
    ) -> bytes:
        segment = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 64240, 0, 0) + data
        check = checksum(pseudo(src, dst, TCP, segment) + segment)
        return self.ip(at, src, dst, TCP, segment[:16] + struct.pack(">H", check) + segment[18:])

    def echo(self, at: float, src: str, dst: str, kind: int, ident: int, number: int) -> None:
        message = struct.pack(">BBHHH", kind, 0, 0, ident, number) + bytes(range(48))
        self.icmp(at, src, dst, message)

    def icmp(self, at: float, src: str, dst: str, message: bytes) -> None:
        self.ip(at, src, dst, ICMP, message[:2] + struct.pack(">H", checksum(message)) + message[4:])

    def arp(self, at: float, op: int, sender: str, target: str) -> None:
        there = mac(target) if op == 2 else bytes(6)
        body = struct.pack(">HHBBH", 1, 0x800, 6, 4, op)
        body += mac(sender) + socket.inet_aton(sender) + there + socket.inet_aton(target)
        self.add(at, (mac(target) if op == 2 else b"\xff" * 6) + mac(sender) + b"\x08\x06" + body)

    def ask(self, at: float, src: str, dst: str, sport: int, round_trip: float, name: str) -> None:
        """A DNS question and its answer."""
        ident = self.random.randrange(1 << 16)
        self.udp(at, src, sport, dst, 53, dns(ident, name))
        self.udp(at + round_trip, dst, 53, src, sport, dns(ident, name, 2))

    def connect(
        self,
        at: float,
        client: str,
        sport: int,
        server: str,
        dport: int,
        round_trip: float,
        exchanges: list[tuple[int, int]],
    ) -> None:
        """A TCP connection: handshake, so many (bytes up, bytes down), and its end."""
        ends = [(client, sport, server, dport), (server, dport, client, sport)]
        number = [self.random.randrange(1 << 32), self.random.randrange(1 << 32)]

        def send(side: int, flags: int, data: bytes = b"") -> None:
            self.tcp(at, *ends[side], flags, number[side], number[1 - side] if flags & ACK else 0, data)
            number[side] = (number[side] + len(data) + bool(flags & (SYN | FIN))) % (1 << 32)

        for side, flags in ((0, SYN), (1, SYN | ACK), (0, ACK)):
            send(side, flags)
            at += round_trip / 2
        for sizes in exchanges:
            for side, size in enumerate(sizes):
                for start in range(0, size, MSS):
                    send(side, PSH | ACK, self.random.randbytes(min(MSS, size - start)))
                    at += 0.0001
                send(1 - side, ACK)
                at += round_trip / 2
        for side, flags in ((0, FIN | ACK), (1, FIN | ACK), (0, ACK)):
            send(side, flags)
            at += round_trip / 2

    def save(self, path: str | Path) -> None:
        self.frames.sort(key=lambda frame: frame[0])
        out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
        for at, frame in self.frames:
            ns = round(at * 1e9)
            out += [struct.pack("<4I", EPOCH + ns // 10**9, ns % 10**9, len(frame), len(frame)), frame]
        Path(path).write_bytes(b"".join(out))


def pseudo(src: str, dst: str, proto: int, payload: bytes) -> bytes:
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">BBH", 0, proto, len(payload))


def udp(src: str, sport: int, dst: str, dport: int, data: bytes) -> bytes:
    datagram = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    check = checksum(pseudo(src, dst, UDP, datagram) + datagram)
    return datagram[:6] + struct.pack(">H", check) + datagram[8:]


def dns(ident: int, name: str, answers: int = 0) -> bytes:
    """A question for the addresses of a name, or an answer of so many."""
    flags = 0x8180 if answers else 0x0100
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack(">6H", ident, flags, 1, answers, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)
    for n in range(answers):
        message += struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + bytes([203, 0, 113, 10 + n % 200])
    return message


def make() -> Capture:
    """The ten seconds."""
    c = Capture()
    pods = (DNS, WEB, API, SHOP, BATCH, CACHE)
    for n, pod in enumerate(pods):
        c.arp(0.01 * n, 1, pod, GATEWAY)
    c.arp(0.1, 1, WEB, API)
    c.arp(0.1002, 2, API, WEB)

    # names: pods ask the DNS pod, which asks a resolver on the internet
    names = ("pay", "maps", "pay", "registry", "time", "mail", "news", "registry")
    for n, (pod, name) in enumerate(
        zip((WEB, API, SHOP, BATCH, CACHE, SHOP, WEB, BATCH), names, strict=True)
    ):
        at = 0.2 + 1.1 * n
        c.ask(at, pod, DNS, 33000 + n, 0.024, f"{name}.example.com")
        c.ask(at + 0.001, DNS, RESOLVER, 41000 + n, 0.02, f"{name}.example.com")

    # the internet: two pods come from one port to one server, so the node has to give one of them another
    c.connect(0.5, WEB, 40000, SERVER, 443, 0.03, [(500, 12000), (300, 4000)])
    c.connect(0.505, SHOP, 40000, SERVER, 443, 0.03, [(450, 9000)])
    c.connect(2.0, BATCH, 45210, REGISTRY, 443, 0.045, [(700, 40000)])
    for n in range(4):
        c.connect(3.0 + 0.8 * n, API, 50100 + n, SERVER, 443, 0.03, [(350, 1800)])

    # within the cluster, and a host of the VNet
    c.connect(0.8, WEB, 36000, API, 8080, 0.0004, [(600, 3000), (620, 2500), (580, 2800)])
    c.connect(1.2, SHOP, 36100, CACHE, 6379, 0.0003, [(60, 120)] * 5)
    c.connect(1.5, API, 52000, FAR_DATABASE, 5432, 0.001, [(200, 900), (250, 1500)])
    c.connect(4.0, FAR_CLIENT, 47000, WEB, 80, 0.001, [(300, 5000)])
    c.connect(4.5, BATCH, 38000, VNET_HOST, 1433, 0.002, [(400, 1200)])

    # pings: of the gateway, a neighbour, the internet
    for n in range(3):
        c.echo(5.0 + n, BATCH, GATEWAY, 8, 77, n)
        for peer, trip in ((CACHE, 0.0002), (SERVER, 0.03)):
            c.echo(5.1 + n, BATCH, peer, 8, 78, n)
            c.echo(5.1 + n + trip, peer, BATCH, 0, 78, n)

    # a traceroute: the first hop is the node, the second a router, which quotes what it could not pass on
    c.udp(7.0, SHOP, 44444, SERVER, 33434, bytes(24), ttl=1)
    probe = c.udp(7.1, SHOP, 44445, SERVER, 33435, bytes(24), ttl=2)
    c.icmp(7.12, ROUTER, SHOP, struct.pack(">BBHI", 11, 0, 0, 0) + probe)

    # a large answer comes in two fragments
    c.udp(7.5, DNS, 42000, RESOLVER, 53, dns(99, "all.example.com"))
    answer = udp(RESOLVER, 53, DNS, 42000, dns(99, "all.example.com", 110))
    c.ip(7.52, RESOLVER, DNS, UDP, answer[:1480], ident=4711, fragment=0x2000)
    c.ip(7.5201, RESOLVER, DNS, UDP, answer[1480:], ident=4711, fragment=185)

    # what goes wrong: a reset of no connection, a broken header, a pod that does not exist
    c.tcp(8.0, SERVER, 443, WEB, 40077, RST, 1)
    broken = bytearray(mac(SERVER) + mac(API) + b"\x08\x00" + c.udp(8.1, API, 1, SERVER, 9, b"x"))
    broken[24] ^= 0xFF
    c.add(8.2, bytes(broken))
    c.tcp(8.3, FAR_CLIENT, 47001, "10.244.1.99", 80, SYN, 7)

    # to all: multicast DNS, an IPv6 neighbour solicitation
    query = udp(CACHE, 5353, "224.0.0.251", 5353, dns(0, "printer.local"))
    c.ip(8.5, CACHE, "224.0.0.251", UDP, query, ttl=255)
    at, frame = c.frames.pop()
    c.add(at, b"\x01\x00\x5e\x00\x00\xfb" + frame[6:])
    source, group = (
        bytes.fromhex(a) for a in ("fe80" + "0" * 20 + "00f40107", "ff02" + "0" * 18 + "01ff040107")
    )
    solicit = (
        bytes([135, 0, 0, 0, 0, 0, 0, 0])
        + bytes.fromhex("fe80" + "0" * 20 + "ff040107")
        + b"\1\1"
        + mac(CACHE)
    )
    check = checksum(source + group + struct.pack(">II", len(solicit), 58) + solicit)
    solicit = solicit[:2] + struct.pack(">H", check) + solicit[4:]
    head = struct.pack(">IHBB", 6 << 28, len(solicit), 58, 255) + source + group
    c.add(8.6, bytes.fromhex("3333ff040107") + mac(CACHE) + b"\x86\xdd" + head + solicit)
    return c


if __name__ == "__main__":
    make().save(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("sample.pcap"))
