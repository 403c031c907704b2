"""Reading and writing capture files: real ones, whole, and back."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from captures import ETHERNET, NULL, REAL, SLL2, Real, Record, pcap
from hypothesis import given
from hypothesis import strategies as st
from models.capture import read as model

import kubenet_fastpath as kf
from kubenet_fastpath.capture import PcapWriter
from kubenet_fastpath.linktype import READABLE

NAMES = {"ETH", "RAW", "SLL", "SLL2", "IPV4", "IPV6"}  # in the manifest: what becomes Ethernet
FRAMES = [bytes(range(60)), b"", bytes(100)]
TIMES = [1_600_000_000_123_456_789, 0, (2**32 - 1) * 10**9 + 999_999_999]


def readable(real: Real) -> bool:
    return not real.link_types or any(kind in NAMES for kind in real.link_types)


def quietly(path: Path, batch_packets: int | None = None) -> tuple[kf.PacketBatch, list[str]]:
    """What is in a file, and the warnings; read whole or in batches."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if batch_packets is None:
            batch = kf.read_pcap(path)
        else:
            batch = kf.PacketBatch.concatenate(kf.iter_pcap(path, batch_packets=batch_packets))
    assert all(issubclass(each.category, kf.CaptureWarning) for each in caught)
    return batch, [str(each.message) for each in caught]


@pytest.mark.parametrize("real", [real for real in REAL if readable(real)], ids=lambda real: real.file)
def test_as_many_packets_as_tcpdump_counts(real: Real) -> None:
    batch, messages = quietly(real.path)
    left_out = sum(n for kind, n in real.link_types.items() if kind not in NAMES)
    assert len(batch) == real.packets - left_out
    broken = "truncated" in real.container
    assert len(messages) == broken + bool(left_out)
    assert ("broke at byte" in "".join(messages)) == broken
    assert quietly(real.path, 3) == (batch, messages)
    packets, breaks = model(real.path.read_bytes())
    packets = [packet for packet in packets if packet.link_type in READABLE]
    assert batch.time.tolist() == [packet.time for packet in packets]
    assert (breaks is not None) == broken
    if {packet.link_type for packet in packets} == {ETHERNET}:
        assert batch.frames() == [packet.data for packet in packets]
        assert batch.wire_length.tolist() == [packet.wire_length for packet in packets]


@pytest.mark.parametrize("real", [real for real in REAL if not readable(real)], ids=lambda real: real.file)
def test_other_link_types_are_refused_by_name(real: Real) -> None:
    (kind,) = {packet.link_type for packet in model(real.path.read_bytes())[0]}
    for read in (kf.read_pcap, lambda path: list(kf.iter_pcap(path))):
        with pytest.raises(
            kf.CaptureError, match=rf"has link type [A-Z0-9_]+ \({kind}\), which cannot become"
        ):
            read(real.path)


def test_a_link_type_is_refused_before_there_are_packets() -> None:
    with pytest.raises(kf.CaptureError, match=r"the file has link type NULL \(0\)"):
        kf.read_pcap(io.BytesIO(pcap([], link_type=NULL)))
    with pytest.raises(kf.CaptureError, match=r"unknown \(4242\)"):
        kf.read_pcap(io.BytesIO(pcap([], link_type=4242)))


def test_the_file_is_mapped_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    content = pcap([Record(frame) for frame in FRAMES])
    path.write_bytes(content)
    batch = kf.read_pcap(path)
    assert len(batch.data) == len(content)  # all of it, as it lies
    assert batch.offset.tolist() == [40, 116, 132]
    assert batch.data.flags.writeable
    batch.data[:] = 0xEE
    assert path.read_bytes() == content
    assert bytes(batch[0]) == b"\xee" * 60
    assert kf.read_pcap(os.fspath(path)).frames() == FRAMES


