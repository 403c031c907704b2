"""pcap and pcapng files: what the model reads is read, whole and in pieces, and survives being written."""

from __future__ import annotations

import io
import warnings

from captures import ETHERNET, REAL
from models.capture import read as model

import kubenet_fastpath as kf
from kubenet_fastpath.linktype import READABLE

LONGEST = 4096
LINES = False
EXAMPLES = [real.path.read_bytes() for real in REAL if real.path.stat().st_size <= LONGEST]


def run(data: bytes) -> None:
    try:
        packets, breaks = model(data)
    except ValueError:
        packets, breaks = [], 0
    seen = [packet for packet in packets if packet.link_type in READABLE]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            batch = kf.read_pcap(io.BytesIO(data))
        except kf.CaptureError:
            assert not seen or data[:2] == b"\x1f\x8b"
            return
    if data[:2] == b"\x1f\x8b":  # gzipped: the model does not unpack
        return
    assert len(caught) == (breaks is not None) + (len(seen) < len(packets)), [str(w.message) for w in caught]
    assert batch.time.tolist() == [packet.time for packet in seen]
    for frame, packet in zip(batch.frames(), seen, strict=True):
        assert frame == packet.data or packet.link_type != ETHERNET
    batch.headers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kf.CaptureWarning)
        pieces = list(kf.iter_pcap(io.BytesIO(data), batch_packets=1 + len(data) % 5))
        assert kf.PacketBatch.concatenate(pieces) == batch
    if all(0 <= time < 2**32 * 10**9 for time in batch.time.tolist()):
        file = io.BytesIO()
        kf.write_pcap(file, batch)
        again = kf.read_pcap(io.BytesIO(file.getvalue()))
        assert again.frames() == batch.frames()
        assert again.time.tolist() == batch.time.tolist()
