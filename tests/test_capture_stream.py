"""Captures in batches of bounded size: files, pipes, gzip."""

from __future__ import annotations

import gzip
import io
import os
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from captures import REAL, Record, Section, pcap
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import capture, source

RECORDS = [Record(bytes([i % 256]) * (i * 37 % 300), i * 1000) for i in range(500)]
CONTENT = pcap(RECORDS)


def quietly(read: object, content: bytes, **options: object) -> tuple[list[kf.PacketBatch] | str, list[str]]:
    """What reading gives, or the words of its refusal, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read(io.BytesIO(content), **options)
            result = [found] if isinstance(found, kf.PacketBatch) else list(found)
        except kf.CaptureError as error:
            result = str(error)
    return result, [str(each.message) for each in caught]


@pytest.mark.parametrize("most", [1, 7, 499, 500, 501])
def test_batches_are_bounded(most: int) -> None:
    batches = list(kf.iter_pcap(io.BytesIO(CONTENT), 3, most))
    assert [len(batch) for batch in batches] == [most] * (500 // most) + [500 % most] * bool(500 % most)
    assert kf.PacketBatch.concatenate(batches) == kf.read_pcap(io.BytesIO(CONTENT), 3)


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["plain", "gzip"])
@given(
    st.sampled_from([real for real in REAL if real.path.stat().st_size < 2000]),
    st.integers(1, 300),
    st.integers(1, 9),
    st.integers(0, 40),
)
def test_it_does_not_matter_where_pieces_end(
    content: bytes, real: object, piece: int, most: int, cut: int
) -> None:
    whole = real.path.read_bytes()
    whole = whole[: len(whole) - cut]
    packed = gzip.compress(whole) if content else whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "PIECE", piece)
        patch.setattr(source, "PACKED", piece)
        batches, messages = quietly(kf.iter_pcap, packed, batch_packets=most)
    result, expected = quietly(kf.read_pcap, whole)
    assert messages == expected
    if isinstance(result, str):
        assert batches == result
    else:
        assert all(0 < len(batch) <= most for batch in batches)
        assert kf.PacketBatch.concatenate(batches) == result[0]


def test_memory_is_bounded() -> None:
    packed = io.BytesIO(gzip.compress(pcap([Record(bytes(60_000))] * 2000), 1))  # 120 MB
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in kf.iter_pcap(packed)) == 2000
        assert tracemalloc.get_traced_memory()[1] < 70e6
    finally:
        tracemalloc.stop()


def test_a_pipe_gives_what_it_has() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as tap, open(writing, "wb", buffering=0) as end:
        packets = kf.iter_pcap(tap)
        end.write(CONTENT[:24])
        end.write(pcap(RECORDS[1:3])[24:])
        assert next(packets).frames() == [record.frame for record in RECORDS[1:3]]
        late = pcap(RECORDS[3:5])[24:]
        end.write(late[:20])
        timer = threading.Timer(0.01, end.write, [late[20:]])
        timer.start()
        assert next(packets).frames() == [record.frame for record in RECORDS[3:5]]
        timer.join()
        end.close()
        assert list(packets) == []


def test_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for read in (kf.read_pcap, lambda path: kf.PacketBatch.concatenate(kf.iter_pcap(path))):
        thread = threading.Thread(target=path.write_bytes, args=[CONTENT])
        thread.start()
        assert read(path) == kf.read_pcap(io.BytesIO(CONTENT))
        thread.join()


class OneByOne(io.RawIOBase):
    """A raw file object that is in no hurry."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        n = min(len(buffer), len(self.rest), 3)
        buffer[:n], self.rest = self.rest[:n], self.rest[n:]
        return n


@pytest.mark.parametrize("packed", [False, True])
def test_file_objects_of_any_kind_stay_open(packed: bool) -> None:
    content = gzip.compress(CONTENT) if packed else CONTENT
    file = OneByOne(content)
    assert sum(len(batch) for batch in kf.iter_pcap(file)) == 500
    assert not file.closed
    file = io.BytesIO(b"ahead" + content)
    file.seek(5)
    assert len(kf.read_pcap(file)) == 500
    assert not file.closed


def test_a_file_is_closed_when_nobody_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(CONTENT)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        packets = kf.iter_pcap(path, batch_packets=1)
        next(packets)
        packets.close()


def test_gzip_files_one_behind_the_other() -> None:
    packed = b"".join(gzip.compress(CONTENT[i : i + 1000]) for i in range(0, len(CONTENT), 1000))
    for content in (packed, packed + bytes(100)):
        assert quietly(kf.read_pcap, content) == ([kf.read_pcap(io.BytesIO(CONTENT))], [])
    (batch,), (message,) = quietly(kf.read_pcap, packed + b"rubbish")
    assert len(batch) == 500
    assert f"broke at byte {len(CONTENT)}: its compressed data are damaged (Error -3" in message


@pytest.mark.parametrize("where", ["middle", "checksum", "end"])
def test_damaged_gzip_files_give_what_is_in_front(where: str) -> None:
    rng = np.random.default_rng(5)
    content = pcap([Record(rng.bytes(200)) for _ in range(500)])
    packed = bytearray(gzip.compress(content))
    words = "its compressed data are damaged"
    if where == "middle":  # what comes out is no capture sooner than it is no compressed data
        packed[50_000:50_100] = bytes(100)
        words = "broke at byte"
    elif where == "checksum":
        packed[-8] ^= 1
    else:
        del packed[50_000:]
        words = "its compressed data end too early"
    (batch,), messages = quietly(kf.read_pcap, packed)
    whole = kf.read_pcap(io.BytesIO(content))
    n = 500 if where == "checksum" else 225
    assert len(batch) >= n
    assert batch[:n] == whole[:n]
    assert len(messages) == 1
    assert words in messages[0]
    batches, again = quietly(kf.iter_pcap, packed)
    assert (kf.PacketBatch.concatenate(batches), again) == (batch, messages)


def test_a_block_that_is_too_large_for_streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    section = Section()
    start = section.header() + section.interface() + section.enhanced(b"frame")
    content = start + section.block(0x99, bytes(1000)) + section.enhanced(b"frame")
    assert len(kf.read_pcap(io.BytesIO(content))) == 2
    monkeypatch.setattr(source, "PIECE", 100)
    monkeypatch.setattr(capture, "MOST", 500)
    (batch,), (message,) = quietly(kf.iter_pcap, content)
    assert len(batch) == 1
    assert f"broke at byte {len(start)}: a block is larger than streaming can hold" in message
