"""Capture files: pcap and pcapng in, pcap out.

Reading a file maps it: opening takes one walk over the record headers, frames are used where they lie, and what
forwarding writes stays in memory (copy on write). Streaming reads pieces instead, so its memory is bounded.
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batch import PacketBatch
from .errors import CaptureError, CaptureWarning
from .linktype import NAMES, READABLE, to_ethernet
from .pcap import PcapScanner
from .pcapng import PcapngScanner

__all__ = ["iter_pcap", "read_pcap", "write_pcap"]

GZIP = b"\x1f\x8b"
PCAPNG = b"\x0a\x0d\x0d\x0a"
PIECE = 1 << 24  # bytes that streaming reads at a time
MOST = 1 << 25  # bytes that streaming holds for one packet before it gives up

Source = str | os.PathLike[str] | BinaryIO


def _scanner(head: bytes, name: str) -> tuple[PcapScanner | PcapngScanner, int]:
    """The scanner for a file that begins with `head`, and where its first record or block is."""
    if not head:
        raise CaptureError(f"{name} is empty, not a capture")
    if head[:4] == PCAPNG:
        return PcapngScanner(), 0
    try:
        return PcapScanner(head[:24]), 24
    except CaptureError as error:
        raise CaptureError(f"{name} is no capture that can be read: {error}") from None


def _refuse(link_types: Counter[int], name: str) -> None:
    """Complain of link types that cannot become Ethernet: an error if there is nothing else, else a warning."""
    bad = {t: n for t, n in link_types.items() if t not in READABLE}
    if not bad:
        return
    words = ", ".join(f"{NAMES.get(t, 'LINKTYPE')} ({t})" for t in sorted(bad))
    if len(bad) == len(link_types):
        raise CaptureError(f"{name} has link type {words}, which cannot become Ethernet frames")
    warnings.warn(
        f"{name}: {sum(bad.values())} packets of link type {words} are left out", CaptureWarning, stacklevel=4
    )


def _batch(
    data: NDArray[np.uint8], rows: NDArray[Any], port: SupportsIndex | ArrayLike, name: str
) -> PacketBatch:
    """Packets of a scan as a batch; only other link layers than Ethernet are copied."""
    kinds = Counter(
        dict(zip(*(a.tolist() for a in np.unique(rows["link_type"], return_counts=True)), strict=True))
    )
    _refuse(kinds, name)
    if any(kind not in READABLE for kind in kinds):
        rows = rows[np.isin(rows["link_type"], list(READABLE))]
    offset, length, wire_length = (np.ascontiguousarray(rows[c]) for c in ("offset", "length", "wire_length"))
    if any(kind != 1 for kind in kinds):
        data, offset, length, wire_length = to_ethernet(
            data, offset, length, wire_length, np.ascontiguousarray(rows["link_type"])
        )
    return PacketBatch(data, offset, length, wire_length, port, np.ascontiguousarray(rows["time"]))


def _warn_broken(name: str, at: int, left: int, why: str | None) -> None:
    reason = why or f"the file ends in a record, {left} bytes behind its beginning"
    warnings.warn(f"{name} broke at byte {at}: {reason}", CaptureWarning, stacklevel=3)


def _whole(source: Source) -> tuple[NDArray[np.uint8], str]:
    """All bytes of a source, mapped if it is an ordinary file."""
    if not isinstance(source, (str, os.PathLike)):
        content = source.read()
        name = str(getattr(source, "name", "the file"))
    else:
        name = os.fspath(source)
        with open(source, "rb") as file:
            head = file.read(2)
            if head != GZIP and file.seekable() and os.fstat(file.fileno()).st_size > 0:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                return np.frombuffer(mapped, np.uint8), name
            content = head + file.read()
    if content[:2] == GZIP:
        content = _unzip(content, name)
    return np.frombuffer(bytearray(content), np.uint8), name


def _unzip(content: bytes, name: str) -> bytes:
    """Decompress as much as can be."""
    parts = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while part := stream.read(PIECE):
                parts.append(part)
    except (EOFError, OSError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        if not parts:
            raise CaptureError(f"{name} is a gzip file that cannot be read: {error}") from None
        warnings.warn(f"{name} broke in its compression: {error}", CaptureWarning, stacklevel=4)
    return b"".join(parts)


def read_pcap(source: Source, port: SupportsIndex | ArrayLike = 0) -> PacketBatch:
    """Read a capture.

    Parameters
    ----------
    source : path or binary file object
        pcap (microseconds or nanoseconds, either byte order) or pcapng, plain or gzipped. Link types Ethernet, RAW,
        IPV4, IPV6, LINUX_SLL and LINUX_SLL2; all but the first become Ethernet frames, by a copy.
    port : int, anything with `__index__`, or (N,) array of int
        Ingress port of the packets.

    Returns
    -------
    PacketBatch
        Its bytes are the mapped file, writable without changing the file; times are ns since 1970.

    Raises
    ------
    CaptureError
        For a file that is no capture, or has only link types that cannot become Ethernet. OSError as `open` does.

    Warns
    -----
    CaptureWarning
        When the file is cut off or broken: the batch has all packets before, and the warning says at which byte. When
        some interfaces of a pcapng file have a link type that cannot be read: their packets are left out.

    Notes
    -----
    The file must not be made shorter while the batch is in use.
    """
    data, name = _whole(source)
    scanner, start = _scanner(data[:24].tobytes(), name)
    rows, end, broken = scanner.scan(data, start)
    if broken is not None or end < len(data):
        _warn_broken(name, end, len(data) - end, broken)
    return _batch(data, rows, port, name)


def iter_pcap(
    source: Source, port: SupportsIndex | ArrayLike = 0, batch_packets: int = 1 << 16
) -> Iterator[PacketBatch]:
    """Read a capture in batches of bounded size; for files larger than memory, and for pipes.

    Parameters
    ----------
    source, port
        As for `read_pcap`.
    batch_packets : int
        Packets of a batch at the most; a batch also ends after 16 MiB.

    Yields
    ------
    PacketBatch
        With bytes of its own.

    Raises
    ------
    CaptureError, ValueError
        As `read_pcap` does, before the first batch or where the trouble is.

    Warns
    -----
    CaptureWarning
        As `read_pcap` does.
    """
    if batch_packets < 1:
        raise ValueError(f"batch_packets must be 1 or more, not {batch_packets}")
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            yield from _stream(file, os.fspath(source), port, batch_packets)
    else:
        yield from _stream(source, str(getattr(source, "name", "the file")), port, batch_packets)


def _stream(file: BinaryIO, name: str, port: SupportsIndex | ArrayLike, most: int) -> Iterator[PacketBatch]:
    buffered = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
    if buffered.peek(2)[:2] == GZIP:
        buffered = cast(Any, gzip.GzipFile(fileobj=buffered))
    head = _read(buffered, PIECE, name)
    scanner, at = _scanner(head[:24], name)
    data, before = (
        np.frombuffer(bytearray(head), np.uint8),
        0,
    )  # `before`: bytes of the file in front of `data`
    while True:
        rows, end, broken = scanner.scan(data, at, most)
        if len(rows):
            yield _batch(data, rows, port, name)
        at = end
        left = len(data) - at
        if broken is not None or left > MOST:
            _warn_broken(name, before + at, left, broken or "a record is too large")
            return
        if len(rows) == most:
            continue
        piece = _read(buffered, PIECE, name)
        if not piece:
            if left:
                _warn_broken(name, before + at, left, None)
            return
        before += at
        data, at = np.frombuffer(bytearray(data[at:].tobytes() + piece), np.uint8), 0


def _read(file: Any, n: int, name: str) -> bytes:
    """Up to n bytes; fewer at the end only."""
    parts, got = [], 0
    try:
        while got < n and (part := file.read(n - got)):
            parts.append(part)
            got += len(part)
    except (EOFError, OSError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        if not isinstance(file, gzip.GzipFile):
            raise
        warnings.warn(f"{name} broke in its compression: {error}", CaptureWarning, stacklevel=4)
    return b"".join(parts)


class PcapWriter:
    """Writes batches to one pcap file of link type Ethernet.

    Parameters
    ----------
    target : path or binary file object
        A file object stays open.
    nanoseconds : bool
        Resolution of the times; microseconds otherwise, rounded down.
    """

    def __init__(self, target: Source, nanoseconds: bool = True) -> None:
        self.nanoseconds = nanoseconds
        self._owned = isinstance(target, (str, os.PathLike))
        self._file: BinaryIO = open(target, "wb") if isinstance(target, (str, os.PathLike)) else target  # noqa: SIM115
        magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
        self._file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, 1))

    def write(self, batch: PacketBatch) -> None:
        """Append a batch.

        Raises
        ------
        ValueError
            For a time that a pcap file cannot hold (before 1970 or after 2106). Nothing has been written then.
        """
        n = len(batch)
        seconds, fraction = np.divmod(batch.time, 1_000_000_000)
        if n and (int(seconds.min()) < 0 or int(seconds.max()) >> 32):
            raise ValueError(f"time {int(batch.time[seconds.argmin()])} ns does not fit a pcap file")
        records = np.empty((n, 4), "<u4")
        records[:, 0], records[:, 1] = seconds, fraction if self.nanoseconds else fraction // 1000
        records[:, 2], records[:, 3] = batch.length, batch.wire_length
        heads = np.ascontiguousarray(records).view(np.uint8).reshape(-1)
        if int(batch.length.sum(dtype=np.int64)) * 2 < len(batch.data):
            batch = batch.copy()
        # header and frame in turn, each a row: one gather writes both
        size = np.empty(2 * n, np.int64)
        size[0::2], size[1::2] = 16, batch.length
        offset = np.empty(2 * n, np.int64)
        offset[0::2], offset[1::2] = np.arange(n) * 16, batch.offset + len(heads)
        joined = PacketBatch(np.concatenate((heads, batch.data)), offset, size) if n else batch
        self._file.write(joined.copy().data.tobytes() if n else b"")

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()
        else:
            self._file.flush()

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def write_pcap(target: Source, batch: PacketBatch, nanoseconds: bool = True) -> None:
    """Write a batch as a pcap file.

    Parameters
    ----------
    target : path or binary file object
    batch : PacketBatch
        Both lengths of each packet are written, ports are not.
    nanoseconds : bool
        Resolution of the times; microseconds otherwise, rounded down.

    Raises
    ------
    ValueError
        For a time before 1970 or after 2106. OSError as `open` does.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write_pcap(file, PacketBatch.from_frames([bytes(60)], time=5))
    >>> _ = file.seek(0)
    >>> read_pcap(file).time.tolist()
    [5]
    """
    if isinstance(target, (str, os.PathLike)):
        target = Path(target)
    with PcapWriter(target, nanoseconds) as writer:
        writer.write(batch)
