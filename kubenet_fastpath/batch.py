"""Batches of real frames: one buffer of bytes, a row of columns for each packet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parse import parse_headers
from .rows import gather, same_rows

__all__ = ["PacketBatch"]


def _column(name: str, values: ArrayLike | SupportsIndex, n: int, dtype: type) -> NDArray[Any]:
    """`values` as a contiguous column of n items, or a clear refusal."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__index__"):
        values = values.__index__()
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iub":
        raise TypeError(f"{name} takes integers, not {array.dtype}")
    if array.ndim > 1 or (array.ndim == 1 and len(array) != n):
        raise ValueError(f"{name} has shape {array.shape}, the batch has {n} packets")
    limits = np.iinfo(dtype)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise ValueError(f"{name} {int(array.min())}..{int(array.max())} does not fit {np.dtype(dtype)}")
    if array.ndim == 0:
        return np.full(n, array, dtype)
    return np.ascontiguousarray(array, dtype)


class PacketBatch:
    """N frames in one buffer.

    Parameters
    ----------
    data : (B,) ndarray of uint8
        Bytes of all frames; shared, not copied. Frames may overlap, lie in any order and leave gaps.
    offset : (N,) array of int
        Where each frame begins in `data`.
    length : (N,) array of int
        Bytes of each frame that are in `data`.
    wire_length : (N,) array of int, optional
        Bytes of each frame on the wire; more than `length` in a capture that cut packets off. `length` if omitted.
    port : int, anything with `__index__`, or (N,) array of int
        Ingress port.
    time : int or (N,) array of int
        Nanoseconds.

    Attributes
    ----------
    data, offset (int64), length, wire_length (uint32), port (uint16), time (int64)
        As above, contiguous.

    Raises
    ------
    TypeError, ValueError
        For a column of the wrong type or shape, a frame outside `data`, or a wire length below the length.

    Examples
    --------
    >>> batch = PacketBatch.from_frames([bytes(60), bytes(64)], port=1, time=[0, 1000])
    >>> len(batch), batch[1:].length.tolist()
    (2, [64])
    """

    __slots__ = ("data", "length", "offset", "port", "time", "wire_length")
    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(
        self,
        data: NDArray[np.uint8],
        offset: ArrayLike,
        length: ArrayLike,
        wire_length: ArrayLike | None = None,
        port: SupportsIndex | ArrayLike = 0,
        time: int | ArrayLike = 0,
    ) -> None:
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
            raise TypeError(
                f"data must be a (B,) ndarray of uint8, not {getattr(data, 'dtype', type(data).__name__)}"
            )
        if not data.flags.c_contiguous:
            raise ValueError("data must be contiguous")
        n = np.size(np.asarray(offset))
        if np.ndim(offset) != 1 or np.ndim(length) != 1:
            raise ValueError("offset and length are columns: one dimension each")
        self.data = data
        self.offset: NDArray[np.int64] = _column("offset", offset, n, np.int64)
        self.length: NDArray[np.uint32] = _column("length", length, n, np.uint32)
        self.wire_length: NDArray[np.uint32] = (
            self.length if wire_length is None else _column("wire_length", wire_length, n, np.uint32)
        )
        self.port: NDArray[np.uint16] = _column("port", port, n, np.uint16)
        self.time: NDArray[np.int64] = _column("time", time, n, np.int64)
        if n:
            outside = (self.offset < 0) | (self.offset > len(data) - self.length.astype(np.int64))
            if outside.any():
                i = int(outside.argmax())
                raise ValueError(
                    f"frame {i} at offset {self.offset[i]} with length {self.length[i]} is outside the {len(data)} "
                    "bytes of data"
                )
            if wire_length is not None and (self.wire_length < self.length).any():
                i = int((self.wire_length < self.length).argmax())
                raise ValueError(
                    f"wire_length {self.wire_length[i]} of frame {i} is below its length {self.length[i]}"
                )

    @classmethod
    def from_frames(
        cls,
        frames: Iterable[bytes | bytearray | memoryview],
        port: SupportsIndex | ArrayLike = 0,
        time: int | ArrayLike = 0,
        wire_length: ArrayLike | None = None,
    ) -> PacketBatch:
        """Make a batch of a list of frames; their bytes are copied once, into one buffer."""
        parts = [bytes(frame) if isinstance(frame, memoryview) else frame for frame in frames]
        length = np.fromiter(map(len, parts), np.int64, len(parts))
        data = np.frombuffer(bytearray().join(parts), np.uint8)
        return cls(data, np.cumsum(length) - length, length, wire_length, port, time)

    @classmethod
    def from_array(
        cls,
        frames: NDArray[np.uint8],
        length: ArrayLike | None = None,
        port: SupportsIndex | ArrayLike = 0,
        time: int | ArrayLike = 0,
    ) -> PacketBatch:
        """Make a batch of the rows of an (N, B) array of uint8, without copying.

        `length` gives the bytes that count of each row; all if omitted. Raises ValueError for an array that is not
        contiguous.
        """
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 2:
            raise TypeError("frames must be an (N, B) ndarray of uint8")
        if not frames.flags.c_contiguous:
            raise ValueError("frames must be contiguous: pass np.ascontiguousarray(frames)")
        n, width = frames.shape
        lengths = np.full(n, width, np.uint32) if length is None else length
        if np.size(lengths) and int(np.max(lengths)) > width:
            raise ValueError(f"length {int(np.max(lengths))} is more than the {width} bytes of a row")
        return cls(frames.reshape(-1), np.arange(n, dtype=np.int64) * width, lengths, None, port, time)

    @classmethod
    def concatenate(cls, batches: Sequence[PacketBatch]) -> PacketBatch:
        """Put batches one behind the other. Frames are copied, unless all batches share one buffer."""
        if not batches:
            return cls.from_frames([])
        columns = [
            np.concatenate([getattr(batch, name) for batch in batches])
            for name in ("length", "wire_length", "port", "time")
        ]
        if all(batch.data is batches[0].data for batch in batches):
            return cls(batches[0].data, np.concatenate([batch.offset for batch in batches]), *columns)
        data = np.concatenate([batch._bytes() for batch in batches])
        length = columns[0].astype(np.int64)
        return cls(data, np.cumsum(length) - length, *columns)

    def _bytes(self) -> NDArray[np.uint8]:
        """The frames' bytes in order and without gaps, copied."""
        out = np.empty(int(self.length.sum(dtype=np.int64)), np.uint8)
        gather(self.data, self.offset, self.length, out)
        return out

    def copy(self) -> PacketBatch:
        """The same frames in a buffer of their own, in order and without gaps."""
        length = self.length.astype(np.int64)
        return PacketBatch(
            self._bytes(),
            np.cumsum(length) - length,
            self.length.copy(),
            self.wire_length.copy(),
            self.port.copy(),
            self.time.copy(),
        )

    def __len__(self) -> int:
        return len(self.offset)

    @overload
    def __getitem__(self, key: int) -> memoryview: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | NDArray[Any]) -> PacketBatch: ...

    def __getitem__(self, key: Any) -> memoryview | PacketBatch:
        """Frame i as a memoryview; or, for a slice, a mask or an array of indices, a batch that shares the bytes."""
        if isinstance(key, (int, np.integer)):
            start = int(self.offset[key])
            return self.data.data[start : start + int(self.length[key])]
        batch = object.__new__(PacketBatch)
        batch.data = self.data
        for name in ("offset", "length", "wire_length", "port", "time"):
            setattr(batch, name, np.ascontiguousarray(getattr(self, name)[key]))
        return batch

    def __iter__(self) -> Iterator[memoryview]:
        view = self.data.data
        for start, length in zip(self.offset.tolist(), self.length.tolist(), strict=True):
            yield view[start : start + length]

    def frames(self) -> list[bytes]:
        """Copies of all frames."""
        return [bytes(frame) for frame in self]

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same frames, ports, times and lengths; where the bytes lie does not matter."""
        if not isinstance(other, PacketBatch):
            return NotImplemented
        columns = ("length", "wire_length", "port", "time")
        if len(self) != len(other) or any(
            not np.array_equal(getattr(self, name), getattr(other, name)) for name in columns
        ):
            return False
        return same_rows(self.data, self.offset, other.data, other.offset, self.length)

    def __repr__(self) -> str:
        cut = int(self.truncated.sum())
        size = int(self.wire_length.sum(dtype=np.int64))
        return f"<PacketBatch of {len(self)} packets, {size} bytes{f', {cut} cut off' if cut else ''}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Pickle; with protocol 5 the arrays go out of band. A batch that uses little of its buffer leaves the rest."""
        used = int(self.length.sum(dtype=np.int64))
        batch = self if used * 2 >= len(self.data) else self.copy()
        return PacketBatch, (
            batch.data,
            batch.offset,
            batch.length,
            batch.wire_length,
            batch.port,
            batch.time,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer and the columns."""
        columns = (self.data, self.offset, self.length, self.wire_length, self.port, self.time)
        return sum(column.nbytes for column in columns)

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """(N,) bool: the capture holds less of the packet than was on the wire."""
        return np.asarray(self.length < self.wire_length, np.bool_)

    def headers(self) -> NDArray[Any]:
        """Parsed fields of every frame.

        Returns
        -------
        (N,) structured ndarray
            One row a frame, no nested fields, so that `pandas.DataFrame(batch.headers())` works. Numbers are in host
            order, MACs are integers below 2**48. A field that the frame does not have is 0; `status` says how far the
            frame could be read (see `parse.Status`). `ip_checksum_ok` and `l4_checksum_ok` are 1 (right), 0 (wrong)
            or -1 (none, or not all of it is there).

        Notes
        -----
        A copy, made on demand for people and tests: forwarding does not use it.
        """
        return parse_headers(self.data, self.offset, self.length, self.wire_length)
