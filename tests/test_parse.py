"""`PacketBatch.headers` against a parser of its own, on frames that are right, damaged, and no frames at all."""

from __future__ import annotations

import frames
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.parse import parse
from strategies import damaged, ip_frames

from kubenet_fastpath import PacketBatch
from kubenet_fastpath.parse import Status

A, B = "0a:58:0a:f4:01:01", "0a:58:0a:f4:01:02"


@given(st.data())
def test_fields_are_those_of_the_model(data: st.DataObject) -> None:
    made = [data.draw(damaged(f)) for f in data.draw(ip_frames())] + [data.draw(st.binary(max_size=70))]
    rows = PacketBatch.from_frames(made).headers()
    for frame, row in zip(made, rows, strict=True):
        for name, value in parse(frame).items():
            assert int(row[name]) == value, (name, frame.hex())


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"", Status.SHORT_ETHERNET),
        (bytes(13), Status.SHORT_ETHERNET),
        (bytes(12) + b"\x81\x00\x00", Status.SHORT_VLAN),
        (bytes(12) + b"\x88\xb5" + bytes(9), Status.OTHER),
        (bytes(12) + b"\x08\x06" + bytes(27), Status.SHORT_ARP),
        (bytes(12) + b"\x08\x00" + bytes(19), Status.SHORT_IP),
        (bytes(12) + b"\x08\x00" + bytes(20), Status.BAD_IP),
        (frames.eth(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 6, bytes(19))), Status.SHORT_L4),
        (frames.eth(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 6, bytes(20))), Status.BAD_L4),
        (frames.eth(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 17, bytes(8))), Status.BAD_L4),
        (frames.eth(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 253, bytes(8))), Status.OTHER),
        (frames.packet(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 17, frames.udp(1, 2))), Status.OK),
        (frames.arp(1, A, "1.2.3.4", B, "1.2.3.5"), Status.OK),
    ],
)
def test_status(frame: bytes, status: Status) -> None:
    assert Status(PacketBatch.from_frames([frame]).headers()[0]["status"]) is status


def test_arp_and_ipv6_fields() -> None:
    six = bytes.fromhex("6000000000083a40") + bytes(15) + b"\1" + bytes(15) + b"\2" + frames.icmp(128)[:8]
    rows = PacketBatch.from_frames(
        [frames.arp(2, A, "1.2.3.4", B, "1.2.3.5"), frames.eth(A, B, six, 0x86DD)]
    ).headers()
    assert (rows[0]["arp_op"], rows[0]["src"], int(rows[0]["arp_sha"])) == (2, 0x01020304, 0x0A580AF40101)
    assert (rows[1]["ip_version"], rows[1]["src6_low"], rows[1]["dst6_low"], rows[1]["icmp_type"]) == (
        6,
        1,
        2,
        128,
    )


def test_a_checksum_that_cannot_be_judged_is_not() -> None:
    frame = frames.packet(A, B, frames.ipv4("1.2.3.4", "1.2.3.5", 17, frames.udp(1, 2, bytes(40))))
    cut = PacketBatch.from_frames([frame[:50]], wire_length=[len(frame)]).headers()[0]
    assert (cut["ip_checksum_ok"], cut["l4_checksum_ok"], cut["sport"]) == (1, -1, 1)


def test_the_array_is_flat_for_data_frames() -> None:
    rows = PacketBatch.from_frames([bytes(60)]).headers()
    assert all(rows.dtype[name].shape == () and rows.dtype[name].kind in "iu" for name in rows.dtype.names)
    assert isinstance(rows, np.ndarray)
