"""Headers of frames as columns."""

from __future__ import annotations

import warnings

import frames
import numpy as np
import pytest
from captures import REAL
from hypothesis import given
from hypothesis import strategies as st
from models.headers import headers as model
from strategies import damaged, ip_frames

import kubenet_fastpath as kf
from kubenet_fastpath.parse import HEADER, Status, parse_headers

A, B = "0a:58:0a:f4:01:02", "0a:58:0a:f4:01:03"
IPS = "10.244.1.2", "10.244.1.3"
MAC_A, MAC_B = 0x0A580AF40102, 0x0A580AF40103


def row(frame: bytes, cut: int = 0, behind: bytes = b"") -> dict[str, int | str]:
    """The fields of a frame that are not 0; `behind` is what lies in memory next to it."""
    data = np.frombuffer(bytearray(b"\xff" * 3 + frame + behind), np.uint8)
    (fields,) = kf.PacketBatch(data, [3], [len(frame)], [len(frame) + cut]).headers()
    found = {name: fields[name].item() for name in HEADER.names or ()}
    found["status"] = Status(found["status"]).name
    return {name: value for name, value in found.items() if value != 0}


def udp_frame(data: bytes = b"data", **changes: object) -> bytes:
    return frames.packet(B, A, frames.ipv4(*IPS, frames.UDP, frames.udp(1000, 53, data), **changes))


def test_checksums_of_every_length() -> None:
    """Sums go by lanes of words from some length on: right ones are seen to be right, and each broken bit is seen."""
    random = np.random.default_rng(3)
    sizes = [*range(300), 1471, 1472, 8971, 8972]
    right = [udp_frame(random.integers(200, 256, n, dtype=np.uint8).tobytes()) for n in sizes]
    wrong = [bytearray(frame) for frame in right]
    for frame in wrong:
        frame[random.integers(42, len(frame)) if len(frame) > 42 else 41] ^= 1 << random.integers(8)
    assert (kf.PacketBatch.from_frames(right).headers()["l4_checksum_ok"] == 1).all()
    assert (kf.PacketBatch.from_frames(wrong).headers()["l4_checksum_ok"] == 0).all()


def test_udp() -> None:
    assert row(udp_frame()) == {
        "eth_dst": MAC_B,
        "eth_src": MAC_A,
        "eth_type": 0x0800,
        "status": "OK",
        "l3_offset": 14,
        "l4_offset": 34,
        "ip_version": 4,
        "ip_header_len": 20,
        "ip_len": 32,
        "ip_id": 7,
        "df": 1,
        "ttl": 64,
        "proto": 17,
        "ip_checksum_ok": 1,
        "src": 0x0AF40102,
        "dst": 0x0AF40103,
        "sport": 1000,
        "dport": 53,
        "udp_len": 12,
        "payload_len": 4,
        "l4_checksum_ok": 1,
    }


def test_tcp() -> None:
    segment = frames.tcp(40000, 80, frames.SYN, seq=2**32 - 1, ack=5, data=b"hello")
    found = row(frames.packet(B, A, frames.ipv4(*IPS, frames.TCP, segment, options=bytes(4))))
    assert found.items() >= {"sport": 40000, "dport": 80, "tcp_seq": 2**32 - 1, "tcp_ack": 5}.items()
    assert found.items() >= {"tcp_flags": 2, "tcp_window": 64240, "tcp_header_len": 20}.items()
    assert found.items() >= {"ip_header_len": 24, "l4_offset": 38, "payload_len": 5}.items()
    assert (found["ip_checksum_ok"], found["l4_checksum_ok"]) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "query"), [(8, True), (0, True), (13, True), (18, True), (3, False), (11, False)]
)
def test_icmp(kind: int, query: bool) -> None:
    found = row(frames.packet(B, A, frames.ipv4(*IPS, frames.ICMP, frames.icmp(kind, 1, 77, 3))))
    assert found.get("icmp_type", 0) == kind
    assert (found["icmp_code"], found["payload_len"], found["l4_checksum_ok"]) == (1, 4, 1)
    assert (found.get("icmp_id"), found.get("icmp_seq")) == ((77, 3) if query else (None, None))


def test_arp() -> None:
    frame = frames.arp(1, A, IPS[0], "00:00:00:00:00:00", IPS[1])
    found = row(frame)
    assert (
        found.items()
        >= {"status": "OK", "arp_op": 1, "arp_sha": MAC_A, "src": 0x0AF40102, "dst": 0x0AF40103}.items()
    )
    assert row(frame[:41])["status"] == row(frame[:20])["status"] == "SHORT_ARP"
    assert row(frame[:14] + b"\0\6" + frame[16:])["status"] == "OTHER"


def test_vlan_tags() -> None:
    frame = udp_frame()
    one = frame[:12] + b"\x81\x00\xe0\x05" + frame[12:]
    two = one[:12] + b"\x88\xa8\x0f\xff" + one[12:]
    three = two[:12] + b"\x81\x00\x00\x07" + two[12:]
    assert row(one).items() >= {"vlan_tags": 1, "vlan_id": 5, "eth_type": 0x0800, "l3_offset": 18}.items()
    assert row(two).items() >= {"vlan_tags": 2, "vlan_id": 0xFFF, "inner_vlan_id": 5, "dport": 53}.items()
    assert row(three).items() >= {"vlan_tags": 2, "eth_type": 0x8100, "status": "OTHER"}.items()


