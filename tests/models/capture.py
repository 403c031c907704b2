"""What is in a capture file, in plain Python: the packets, and the byte at which the file breaks."""

from __future__ import annotations

import struct
from typing import NamedTuple

MOST = 16 << 20
ORDERS = {b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">", b"\xa1\xb2\xcd\x34": ">"}


class Packet(NamedTuple):
    time: int
    wire_length: int
    link_type: int
    data: bytes


def read(content: bytes) -> tuple[list[Packet], int | None]:
    """Packets of a pcap or pcapng file, and where it breaks; None if it does not. ValueError: it is neither."""
    return pcapng(content) if content[:4] == b"\n\r\r\n" else pcap(content)


def pcap(content: bytes) -> tuple[list[Packet], int | None]:
    magic = content[:4]
    order = ORDERS.get(magic) or ("<" if magic[::-1] in ORDERS else None)
    if order is None or len(content) < 24:
        raise ValueError("no pcap file")
    number, major, minor, _, _, snaplen, link_type = struct.unpack_from(order + "IHHiIII", content)
    if major != 2:
        raise ValueError("version")
    header = 24 if number == 0xA1B2CD34 else 16
    most, at, packets = min(max(snaplen, 262144), MOST), 24, []
    while at + header <= len(content):
        seconds, fraction, length, wire = struct.unpack_from(order + "IIII", content, at)
        if minor < 3 or (minor == 3 and length > wire):
            length, wire = wire, length
        if length > most or at + header + length > len(content):
            break
        time = seconds * 10**9 + fraction * (1 if number == 0xA1B23C4D else 1000)
        data = content[at + header : at + header + length]
        packets.append(Packet(time, max(wire, length), link_type % 65536, data))
        at += header + length
    return packets, at if at < len(content) else None


def pcapng(content: bytes) -> tuple[list[Packet], int | None]:
    packets: list[Packet] = []
    interfaces: list[tuple[int, int, int, int, int]] | None = None
    order, at = "<", 0
    while at + 12 <= len(content):
        if content[at : at + 4] == b"\n\r\r\n":
            order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(content[at + 8 : at + 12], "")
            if not order:
                return packets, at
        elif interfaces is None:
            return packets, at
        kind, size = struct.unpack_from(order + "II", content, at)
        if size < 12 or size % 4 or (size > MOST and kind in (1, 2, 3, 6)) or at + size > len(content):
            return packets, at
        if struct.unpack_from(order + "I", content, at + size - 4) != (size,):
            return packets, at
        body = content[at + 8 : at + size - 4]
        if kind == 0x0A0D0D0A:
            if size < 28 or struct.unpack_from(order + "H", body, 4) != (1,):
                return packets, at
            interfaces = []
        elif kind == 1:
            if len(body) < 8:
                return packets, at
            interfaces.append(interface(body, order))
        elif kind in (2, 3, 6):
            packet = packet_block(kind, body, order, interfaces)
            if packet is None:
                return packets, at
            packets.append(packet)
        at += size
    return packets, at if at < len(content) else None


def interface(body: bytes, order: str) -> tuple[int, int, int, int, int]:
    """Link type, snap length, and the time of n ticks: n * numerator // denominator ns + offset s."""
    link_type, _, snaplen = struct.unpack_from(order + "HHI", body)
    numerator, denominator, offset, at = 1000, 1, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if code == 0 or len(value) < size:
            break
        if code == 9 and size:
            power = value[0] & 127
            numerator, denominator = 10**9, (2**power if value[0] & 128 else 10**power)
        elif code == 14 and size >= 8:
            (offset,) = struct.unpack_from(order + "q", value)
        at += 4 + (size + 3) // 4 * 4
    return link_type, snaplen, numerator, denominator, offset


def packet_block(
    kind: int, body: bytes, order: str, interfaces: list[tuple[int, int, int, int, int]]
) -> Packet | None:
    """The packet of a block, or None if the block is not sound."""
    if len(body) < (4 if kind == 3 else 20):
        return None
    number = 0 if kind == 3 else struct.unpack_from(order + ("I" if kind == 6 else "H"), body)[0]
    if number >= len(interfaces):
        return None
    link_type, snaplen, numerator, denominator, offset = interfaces[number]
    if kind == 3:
        (wire,) = struct.unpack_from(order + "I", body)
        return Packet(0, wire, link_type, body[4 : 4 + min(wire, snaplen or wire)])
    high, low, length, wire = struct.unpack_from(order + "IIII", body, 4)
    if 20 + length > len(body):
        return None
    time = (high << 32 | low) * numerator // denominator + offset * 10**9
    time = (time + 2**63) % 2**64 - 2**63
    return Packet(time, max(wire, length), link_type, body[20 : 20 + length])
