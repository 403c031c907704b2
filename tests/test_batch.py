"""PacketBatch: frames in one buffer, and their columns."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import kubenet_fastpath as kf

FRAMES = [b"first frame", b"", b"second", bytes(range(60))]


def batch_of(frames: list[bytes] = FRAMES) -> kf.PacketBatch:
    """A batch whose columns tell its rows apart."""
    n = len(frames)
    wire = [len(frame) + 10 * (i % 2) for i, frame in enumerate(frames)]
    return kf.PacketBatch.from_frames(frames, range(n), np.arange(n) * 1000, wire)


def test_columns_have_their_types() -> None:
    batch = kf.PacketBatch(np.zeros(100, np.uint8), [40, 0], [60, 40], None, 3, [5, -7])
    assert {name: getattr(batch, name).dtype.name for name in ("data", *kf.batch.COLUMNS)} == {
        "data": "uint8",
        "offset": "int64",
        "length": "uint32",
        "wire_length": "uint32",
        "port": "uint16",
        "time": "int64",
    }
    assert batch.port.tolist() == [3, 3]
    assert batch.time.tolist() == [5, -7]
    assert batch.wire_length.tolist() == [60, 40]
    batch.length[0] = 1  # what is said of the wire stays
    assert batch.wire_length.tolist() == [60, 40]


def test_data_and_fitting_columns_are_not_copied() -> None:
    data, offset = np.zeros(100, np.uint8), np.array([0, 50])
    batch = kf.PacketBatch(data, offset, np.array([50, 50], np.uint32))
    assert batch.data is data
    assert np.shares_memory(batch.offset, offset)


class Seven:
    def __index__(self) -> int:
        return 7


def test_port_may_be_whatever_is_an_index() -> None:
    assert kf.PacketBatch.from_frames(FRAMES, port=Seven()).port.tolist() == [7] * 4


DATA = np.zeros(100, np.uint8)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "data .*list", ([1, 2], [0], [1])),
        (TypeError, r"data .*int64\(2,\)", (np.zeros(2, np.int64), [0], [1])),
        (TypeError, r"data .*uint8\(2, 2\)", (np.zeros((2, 2), np.uint8), [0], [1])),
        (ValueError, "data must be contiguous", (DATA[::2], [0], [1])),
        (ValueError, "offset .*one dimension", (DATA, 0, [1])),
        (ValueError, "length .*one dimension", (DATA, [0], [[1]])),
        (ValueError, r"length has shape \(2,\), the batch has 1", (DATA, [0], [1, 2])),
        (ValueError, r"time has shape \(3,\)", (DATA, [0], [1], None, 0, [1, 2, 3])),
        (TypeError, "offset takes integers, not float64", (DATA, [0.5], [1])),
        (TypeError, "port takes integers, not bool", (DATA, [0], [1], None, [True])),
        (TypeError, "time takes integers", (DATA, [0], [1], None, 0, [2**70])),
        (ValueError, "port 65536 does not fit uint16", (DATA, [0], [1], None, 65536)),
        (ValueError, "port -1 does not fit uint16", (DATA, [0, 1], [1, 1], None, [-1, 3])),
        (ValueError, "time 9223372036854775808", (DATA, [0], [1], None, 0, 2**63)),
        (
            ValueError,
            "frame 1 at offset 41 with length 60 is outside the 100 bytes",
            (DATA, [0, 41], [60, 60]),
        ),
        (ValueError, "frame 0 at offset -1", (DATA, [-1], [1])),
        (ValueError, "frame 0 at offset 9223372036854775807", (DATA, [2**63 - 1], [2**32 - 1])),
        (ValueError, "wire_length 59 of frame 1 is below its length 60", (DATA, [0, 0], [9, 60], [9, 59])),
    ],
)
def test_wrong_calls_are_refused(error: type[Exception], words: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(error, match=words):
        kf.PacketBatch(*arguments)


def test_a_batch_of_frames() -> None:
    batch = batch_of()
    assert len(batch) == 4
    assert batch.frames() == FRAMES
    assert [bytes(frame) for frame in batch] == FRAMES
    assert batch.data.flags.writeable
    parts = [memoryview(b"-ab-")[1:3], bytearray(b"c"), np.frombuffer(b"de", np.uint16)]
    assert kf.PacketBatch.from_frames(parts).frames() == [b"ab", b"c", b"de"]
    assert len(kf.PacketBatch.from_frames([])) == 0


@pytest.mark.parametrize("frames", [b"frame", [5], ["text"], memoryview(b"frame")])
def test_what_is_no_list_of_frames(frames: object) -> None:
    with pytest.raises(TypeError):
        kf.PacketBatch.from_frames(frames)


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(60, dtype=np.uint8).reshape(3, 20),
        np.arange(60, dtype=np.uint8).reshape(6, 10)[::2, 3:],
        np.arange(5, dtype=np.uint8).reshape(5, 1),
        np.broadcast_to(np.arange(4, dtype=np.uint8), (3, 4)),
        np.lib.stride_tricks.sliding_window_view(np.arange(9, dtype=np.uint8), 4),
        np.arange(10, dtype=np.uint8).reshape(1, 10)[:, 2:],
    ],
)
def test_rows_of_an_array_are_not_copied(rows: NDArray[np.uint8]) -> None:
    batch = kf.PacketBatch.from_array(rows)
    assert batch.frames() == [row.tobytes() for row in rows]
    assert np.shares_memory(batch.data, rows)
    assert batch.data.flags.writeable == rows.flags.writeable


def test_rows_may_be_longer_than_frames() -> None:
    rows = np.arange(60, dtype=np.uint8).reshape(3, 20)
    batch = kf.PacketBatch.from_array(rows, [20, 0, 5], port=2, time=9, wire_length=[20, 0, 90])
    assert batch.frames() == [rows[0].tobytes(), b"", rows[2, :5].tobytes()]
    assert batch.truncated.tolist() == [False, False, True]
    with pytest.raises(ValueError, match="length 21 is more than the 20 bytes"):
        kf.PacketBatch.from_array(rows, [20, 0, 21])
    for shape in ((0, 20), (3, 0)):
        assert kf.PacketBatch.from_array(np.zeros(shape, np.uint8)).frames() == [b""] * shape[0]


@pytest.mark.parametrize("rows", [np.zeros((3, 20), np.uint8).T, np.zeros((3, 20), np.uint8)[::-1]])
def test_rows_in_pieces_are_refused(rows: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="ascontiguousarray"):
        kf.PacketBatch.from_array(rows)


@pytest.mark.parametrize("rows", [[[1, 2]], np.zeros(3, np.uint8), np.zeros((3, 2), np.int8)])
def test_what_is_no_array_of_frames(rows: object) -> None:
    with pytest.raises(TypeError, match=r"\(N, B\) ndarray of uint8"):
        kf.PacketBatch.from_array(rows)


@st.composite
def keys(draw: st.DrawFn, n: int) -> object:
    """Whatever selects packets of n."""
    indices = st.lists(st.integers(-n, n - 1), max_size=6) if n else st.just([])
    return draw(
        st.slices(n)
        | st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask, bool))
        | indices
        | indices.map(lambda rows: np.array(rows, np.int16))
    )


@given(st.lists(st.binary(max_size=20), max_size=8), st.data())
def test_selection_is_that_of_a_list(frames: list[bytes], data: st.DataObject) -> None:
    batch, key = batch_of(frames), data.draw(keys(len(frames)))
    rows = np.arange(len(frames))[key].tolist()
    part = batch[key]
    assert part.frames() == [frames[i] for i in rows]
    assert part.port.tolist() == rows
    assert part.time.tolist() == [1000 * i for i in rows]
    assert part.truncated.tolist() == [i % 2 == 1 for i in rows]
    assert part == kf.PacketBatch.concatenate([batch[i : i + 1] for i in rows])
    assert part.data is batch.data


def test_a_selection_shares_bytes_and_has_columns_of_its_own() -> None:
    batch = batch_of()
    part = batch[0:2]
    part.port[:] = 9
    part[0][:5] = b"FIRST"
    assert bytes(batch[0]) == b"FIRST frame"
    assert batch.port.tolist() == [0, 1, 2, 3]


def test_one_frame() -> None:
    batch = batch_of()
    assert (
        bytes(batch[2])
        == bytes(batch[-2])
        == bytes(batch[np.int8(2)])
        == bytes(batch[np.array(2)])
        == b"second"
    )
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            batch[wrong]
    with pytest.raises(IndexError, match="one dimension"):
        batch[np.zeros((2, 2), int)]
    for strange in (None, "port", 1.0):
        with pytest.raises((TypeError, IndexError)):
            batch[strange]


def test_equality_is_of_frames_not_of_places() -> None:
    batch = batch_of()
    order = [3, 1, 0, 2]
    assert batch[order].copy() == batch[order]
    assert batch[order] != batch
    assert batch != batch[:3]
    assert (batch == "batch") is False
    for name in ("length", "wire_length", "port", "time"):
        other = batch.copy()
        column = getattr(other, name)
        column[0] = column[0] - 1 if name == "length" else column[0] + 1
        assert other != batch, name
    other = batch.copy()
    other.data[-1] ^= 1
    assert other != batch
    with pytest.raises(TypeError):
        hash(batch)


def test_columns_that_were_spoilt_do_not_lead_outside() -> None:
    batch = batch_of()
    batch.offset[0] = 2**40
    for call in (batch.copy, batch.headers, lambda: batch == batch_of()):
        with pytest.raises(ValueError, match="outside"):
            call()


def test_concatenation() -> None:
    batch = batch_of()
    parts = [batch[2:], batch[:2].copy(), kf.PacketBatch.from_frames([])]
    assert kf.PacketBatch.concatenate(parts) == batch[[2, 3, 0, 1]]
    shared = kf.PacketBatch.concatenate(iter([batch[2:], batch[:2]]))
    assert shared == batch[[2, 3, 0, 1]]
    assert shared.data is batch.data
    assert len(kf.PacketBatch.concatenate([])) == 0
    with pytest.raises(TypeError, match="concatenate takes batches, not bytes"):
        kf.PacketBatch.concatenate([batch, b"frame"])


def test_a_copy_is_apart() -> None:
    batch = batch_of()
    other = batch[[3, 0]].copy()
    assert other.offset.tolist() == [0, 60]
    assert len(other.data) == 71
    other.data[:], other.port[:], other.time[:] = 0, 0, 0
    assert batch == batch_of()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol: int) -> None:
    batch = batch_of()
    for part in (batch, batch[::2], batch[:0]):
        assert pickle.loads(pickle.dumps(part, protocol)) == part
    assert copy.deepcopy(batch) == batch


def test_pickling_out_of_band() -> None:
    batch = kf.PacketBatch.from_array(np.zeros((1000, 100), np.uint8), time=range(1000))
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(batch, 5, buffer_callback=buffers.append)
    assert len(stream) < 1000
    restored = pickle.loads(stream, buffers=buffers)
    assert restored == batch
    assert np.shares_memory(restored.data, batch.data)
    assert len(pickle.dumps(batch[3:5])) < 1000  # not the frames that it does not have


def test_what_a_person_sees() -> None:
    batch = batch_of()
    assert repr(batch) == "<PacketBatch of 4 packets, 97 bytes, 2 cut off>"
    assert repr(batch[::2]) == "<PacketBatch of 2 packets, 17 bytes>"
    assert batch.truncated.tolist() == [False, True, False, True]
    assert batch.nbytes == 77 + 4 * (8 + 4 + 4 + 2 + 8)