def test_wrong_checksums() -> None:
    frame = bytearray(udp_frame())
    frame[-1] ^= 1
    assert "l4_checksum_ok" not in row(frame)
    frame[22] ^= 1  # TTL
    assert "ip_checksum_ok" not in row(frame)
    frame[40:42] = bytes(2)
    assert row(frame)["l4_checksum_ok"] == -1  # none was sent


def test_fragments() -> None:
    whole = frames.ipv4(*IPS, frames.UDP, frames.udp(1, 2, bytes(40)), flags=0)
    first, later = (frames.packet(B, A, part) for part in frames.fragments(whole, 24))
    assert (
        row(first).items()
        >= {"mf": 1, "sport": 1, "udp_len": 48, "payload_len": 16, "l4_checksum_ok": -1}.items()
    )
    assert row(later).items() >= {"frag_offset": 24, "payload_len": 24, "status": "OK"}.items()
    assert not {"sport", "l4_offset", "mf"} & row(later).keys()


def test_padding_is_no_payload() -> None:
    assert row(udp_frame(b"") + bytes(18)).get("payload_len", 0) == 0
    assert row(udp_frame(b"abc") + bytes(15))["l4_checksum_ok"] == 1


def test_protocols_in_the_wrong_family() -> None:
    assert row(frames.packet(B, A, frames.ipv4(*IPS, 58, bytes(8))))["status"] == "OTHER"


def test_a_table_for_data_frames() -> None:
    assert all(kind.subdtype is None for kind, *_ in (HEADER.fields or {}).values())
    batch = kf.PacketBatch.from_frames([udp_frame(), b"", bytes(60)])
    found = batch.headers()
    assert found["dport"].tolist() == [53, 0, 0]
    assert found["status"].tolist() == [Status.OK, Status.SHORT_ETHERNET, Status.OTHER]
    assert batch[1:2].copy().headers()["status"].tolist() == [Status.SHORT_ETHERNET]
    assert batch[:0].headers().shape == (0,)


@pytest.mark.parametrize(
    ("offset", "length", "wire"), [([2], [99], [99]), ([-1], [1], [1]), ([0], [5], [4]), ([0, 1], [1], [1])]
)
def test_frames_outside_the_data_are_refused(offset: list[int], length: list[int], wire: list[int]) -> None:
    columns = np.array(offset, np.int64), np.array(length, np.uint32), np.array(wire, np.uint32)
    with pytest.raises(ValueError, match=r"outside|longer|columns"):
        parse_headers(np.zeros(100, np.uint8), *columns)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Frames that almost make sense."""
    proto = draw(st.sampled_from([1, 6, 17, 58, 132, 136, 47]))
    payload = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        options = bytes(4 * draw(st.integers(0, 10)))
        flags = draw(st.sampled_from([0, 0x4000, 0x2000, 0x2001, 5]))
        l3 = frames.ipv4(*IPS, proto, payload, flags=flags, options=options)
        frame = bytearray(frames.packet(B, A, l3) if draw(st.booleans()) else frames.eth(B, A, l3))
    else:
        head = b"\x61\x23\x45\x67" + len(payload).to_bytes(2, "big") + bytes([proto, 64])
        frame = bytearray(frames.eth(B, A, head + bytes(range(32)) + payload, 0x86DD))
    for _ in range(draw(st.integers(0, 2))):
        frame[draw(st.integers(12, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)) | st.just(len(frame)))])


@given(mutants() | st.binary(max_size=80), st.integers(0, 40), st.binary(max_size=80))
def test_fields_are_those_of_the_model(frame: bytes, cut: int, behind: bytes) -> None:
    expected = model(frame, len(frame) + cut)
    assert row(frame, cut) == expected
    assert row(frame, cut, behind) == expected  # what is not captured is not read


@given(ip_frames().flatmap(lambda made: st.tuples(*map(damaged, made))))
def test_fields_of_frames_that_know_the_node(made: tuple[bytes, ...]) -> None:
    assert [row(frame) for frame in made] == [model(frame, len(frame)) for frame in made]


def test_no_byte_more_than_captured() -> None:
    segment = frames.tcp(1, 2, frames.ACK, data=b"x" * 9)
    frame = frames.packet(B, A, frames.ipv4(*IPS, frames.TCP, segment, options=bytes(8)), tags=(5,))
    for length in range(len(frame) + 1):
        assert row(frame[:length], len(frame) - length, frame[length:]) == model(frame[:length], len(frame))


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.file)
def test_real_frames(real: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kf.CaptureWarning)
        try:
            batch = kf.read_pcap(real.path)
        except kf.CaptureError:
            pytest.skip("no frames")
    for frame, wire_length in zip(batch.frames(), batch.wire_length.tolist(), strict=True):
        assert row(frame, wire_length - len(frame)) == model(frame, wire_length)
