"""Batches of real frames: one buffer of bytes, a row of columns for each packet.

Longer than its neighbours: one class, a sequence of frames with all that Python asks of a sequence.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parse import parse_headers
from .rows import first_below, first_outside, gather, same_rows

__all__ = ["PacketBatch"]

COLUMNS = ("offset", "length", "wire_length", "port", "time")


def _column(name: str, values: ArrayLike | SupportsIndex, n: int, dtype: type) -> NDArray[Any]:
    """`values` as a contiguous column of n items, or a clear refusal."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__index__"):
        values = values.__index__()
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} takes integers, not {array.dtype}")
    if array.ndim > 1 or (array.ndim == 1 and len(array) != n):
        raise ValueError(f"{name} has shape {array.shape}, the batch has {n} packets")
    if array.dtype != dtype and array.size:
        limits = np.iinfo(dtype)
        lowest, highest = int(array.min()), int(array.max())
        if lowest < limits.min or highest > limits.max:
            wrong = lowest if lowest < limits.min else highest
            raise ValueError(f"{name} {wrong} does not fit {np.dtype(dtype)}")
    if array.ndim == 0:
        return np.full(n, array, dtype)
    return np.ascontiguousarray(array, dtype)


def _end(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.cumsum(lengths, dtype=np.int64)


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
        As above, contiguous. Arrays that have the right type already are used as they are, not copied.

    Raises
    ------
    TypeError, ValueError
        For a column of the wrong type or shape, a frame outside `data`, or a wire length below the length.

    Examples
    --------
    >>> batch = PacketBatch.from_frames([bytes(60), bytes(64)], port=1, time=[0, 1000])
    >>> batch
    <PacketBatch of 2 packets, 124 bytes>
    >>> bytes(batch[0]) == bytes(60), batch[1:].length.tolist(), batch[batch.time < 1000].time.tolist()
    (True, [64], [0])
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
            what = f"{data.dtype}{data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
            raise TypeError(f"data must be a (B,) ndarray of uint8, not {what}")
        if not data.flags.c_contiguous:
            raise ValueError("data must be contiguous")
        for name, column in (("offset", offset), ("length", length)):
            if np.ndim(column) != 1:
                raise ValueError(f"{name} must be a column of one dimension, not of {np.ndim(column)}")
        n = np.size(offset)
        self.data = data
        self.offset: NDArray[np.int64] = _column("offset", offset, n, np.int64)
        self.length: NDArray[np.uint32] = _column("length", length, n, np.uint32)
        self.wire_length: NDArray[np.uint32] = (
            self.length.copy() if wire_length is None else _column("wire_length", wire_length, n, np.uint32)
        )
        self.port: NDArray[np.uint16] = _column("port", port, n, np.uint16)
        self.time: NDArray[np.int64] = _column("time", time, n, np.int64)
        i = first_outside(len(data), self.offset, self.length)
        if i is not None:
            raise ValueError(
                f"frame {i} at offset {self.offset[i]} with length {self.length[i]} is outside the {len(data)} bytes "
                "of data"
            )
        i = first_below(self.wire_length, self.length)
        if i is not None:
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
        if isinstance(frames, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"frames must be a list of frames, not {type(frames).__name__}")
        parts = [
            frame if isinstance(frame, (bytes, bytearray)) else memoryview(frame).tobytes()
            for frame in frames
        ]
        length = np.fromiter(map(len, parts), np.int64, len(parts))
        data = np.frombuffer(bytearray().join(parts), np.uint8)
        return cls(data, _end(length) - length, length, wire_length, port, time)

    @classmethod
    def from_array(
        cls,
        frames: NDArray[np.uint8],
        length: ArrayLike | None = None,
        port: SupportsIndex | ArrayLike = 0,
        time: int | ArrayLike = 0,
        wire_length: ArrayLike | None = None,
    ) -> PacketBatch:
        """Make a batch of the rows of an (N, B) array of uint8, without copying.

        `length` gives the bytes that count of each row; all if omitted. The rows may be parts of a larger array
        (`array[::2, :60]`), but each has to be contiguous, in ascending order: ValueError otherwise.
        """
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 2:
            what = (
                f"{frames.dtype}{frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
            )
            raise TypeError(f"frames must be an (N, B) ndarray of uint8, not {what}")
        n, width = frames.shape
        step = frames.strides[0] if n > 1 and width else 0
        if frames.size == 0:
            data = np.empty(0, np.uint8)
        elif (width > 1 and frames.strides[1] != 1) or step < 0:
            raise ValueError("the rows of frames must be contiguous: pass np.ascontiguousarray(frames)")
        else:
            data = np.lib.stride_tricks.as_strided(frames, ((n - 1) * step + width,), (1,))
        lengths = np.full(n, width, np.uint32) if length is None else np.asarray(length)
        if lengths.size and int(lengths.max()) > width:
            raise ValueError(f"length {int(lengths.max())} is more than the {width} bytes of a row")
        return cls(data, np.arange(n, dtype=np.int64) * step, lengths, wire_length, port, time)

    @classmethod
    def concatenate(cls, batches: Iterable[PacketBatch]) -> PacketBatch:
        """Put batches one behind the other. Frames are copied, unless all batches share one buffer."""
        batches = list(batches)
        for batch in batches:
            if not isinstance(batch, PacketBatch):
                raise TypeError(f"concatenate takes batches, not {type(batch).__name__}")
        if not batches:
            return cls.from_frames([])
        offset, *columns = (np.concatenate([getattr(batch, name) for batch in batches]) for name in COLUMNS)
        data = batches[0].data
        if any(batch.data is not data for batch in batches):
            ends = _end(columns[0])
            data, offset, at = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8), ends - columns[0], 0
            for batch in batches:
                size = int(batch.length.sum(dtype=np.int64))
                gather(batch.data, batch.offset, batch.length, data[at : at + size])
                at += size
        return cls(data, offset, *columns)

    def copy(self) -> PacketBatch:
        """The same frames in a buffer of their own, in order and without gaps."""
        ends = _end(self.length)
        data = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        gather(self.data, self.offset, self.length, data)
        columns = (getattr(self, name).copy() for name in COLUMNS[1:])
        return PacketBatch(data, ends - self.length, *columns)

    def __len__(self) -> int:
        return len(self.offset)

    @overload
    def __getitem__(self, key: int) -> memoryview: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | NDArray[Any]) -> PacketBatch: ...

    def __getitem__(self, key: Any) -> memoryview | PacketBatch:
        """Frame i as a memoryview; or, for a slice, a mask or an array of indices, a batch that shares the bytes.

        Its columns are its own.
        """
        if not isinstance(key, (int, slice)):
            key = np.asarray(key, None if np.size(key) else np.intp)
            if key.ndim > 1:
                raise IndexError(f"packets are counted in one dimension, not in {key.ndim}")
        if isinstance(key, int) or (isinstance(key, np.ndarray) and key.ndim == 0):
            i = operator.index(key)
            start = int(self.offset[i])
            return self.data.data[start : start + int(self.length[i])]
        batch = object.__new__(PacketBatch)
        batch.data = self.data
        for name in COLUMNS:
            setattr(batch, name, np.array(getattr(self, name)[key]))
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
        if any(not np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS[1:]):
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
        return PacketBatch, (batch.data, *(getattr(batch, name) for name in COLUMNS))

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer and the columns."""
        columns: list[NDArray[Any]] = [getattr(self, name) for name in COLUMNS]
        return self.data.nbytes + sum(column.nbytes for column in columns)

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """(N,) bool: the capture holds less of the packet than was on the wire."""
        return np.asarray(self.length < self.wire_length, np.bool_)

    def headers(self) -> NDArray[Any]:
        """Parsed fields of every frame.

        Returns
        -------
        (N,) structured ndarray
            One row a frame and no nested fields, so that `pandas.DataFrame(batch.headers())` and
            `polars.DataFrame(batch.headers())` work. A field that the frame does not have is 0. In the frame's order:

            - `eth_dst`, `eth_src`: MACs, integers below 2**48. `eth_type` behind the VLAN tags, of which there are
              `vlan_tags` (2 at the most); `vlan_id`, of the outer one, and `inner_vlan_id`.
            - `status`: how far the frame could be read, a `parse.Status`.
            - `l3_offset`, `l4_offset`: bytes from the frame's beginning; fragments but the first have no `l4_offset`.
            - `ip_version` (4, 6), `ip_header_len`, `tos`, `ip_len` (as in the header: of an IPv4 packet, of an IPv6
              payload), `ip_id`, `df`, `mf`, `frag_offset` (bytes), `ttl`, `proto`. IPv6 extension headers are not
              followed: `proto` is the first.
            - `src`, `dst`: IPv4 addresses, or those of sender and target in ARP. `src6_high`, `src6_low`,
              `dst6_high`, `dst6_low`: halves of IPv6 addresses.
            - `sport`, `dport`: of TCP, UDP, UDP-Lite, SCTP. `tcp_seq`, `tcp_ack`, `tcp_header_len` (bytes),
              `tcp_flags`, `tcp_window`; `udp_len`; `icmp_type`, `icmp_code`, and `icmp_id`, `icmp_seq` of echoes and
              other queries, both families.
            - `payload_len`: bytes behind the last header, as the headers have it.
            - `ip_checksum_ok`, `l4_checksum_ok`: 1 (right), 0 (wrong), or -1: there is none, or not all of what it
              is about has been captured, or (UDP-Lite, SCTP) it was not looked at.
            - `arp_op`, `arp_sha`, `arp_tha`.

            Numbers are in host order, lengths in bytes.

        Notes
        -----
        A copy, made on demand for people and tests: forwarding does not use it.
        """
        return parse_headers(self.data, self.offset, self.length, self.wire_length)