def test_a_batch_may_be_written_to_the_file_it_is_mapped_from(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    link = tmp_path / "link.pcap"
    link.symlink_to(path)
    kf.write_pcap(path, kf.PacketBatch.from_frames([bytes([i % 251]) * 1000 for i in range(1000)]))
    batch = kf.read_pcap(link)
    kf.write_pcap(link, batch[::-1])
    assert link.is_symlink()
    assert kf.read_pcap(path) == batch[::-1]


@pytest.mark.parametrize("nanoseconds", [True, False])
def test_round_trip(tmp_path: Path, nanoseconds: bool) -> None:
    batch = kf.PacketBatch.from_frames(FRAMES, 0, TIMES, [60, 70, 100])
    path = tmp_path / "a.pcap"
    kf.write_pcap(path, batch[::-1], nanoseconds=nanoseconds)
    again = kf.read_pcap(path)
    if not nanoseconds:
        assert again.time.tolist() == [time // 1000 * 1000 for time in reversed(TIMES)]
        again.time[:] = batch.time[::-1]
    assert again == batch[::-1]
    records = [Record(*row) for row in zip(FRAMES, TIMES, [0, 70, 0], strict=True)]
    out = io.BytesIO()
    kf.write_pcap(out, batch, nanoseconds=nanoseconds)
    assert out.getvalue() == pcap(records, nanoseconds=nanoseconds, snaplen=262144)


def test_batches_one_behind_the_other() -> None:
    batch = kf.PacketBatch.from_frames(FRAMES, 0, TIMES)
    out = io.BytesIO()
    with PcapWriter(out) as writer:
        writer.write(batch[:1])
        writer.write(batch[:0])
        writer.write(batch[1:])
    assert not out.closed
    out.seek(0)
    assert kf.read_pcap(out) == batch


def test_large_batches_are_written_in_pieces() -> None:
    rows = np.arange(40 << 20, dtype=np.uint32).view(np.uint8).reshape(-1, 1 << 18)[:200]
    batch = kf.PacketBatch.from_array(rows, time=range(200))
    out = io.BytesIO()
    kf.write_pcap(out, batch)
    out.seek(0)
    assert kf.read_pcap(out) == batch


@pytest.mark.parametrize("time", [-1, 2**32 * 10**9])
def test_times_that_do_not_fit(tmp_path: Path, time: int) -> None:
    batch = kf.PacketBatch.from_frames(FRAMES, 0, [0, time, 0])
    path = tmp_path / "a.pcap"
    path.write_bytes(b"as it was")
    with pytest.raises(ValueError, match=f"time {time} ns"):
        kf.write_pcap(path, batch)
    assert path.read_bytes() == b"as it was"
    out = io.BytesIO()
    writer = PcapWriter(out)
    with pytest.raises(ValueError, match=f"time {time} ns"):
        writer.write(batch)
    assert len(out.getvalue()) == 24


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="batch must be a PacketBatch, not list"):
        kf.write_pcap(tmp_path / "a.pcap", FRAMES)
    with pytest.raises(OSError, match="No such file"):
        kf.write_pcap(tmp_path / "missing" / "a.pcap", kf.PacketBatch.from_frames(FRAMES))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"GET / HTTP/1.1\r\n" * 9, "does not begin as a capture does, but with 47 45 54 20"),
        (b"\n", "but with 0a"),
        (pcap([])[:23], "ends in its pcap header, after 23 of 24 bytes"),
        (pcap([], version=(3, 0)), "its pcap version is 3.0"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "compressed with zstd"),
        (b"BZh9" + bytes(40), "compressed with bzip2"),
        (b"\x1f\x8b\x99" + bytes(40), "its compressed data are damaged"),
        (gzip.compress(pcap([]))[:14], "compressed data end too early"),
        (gzip.compress(b"hello world"), "but with 68 65 6c 6c"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_capture(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    for read in (kf.read_pcap, lambda path: list(kf.iter_pcap(path))):
        with pytest.raises(kf.CaptureError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} is no capture that can be read: ")


def test_missing_files_and_strange_sources(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kf.read_pcap(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        kf.read_pcap(tmp_path)
    with pytest.raises(TypeError, match="source must be a path or a binary file object, not int"):
        kf.read_pcap(3)
    with pytest.raises(TypeError, match="binary file object, but reads str"):
        kf.read_pcap(io.StringIO("text"))
    with pytest.raises(ValueError, match="batch_packets must be 1 or more, not 0"):
        kf.iter_pcap(tmp_path / "missing", batch_packets=0)


def test_warnings_point_at_the_caller() -> None:
    content = pcap([Record(bytes(60))])[:-1]
    for read in (kf.read_pcap, lambda file: list(kf.iter_pcap(file))):
        with pytest.warns(kf.CaptureWarning, match="the file broke at byte 24: .* 75 bytes") as caught:
            read(io.BytesIO(content))
        assert [warning.filename for warning in caught] == [__file__]


def test_ports(tmp_path: Path) -> None:
    content = pcap([Record(frame) for frame in FRAMES])
    assert kf.read_pcap(io.BytesIO(content), port=4).port.tolist() == [4, 4, 4]
    assert kf.read_pcap(io.BytesIO(content), port=[1, 2, 3]).port.tolist() == [1, 2, 3]
    assert [batch.port.tolist() for batch in kf.iter_pcap(io.BytesIO(content), 5, 2)] == [[5, 5], [5]]


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no /dev/stdin")
def test_a_pipe_by_its_name() -> None:
    package = str(Path(kf.__file__).parent.parent)  # the one under test, not sources that lie about
    program = f"import sys; sys.path.insert(0, {package!r}); import kubenet_fastpath as kf; "
    program += "print(len(kf.read_pcap('/dev/stdin')))"
    content = gzip.compress(pcap([Record(bytes(60))] * 9))
    run = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True)
    assert run.stdout == b"9\n"


ORDERS = st.fixed_dictionaries(
    {"big": st.booleans(), "nanoseconds": st.booleans()}
    | {"version": st.sampled_from([(2, 4), (2, 4), (2, 2)]), "link_type": st.just(1) | st.just(0x30000001)}
)
RECORDS = st.lists(
    st.builds(
        Record,
        st.binary(max_size=30),
        st.integers(0, 2**32 * 10**6 - 1).map(lambda us: us * 1000),
        st.integers(0, 9) | st.just(2**31),
    ),
    max_size=6,
)


@given(RECORDS, ORDERS, st.data())
def test_classic_files_whole_and_cut(
    records: list[Record], options: dict[str, object], data: st.DataObject
) -> None:
    content = pcap(records, **options)
    sizes = [24] + [16 + len(record.frame) for record in records]
    ends = np.cumsum(sizes).tolist()
    cut = data.draw(st.sampled_from(ends) | st.integers(24, len(content)), label="cut")
    whole = sum(end <= cut for end in ends) - 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = kf.read_pcap(io.BytesIO(content[:cut]))
    assert batch.frames() == [record.frame for record in records[:whole]]
    assert batch.time.tolist() == [record.time for record in records[:whole]]
    assert batch.wire_length.tolist() == [record.wire_length for record in records[:whole]]
    assert [f"broke at byte {ends[whole]}: " in str(each.message) for each in caught] == [True] * (
        cut not in ends
    )


def test_longer_record_headers() -> None:
    assert kf.read_pcap(io.BytesIO(pcap([Record(b"frame", 5000)] * 2, extra=8))).frames() == [b"frame"] * 2


def test_version_2_3_has_its_lengths_either_way() -> None:
    for version, cut in (((2, 3), 3), ((2, 3), 0), ((2, 2), 3)):
        batch = kf.read_pcap(io.BytesIO(pcap([Record(b"frame", cut=cut)], version=version)))
        assert (batch.frames(), batch.wire_length.tolist()) == ([b"frame"], [5 + cut])
    swapped = pcap([Record(b"frame")], version=(2, 3))
    swapped = swapped[:32] + b"\x09\0\0\0\x05\0\0\0" + swapped[40:]
    assert kf.read_pcap(io.BytesIO(swapped)).wire_length.tolist() == [9]


@pytest.mark.parametrize(
    ("snaplen", "length"), [(65535, 262145), (300_000, 300_001), (2**32 - 1, (16 << 20) + 1)]
)
def test_lengths_that_cannot_be_stop(snaplen: int, length: int) -> None:
    start = pcap([Record(bytes(60))] * 2, snaplen=snaplen)
    bad = start + bytes(8) + 2 * length.to_bytes(4, "little") + bytes(length)
    with pytest.warns(
        kf.CaptureWarning, match=f"broke at byte {len(start)}: a record of {length} bytes cannot be"
    ):
        assert len(kf.read_pcap(io.BytesIO(bad))) == 2
    fine = start + bytes(8) + 2 * (length - 1).to_bytes(4, "little") + bytes(length - 1)
    assert kf.read_pcap(io.BytesIO(fine)).length.tolist() == [60, 60, length - 1]


def test_cooked_captures_are_copied_once() -> None:
    (real,) = [real for real in REAL if "SLL2" in real.link_types]
    assert model(real.path.read_bytes())[0][0].link_type == SLL2
    batch = kf.read_pcap(real.path)
    assert len(batch.data) == int(batch.length.sum())
