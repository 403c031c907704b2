"""Other link layers become Ethernet."""

from __future__ import annotations

import io
import struct
from ipaddress import IPv6Address

import frames
import numpy as np
import pytest
from captures import IPV4, IPV6, RAW, SLL, SLL2, Record, Section, pcap

import kubenet_fastpath as kf
from kubenet_fastpath.linktype import NAMES, READABLE, to_ethernet

HERE, THERE = "02:00:00:00:00:01", "02:00:00:00:00:02"
SENDER = bytes.fromhex("0a580af40102")


def l3(dst: str) -> bytes:
    return frames.ipv4("10.244.1.2", dst, frames.UDP, frames.udp(1, 2))


def l3_v6(dst: str) -> bytes:
    return b"\x60\0\0\0\0\0\x3b\x40" + bytes(16) + IPv6Address(dst).packed


def ethernet(link_type: int, packet: bytes, cut: int = 0) -> kf.PacketBatch:
    return kf.read_pcap(io.BytesIO(pcap([Record(packet, 9, cut)], link_type=link_type)))


@pytest.mark.parametrize(
    ("dst", "mac"),
    [
        ("10.244.1.3", THERE),
        ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ("10.244.1.255", THERE),
        ("224.0.0.251", "01:00:5e:00:00:fb"),
        ("239.255.129.1", "01:00:5e:7f:81:01"),
        ("240.0.0.1", THERE),
        ("fd00::1", THERE),
        ("ff02::1:ff00:1234", "33:33:ff:00:12:34"),
    ],
)
def test_raw(dst: str, mac: str) -> None:
    packet, kind, other, own = (
        (l3_v6(dst), 0x86DD, IPV4, IPV6) if ":" in dst else (l3(dst), 0x0800, IPV6, IPV4)
    )
    for link_type in (RAW, 12, 14, own):
        batch = ethernet(link_type, packet, cut=3)
        assert batch.frames() == [frames.eth(mac, HERE, packet, kind)]
        assert batch.wire_length.tolist() == [14 + len(packet) + 3]
        assert batch.time.tolist() == [0]  # microseconds
    assert ethernet(other, packet).headers()["eth_type"] == [0x0800 if other == IPV4 else 0x86DD]


def cooked(link_type: int, kind: int, protocol: int, address: bytes, payload: bytes) -> bytes:
    padded, size = address[:8].ljust(8, b"\0"), len(address)
    if link_type == SLL:
        return struct.pack("!HHH8sH", kind, 1, size, padded, protocol) + payload
    return struct.pack("!HHIHBB8s", protocol, 0, 3, 1, kind, size, padded) + payload


@pytest.mark.parametrize("link_type", [SLL, SLL2])
@pytest.mark.parametrize(
    ("kind", "address", "dst", "macs"),
    [
        (0, SENDER, "10.244.1.3", (THERE, "0a:58:0a:f4:01:02")),
        (4, SENDER, "10.244.1.3", (THERE, "0a:58:0a:f4:01:02")),
        (0, b"", "10.244.1.3", (THERE, HERE)),
        (0, bytes(8), "10.244.1.3", (THERE, HERE)),
        (1, SENDER, "10.244.1.255", ("ff:ff:ff:ff:ff:ff", "0a:58:0a:f4:01:02")),
        (2, SENDER, "224.0.0.9", ("01:00:5e:00:00:09", "0a:58:0a:f4:01:02")),
        (2, SENDER, "10.244.1.3", ("01:00:5e:00:00:01", "0a:58:0a:f4:01:02")),
    ],
)
def test_cooked(link_type: int, kind: int, address: bytes, dst: str, macs: tuple[str, str]) -> None:
    batch = ethernet(link_type, cooked(link_type, kind, 0x0800, address, l3(dst)), cut=5)
    assert batch.frames() == [frames.eth(*macs, l3(dst))]
    assert batch.wire_length.tolist() == [14 + len(l3(dst)) + 5]


@pytest.mark.parametrize("link_type", [SLL, SLL2])
def test_cooked_protocols(link_type: int) -> None:
    arp = frames.arp(1, "0a:58:0a:f4:01:02", "10.244.1.2", "00:00:00:00:00:00", "10.244.1.3")
    batch = ethernet(link_type, cooked(link_type, 1, 0x0806, SENDER, arp[14:]))
    assert batch.frames() == [arp]
    for protocol in (1, 4):  # no EtherTypes: 802.3 and 802.2, which have a length there
        assert ethernet(link_type, cooked(link_type, 0, protocol, SENDER, bytes(38)), cut=2).frames() == [
            frames.eth(THERE, "0a:58:0a:f4:01:02", bytes(38), 40)
        ]


@pytest.mark.parametrize("link_type", [SLL, SLL2])
def test_a_packet_that_ends_in_its_link_header(link_type: int) -> None:
    head = cooked(link_type, 0, 0x0800, SENDER, b"")
    for length in range(len(head)):
        batch = ethernet(link_type, head[:length], cut=100)
        assert (batch.frames(), batch.wire_length.tolist()) == ([b""], [100])
    assert ethernet(link_type, head).frames() == [frames.eth(THERE, "0a:58:0a:f4:01:02", b"")]


def test_raw_packets_of_few_bytes() -> None:
    for length in range(20):
        (frame,) = ethernet(RAW, l3("224.0.0.1")[:length]).frames()
        assert frame == frames.eth(THERE, HERE, l3("224.0.0.1")[:length])
    assert ethernet(RAW, b"\x60").headers()["eth_type"].tolist() == [0x86DD]


def test_wire_lengths_do_not_overflow() -> None:
    assert ethernet(RAW, b"\x45", cut=2**32 - 2).wire_length.tolist() == [2**32 - 1]


def test_link_types_may_be_mixed() -> None:
    section = Section()
    frame = frames.eth(HERE, THERE, l3("10.0.0.1"))
    content = section.header() + section.interface() + section.interface(RAW)
    content += (
        section.enhanced(frame, cut=4) + section.enhanced(l3("10.0.0.1"), interface=1) + section.enhanced(b"")
    )
    batch = kf.read_pcap(io.BytesIO(content))
    assert batch.frames() == [frame, frames.eth(THERE, HERE, l3("10.0.0.1")), b""]
    assert batch.truncated.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (0, [-1], "packet 0 is outside"),
        (1, [11], "packet 0 is outside"),
        (2, [4], "packet 0 is longer than on the wire"),
        (3, [0], "packet 0 has link type 0"),
        (3, [1, 1], "different lengths"),
    ],
)
def test_wrong_columns_are_refused(column: int, value: list[int], words: str) -> None:
    columns = [
        np.array([0], np.int64), np.array([5], np.uint32), np.array([9], np.uint32), np.array([101], np.uint16)
    ]  # fmt: skip
    columns[column] = np.array(value, columns[column].dtype)
    with pytest.raises(ValueError, match=words):
        to_ethernet(np.zeros(10, np.uint8), *columns)


def test_readable_link_types_have_names() -> None:
    assert set(READABLE) == {1, 12, 14, 101, 113, 228, 229, 276}
    assert set(NAMES) > READABLE
