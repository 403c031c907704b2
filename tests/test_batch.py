"""`PacketBatch`: what is shared, what is copied, what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet_fastpath import PacketBatch

frames = st.lists(st.binary(max_size=40), max_size=8)


class Index:
    """Something that stands for a number, as a port does."""

    def __index__(self) -> int:
        return 7


def batch_of(parts: list[bytes]) -> PacketBatch:
    return PacketBatch.from_frames(parts, port=3, time=list(range(len(parts))))


@given(frames)
def test_frames_come_out_as_they_went_in(parts: list[bytes]) -> None:
    batch = batch_of(parts)
    assert batch.frames() == parts == [bytes(frame) for frame in batch]
    assert len(batch) == len(parts)
    assert batch == batch.copy() == pickle.loads(pickle.dumps(batch, protocol=5))
    assert PacketBatch.concatenate([batch[:3], batch[3:]]) == batch
    assert PacketBatch.concatenate([batch[:3].copy(), batch[3:]]) == batch


@given(frames, st.data())
def test_any_way_to_index(parts: list[bytes], data: st.DataObject) -> None:
    batch, n = batch_of(parts), len(parts)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    assert batch[mask].frames() == [p for p, m in zip(parts, mask, strict=True) if m]
    assert (
        batch[np.flatnonzero(mask)[::-1]].frames() == [p for p, m in zip(parts, mask, strict=True) if m][::-1]
    )
    assert batch[1:][::2].frames() == parts[1:][::2]
    assert all(bytes(batch[i]) == parts[i] for i in range(n))
    assert batch[mask].data is batch.data


def test_a_matrix_is_shared() -> None:
    matrix = np.arange(40, dtype=np.uint8).reshape(4, 10)
    batch = PacketBatch.from_array(matrix, length=[10, 4, 0, 7], port=Index())
    batch[1][0] = 99
    assert matrix[1, 0] == 99
    assert batch.length.tolist() == [10, 4, 0, 7]
    assert batch.port.tolist() == [7] * 4


def test_pickles_out_of_band_and_without_what_is_not_used() -> None:
    whole = PacketBatch.from_array(np.zeros((1000, 100), np.uint8))
    buffers: list[pickle.PickleBuffer] = []
    kept = pickle.dumps(whole, protocol=5, buffer_callback=buffers.append)
    assert len(kept) < 2000 < sum(len(b.raw()) for b in buffers)
    assert pickle.loads(kept, buffers=buffers) == whole
    assert len(pickle.dumps(whole[:3], protocol=5)) < 2000


def test_truncated_packets_have_both_lengths() -> None:
    batch = PacketBatch.from_frames([b"abc", b"de"], wire_length=[3, 9])
    assert batch.truncated.tolist() == [False, True]
    assert repr(batch) == "<PacketBatch of 2 packets, 12 bytes, 1 cut off>"
    assert batch != PacketBatch.from_frames([b"abc", b"de"])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda d: PacketBatch(d, [0], [11]), ValueError, "frame 0 at offset 0 with length 11"),
        (lambda d: PacketBatch(d, [-1], [1]), ValueError, "offset -1"),
        (lambda d: PacketBatch(d, [0, 2], [1]), ValueError, "length"),
        (lambda d: PacketBatch(d, [0], [4], [3]), ValueError, "wire_length 3 of frame 0"),
        (lambda d: PacketBatch(d, [0], [1], port=70000), ValueError, "port"),
        (lambda d: PacketBatch(d, [0], [1], port=[1, 2]), ValueError, "port"),
        (lambda d: PacketBatch(d, [0], [1], time=1.5), TypeError, "time"),
        (lambda d: PacketBatch(d.astype(np.int8), [0], [1]), TypeError, "uint8"),
        (lambda d: PacketBatch(d[::2], [0], [1]), ValueError, "contiguous"),
        (lambda d: PacketBatch.from_array(d), TypeError, "frames"),
        (lambda d: PacketBatch.from_array(d.reshape(2, 5), length=[6, 1]), ValueError, "length 6"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call(np.zeros(10, np.uint8))
