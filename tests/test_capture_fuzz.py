"""Mutated capture files: no crash, no byte from outside, and what the model reads is read."""

from __future__ import annotations

import gzip
import io
import warnings

from captures import ETHERNET, REAL
from hypothesis import given
from hypothesis import strategies as st
from models.capture import read as model

import kubenet_fastpath as kf
from kubenet_fastpath.linktype import READABLE

CONTENTS = [real.path.read_bytes() for real in REAL if real.path.stat().st_size < 3000]
NUMBERS = [0, 1, 2, 3, 6, 12, 13, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x0A0D0D0A, 262145, 1 << 24]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A real file with some of its fields changed, cut, doubled or missing."""
    content = bytearray(draw(st.sampled_from(CONTENTS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 4, 0)))
        kind = draw(st.sampled_from(["byte", "number", "aligned", "aligned", "delete", "double", "cut"]))
        if kind == "byte" and content:
            content[at] = draw(st.integers(0, 255))
        elif kind in ("number", "aligned"):
            at -= at % 4 if kind == "aligned" else 0
            order = draw(st.sampled_from(["little", "big"]))
            content[at : at + 4] = draw(st.sampled_from(NUMBERS) | st.integers(0, 2**32 - 1)).to_bytes(
                4, order
            )
        elif kind == "delete":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 200))]
        elif kind == "cut":
            del content[at:]
    return bytes(content)


@given(mutants() | st.binary(max_size=100), st.integers(1, 5), st.booleans())
def test_mutants(content: bytes, most: int, packed: bool) -> None:
    try:
        packets, breaks = model(content)
    except ValueError:
        packets, breaks = [], 0
    seen = [packet for packet in packets if packet.link_type in READABLE]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            batch = kf.read_pcap(io.BytesIO(gzip.compress(content) if packed else content))
        except kf.CaptureError:
            assert not seen
            return
    assert all(each.category is kf.CaptureWarning for each in caught)
    assert len(caught) == (breaks is not None) + (len(seen) < len(packets))
    assert batch.time.tolist() == [packet.time for packet in seen]
    for frame, packet in zip(batch.frames(), seen, strict=True):
        assert frame == packet.data or packet.link_type != ETHERNET
    batch.headers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kf.CaptureWarning)
        assert kf.PacketBatch.concatenate(kf.iter_pcap(io.BytesIO(content), batch_packets=most)) == batch


@given(st.sampled_from(CONTENTS), st.data())
def test_damaged_compression(content: bytes, data: st.DataObject) -> None:
    packed = bytearray(gzip.compress(content))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(2, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kf.CaptureWarning)
        try:
            batch = kf.read_pcap(io.BytesIO(packed))
            assert kf.PacketBatch.concatenate(kf.iter_pcap(io.BytesIO(packed), batch_packets=2)) == batch
        except kf.CaptureError:
            pass
