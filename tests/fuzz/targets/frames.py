"""Headers of arbitrary bytes: frames that overlap, are cut off, or end where their memory does."""

from __future__ import annotations

import numpy as np
from frames import ACK, ICMP, SYN, TCP, UDP, arp, eth, icmp, ipv4, packet, tcp, udp
from models.headers import headers as model

import kubenet_fastpath as kf
from kubenet_fastpath.parse import HEADER, Status

from ..choices import Choices

LONGEST = 2048
LINES = False
_A, _B = "0a:58:0a:f4:01:02", "0a:58:0a:f4:01:03"
_IPS = "10.244.1.2", "10.244.1.3"
_V6 = bytes.fromhex("6000000000101140") + bytes(15) + b"\1" + bytes(15) + b"\2"
EXAMPLES = [
    b"\1" + bytes([len(frame) & 255, len(frame) >> 8, 0]) + frame
    for frame in (
        packet(_B, _A, ipv4(*_IPS, UDP, udp(1000, 53))),
        packet(
            _B, _A, ipv4(*_IPS, TCP, tcp(1000, 80, SYN | ACK, data=b"abc"), options=bytes(4)), tags=(5, 7)
        ),
        packet(_B, _A, ipv4(*_IPS, ICMP, icmp(8))),
        packet(_B, _A, ipv4(*_IPS, 132, bytes(12), flags=0x2001)),
        arp(1, _A, _IPS[0], _B, _IPS[1]),
        eth(_B, _A, _V6 + udp(1, 2, b"payload!"), 0x86DD),
        eth(_B, _A, _V6[:6] + b"\0\x40" + _V6[8:] + b"\x3a\0\0\0\0\0\0\0" + icmp(128), 0x86DD),
    )
]


def run(data: bytes) -> None:
    choices = Choices(data)
    shape = [(choices.number(2), choices.number()) for _ in range(choices.number() % 8)]
    memory = np.frombuffer(bytearray(choices.rest()), np.uint8)  # no byte more: what reads past it is seen
    offset, length, wire, at = [], [], [], 0
    for size, lost in shape:
        size = min(size, len(memory) - at)
        offset.append(at)
        length.append(size)
        wire.append(size + (lost & 0x3F) * ((lost & 0x40 and 1000) or 1))
        if not lost & 0x80:  # else the next frame begins where this one does
            at += size
    batch = kf.PacketBatch(memory, np.array(offset, np.int64), np.array(length, np.int64), wire)
    names = HEADER.names or ()
    for frame, on_wire, row in zip(batch.frames(), wire, batch.headers(), strict=True):
        found = {name: row[name].item() for name in names}
        found["status"] = Status(found["status"]).name
        assert {n: v for n, v in found.items() if v} == {n: v for n, v in model(frame, on_wire).items() if v}
