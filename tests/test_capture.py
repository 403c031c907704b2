"""Capture files: real ones of every kind, made ones, broken ones."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf

DATA = Path(__file__).parent / "data"
COUNTS = {
    "ethernet.pcap": 10,
    "raw.pcap": 1,
    "ipv6.pcap": 2,
    "sll.pcap": 1,
    "sll.pcapng": 1,
    "big_endian.pcapng": 4,
    "several_interfaces.pcapng": 4,
    "resolutions.pcapng": 4,
    "unknown_blocks.pcapng": 4,
    "snapcut.pcap": 1,
}
batches = st.lists(
    st.tuples(st.binary(max_size=50), st.integers(0, 9), st.integers(0, (1 << 32) * 10**9 - 1)), max_size=9
)


def made(rows: list[tuple[bytes, int, int]]) -> kf.PacketBatch:
    """A batch of (captured bytes, bytes cut off, time)."""
    lengths = [len(frame) + cut for frame, cut, _ in rows]
    return kf.PacketBatch.from_frames([f for f, _, _ in rows], 0, [t for *_, t in rows], lengths)


def read(content: bytes) -> kf.PacketBatch:
    return kf.read_pcap(io.BytesIO(content))


def written(batch: kf.PacketBatch, **how: bool) -> bytes:
    file = io.BytesIO()
    kf.write_pcap(file, batch, **how)
    return file.getvalue()


@pytest.mark.parametrize("name", COUNTS)
def test_real_captures(name: str) -> None:
    batch = kf.read_pcap(DATA / name, port=5)
    assert len(batch) == COUNTS[name]
    assert batch.port.tolist() == [5] * len(batch)
    assert kf.PacketBatch.concatenate(list(kf.iter_pcap(DATA / name, port=5, batch_packets=3))) == batch
    zipped = gzip.compress((DATA / name).read_bytes())
    assert kf.read_pcap(io.BytesIO(zipped), port=5) == batch


def test_other_links_become_ethernet() -> None:
    assert kf.read_pcap(DATA / "raw.pcap").headers()[0]["ip_version"] == 4
    assert kf.read_pcap(DATA / "ipv6.pcap").headers()["eth_type"].tolist() == [0x86DD] * 2
    assert kf.read_pcap(DATA / "sll.pcap").headers()[0]["eth_type"] == 0x0800
    assert kf.read_pcap(DATA / "snapcut.pcap").truncated.all()


@pytest.mark.parametrize(
    ("name", "link"), [("refused.pcap", "FRELAY"), ("refused_big_endian.pcap", "IEEE802_15_4")]
)
def test_other_links_are_refused_by_name(name: str, link: str) -> None:
    with pytest.raises(
        kf.CaptureError, match=rf"{name} has link type {link}.*cannot become Ethernet frames$"
    ):
        kf.read_pcap(DATA / name)


def test_what_can_be_read_of_a_mixed_file_is() -> None:
    with pytest.warns(kf.CaptureWarning, match="1 packets of link type NULL"):
        assert len(kf.read_pcap(DATA / "mixed_links.pcapng")) == 4


def test_the_file_never_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    content = (DATA / "ethernet.pcap").read_bytes()
    path.write_bytes(content)
    batch = kf.read_pcap(path)
    batch.data[:] = 0
    assert path.read_bytes() == content
    assert not batch.data.flags.owndata


@given(batches)
def test_what_is_written_is_read(rows: list[tuple[bytes, int, int]]) -> None:
    batch = made(rows)
    assert read(written(batch)) == batch
    micro = read(written(batch, nanoseconds=False))
    assert micro.frames() == batch.frames()
    assert micro.time.tolist() == [t // 1000 * 1000 for *_, t in rows]


@given(batches)
def test_both_byte_orders(rows: list[tuple[bytes, int, int]]) -> None:
    body = b"".join(
        struct.pack(">IIII", t // 10**9, t % 10**9, len(f), len(f) + cut) + f for f, cut, t in rows
    )
    assert read(struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + body) == made(rows)


@given(batches, st.integers(1, 4))
def test_streams_give_the_same(rows: list[tuple[bytes, int, int]], size: int) -> None:
    class Pipe(io.RawIOBase):
        """Not seekable, and a few bytes at a time."""

        def __init__(self, content: bytes) -> None:
            self._inner = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            part = self._inner.read(min(7, len(buffer)))
            buffer[: len(part)] = part
            return len(part)

    parts = list(kf.iter_pcap(Pipe(written(made(rows))), batch_packets=size))
    assert all(1 <= len(part) <= size for part in parts)
    assert kf.PacketBatch.concatenate(parts) == made(rows)


def block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str) -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str, options: bytes = b"", link: int = 1, snap: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def packet(order: str, index: int, ticks: int, frame: bytes) -> bytes:
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame) + 2)
    return block(6, head + frame, order)


@pytest.mark.parametrize(
    ("resolution", "ticks", "ns"),
    [
        (None, 5, 5000),
        (9, 5, 5),
        (3, 5, 5_000_000),
        (0, 5, 5 * 10**9),
        (0x80 | 10, 1024, 10**9),
        (0x83, 1, 125_000_000),
    ],
)
def test_resolution_and_offset_of_an_interface(resolution: int | None, ticks: int, ns: int) -> None:
    for order in "<>":
        options = b"" if resolution is None else struct.pack(order + "HHB3x", 9, 1, resolution)
        options += struct.pack(order + "HHq", 14, 8, 100)
        content = section(order) + interface(order, options) + packet(order, 0, ticks, b"frame")
        batch = read(content)
        assert batch.time.tolist() == [ns + 100 * 10**9]
        assert (batch.frames(), batch.wire_length.tolist()) == ([b"frame"], [7])


def test_sections_have_their_own_order_and_interfaces() -> None:
    old = block(2, struct.pack("<HHIIII", 0, 0, 0, 9, 3, 3) + b"old", "<")
    simple = block(3, struct.pack("<I", 6) + b"simple", "<")
    content = (
        section("<") + interface("<") + block(0x0BAD, b"whatever", "<") + packet("<", 0, 1, b"one") + old + simple
        + section(">") + interface(">") + interface(">") + packet(">", 1, 2, b"two")
    )  # fmt: skip
    batch = read(content)
    assert batch.frames() == [b"one", b"old", b"simple", b"two"]
    assert batch.time.tolist() == [1000, 9000, 0, 2000]
    assert kf.PacketBatch.concatenate(list(kf.iter_pcap(io.BytesIO(content), batch_packets=1))) == batch


@given(st.integers(24, 200))
def test_a_cut_file_yields_what_is_whole_and_says_where_it_broke(cut: int) -> None:
    content = written(made([(bytes(40), 0, 1), (bytes(50), 0, 2), (bytes(54), 0, 3)]))
    whole = [end for end in (24, 80, 146, 216) if end <= cut]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        batch = read(content[:cut])
    assert len(batch) == len(whole) - 1
    assert [str(w.message) for w in said if f"byte {whole[-1]}:" not in str(w.message)] == []
    assert bool(said) == (cut not in (24, 80, 146))


@pytest.mark.parametrize(
    "content", [b"", b"not a capture at all, but text", b"\xd4\xc3\xb2\xa1", gzip.compress(b"")]
)
def test_what_is_no_capture_is_refused_in_one_sentence(content: bytes) -> None:
    with pytest.raises(kf.CaptureError) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    with pytest.raises(kf.CaptureError):
        list(kf.iter_pcap(io.BytesIO(content)))


@given(st.sampled_from(sorted(COUNTS)), st.data())
def test_broken_files_never_do_worse_than_complain(name: str, data: st.DataObject) -> None:
    content = bytearray((DATA / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, content[at] ^ 1]))
    del content[data.draw(st.integers(1, len(content))) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kf.CaptureWarning)
        try:
            batch = read(bytes(content))
        except kf.CaptureError:
            return
        batch.headers()
        assert (
            kf.PacketBatch.concatenate(list(kf.iter_pcap(io.BytesIO(bytes(content)), batch_packets=2)))
            == batch
        )


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kf.read_pcap(tmp_path / "nothing.pcap")
    with pytest.raises(ValueError, match="batch_packets"):
        next(kf.iter_pcap(DATA / "ethernet.pcap", batch_packets=0))
    with pytest.raises(ValueError, match="does not fit a pcap file"):
        kf.write_pcap(tmp_path / "a.pcap", kf.PacketBatch.from_frames([b"x"], time=-1))
    assert np.all(kf.read_pcap(DATA / "ethernet.pcap").time > 0)
