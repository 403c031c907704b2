"""Answers to IPv6 frames, errors about them, and how a frame is spoilt."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from frames import ACK, ICMP6, TCP, UDP, discovery, eth6, ipv6, tcp, udp

if TYPE_CHECKING:
    from kernel.histories import Error, Reply

FULL = 1514  # bytes that a link takes
ERRORS = {0: (1, 0), 1: (1, 1), 3: (1, 4), 4: (2, 0), 13: (1, 3)}  # what stands for an unreachable's codes


def spoilt6(frame: bytes, how: int) -> bytes:
    made = bytearray(frame)
    if how == 1:
        made[-1] ^= 0x55
    elif how == 2:  # the payload length
        made[19] ^= 1
    elif how == 3:
        return frame[: max(14, len(frame) * 2 // 3)]
    elif how == 4:
        return (frame + b"trailer")[: max(len(frame), FULL)]
    elif how == 5 and frame[20] == UDP:
        made[60:62] = b"\0\0"
    elif how == 6:
        made[14] = 0x4F
    return bytes(made)


def transport(frame: bytes) -> tuple[int, int] | None:
    """(protocol, offset) behind the extension headers of an IPv6 frame; None for a later fragment."""
    kind, at = frame[20], 54
    while kind in (0, 43, 60, 44) and len(frame) > at + 8:
        if kind == 44 and int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF8:
            return None
        kind, at = frame[at], at + (8 if kind == 44 else (frame[at + 1] + 1) * 8)
    return kind, at


def fragment_header(frame: bytes) -> int | None:
    """Where an IPv6 frame's fragment header is, behind what options there are; None: it has none."""
    kind, at = frame[20], 54
    while kind in (0, 43, 60) and len(frame) > at + 8:
        kind, at = frame[at], at + (frame[at + 1] + 1) * 8
    return at if kind == 44 and len(frame) >= at + 8 else None


def answer6(frame: bytes, step: Reply) -> bytes | None:
    found = transport(frame)
    if found is None:
        return None
    proto, at = found
    src, dst = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[38:54]))
    body = frame[at : 54 + int.from_bytes(frame[18:20], "big")]
    if len(body) < 8 or dst.startswith("ff"):
        return None
    first, second = struct.unpack_from("!HH", body)
    if proto == TCP and len(body) >= 20:
        seq, ack = struct.unpack_from("!II", body, 4)
        data = len(body) - (body[12] >> 4) * 4 + (body[13] & 1) + (body[13] >> 1 & 1)
        l4 = tcp(second, first, step.flags, ack or 5000, (seq + data) & 0xFFFFFFFF if step.flags & ACK else 0)
    elif proto == UDP:
        l4 = udp(second, first, b"answer")
    elif proto == ICMP6 and body[0] == 128:
        l4 = b"\x81" + body[1:]
    elif proto == ICMP6 and body[0] == 135:  # who asks is answered
        target = str(IPv6Address(body[8:24]))
        l4 = discovery(136, 0x60000000, target, "02:00:00:00:88:88")
        return eth6(frame[6:12].hex(":"), "02:00:00:00:88:88", ipv6(target, src, ICMP6, l4, hops=255))
    elif proto in (47, 50, 132, 253):
        l4 = struct.pack("!HHI", second, first, 0) + body[8:]
    else:
        return None
    return spoilt6(eth6(frame[6:12].hex(":"), frame[:6].hex(":"), ipv6(dst, src, proto, l4)), step.spoil)


def error_about6(frame: bytes, step: Error) -> bytes | None:
    src, dst = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[38:54]))
    quote = frame[14 : 54 + step.quoted]
    kind, code = step.kind
    kind, code = (
        ERRORS.get(code, (1, 0))
        if kind == 3
        else (3, code)
        if kind == 11
        else (4, code)
        if kind == 12
        else (137, 0)
    )
    rest = struct.pack("!I", step.mtu) if kind == 2 else bytes(4)
    l4 = struct.pack("!BBH", kind, code, 0) + rest + quote
    speaker = "2001:db8::1" if step.by_router or dst.startswith("ff") else dst
    return eth6(frame[6:12].hex(":"), frame[:6].hex(":"), ipv6(speaker, src, ICMP6, l4))
