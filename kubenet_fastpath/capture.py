"""Capture files: pcap and pcapng in, pcap out.

Reading a file maps it: opening takes one walk over the record headers, frames are used where they lie, and what
forwarding writes stays in memory (copy on write). Streaming reads pieces instead, so its memory is bounded.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batch import PacketBatch
from .pcap import pcap_records
from .reader import ETHERNET, PCAP_HEADER, Reader
from .source import PIECE, Source, Stream, load

__all__ = ["PcapWriter", "iter_pcap", "read_pcap", "write_pcap"]

MOST = 1 << 25  # bytes of one record or block that streaming waits for before it gives up


def read_pcap(source: Source, port: SupportsIndex | ArrayLike = 0) -> PacketBatch:
    """Read a capture.

    Parameters
    ----------
    source : path or binary file object
        pcap (microseconds or nanoseconds, either byte order) or pcapng, plain or gzipped. Link types Ethernet, RAW,
        IPV4, IPV6, LINUX_SLL and LINUX_SLL2; all but the first become Ethernet frames (see `linktype`), by a copy.
    port : int, anything with `__index__`, or (N,) array of int
        Ingress port of the packets.

    Returns
    -------
    PacketBatch
        Its bytes are the mapped file, writable without changing the file; those of a gzip file or of a file object
        are in memory. Times are ns since 1970; simple packets of pcapng have none, theirs is 0.

    Raises
    ------
    CaptureError
        For a file that is no capture, or has only link types that cannot become Ethernet.
    OSError, MemoryError
        As `open` does; for a file that is too large to be mapped.

    Warns
    -----
    CaptureWarning
        When the file is cut off or broken: the batch has all packets before, and the warning says at which byte (of
        the decompressed file, if it is gzipped). When some interfaces of a pcapng file have a link type that cannot
        become Ethernet: the warning says how many packets are left out.

    Notes
    -----
    The file must not be made shorter while the batch is in use; `write_pcap` to its name is no danger.
    """
    data, name, broken = load(source)
    reader = Reader(data[:PCAP_HEADER].tobytes(), name, broken, port)
    packets, end, why = reader.scanner.scan(data, reader.start)
    batch = reader.batch(data, packets)
    reader.finish(end, len(data) - end, why or broken)
    return batch


def iter_pcap(source: Source, port: SupportsIndex = 0, batch_packets: int = 1 << 16) -> Iterator[PacketBatch]:
    """Read a capture in batches of bounded size; for files larger than memory, and for pipes.

    Parameters
    ----------
    source : path or binary file object
        As for `read_pcap`.
    port : int, or anything with `__index__`
        Ingress port of the packets.
    batch_packets : int
        Packets of a batch at the most. A batch also ends after about 16 MiB, and with what has arrived in a pipe.

    Returns
    -------
    iterator of PacketBatch
        Bytes are in memory; batches may share a buffer, but not a frame.

    Raises
    ------
    CaptureError, OSError
        As `read_pcap` does, when the first batch is asked for; for a pcapng file without any packet that could become
        an Ethernet frame, when it ends.
    ValueError
        For batch_packets below 1.

    Warns
    -----
    CaptureWarning
        As `read_pcap` does, after the last batch.

    Notes
    -----
    Some 64 MiB are in use, besides batches that the caller keeps. A pcapng block of more than 32 MiB stops it.
    """
    if batch_packets < 1:
        raise ValueError(f"batch_packets must be 1 or more, not {batch_packets}")
    return _batches(source, port, batch_packets)


def _batches(source: Source, port: SupportsIndex, most: int) -> Iterator[PacketBatch]:
    with Stream(source) as stream:
        data = _buffer(b"")
        while len(data) < PCAP_HEADER and (piece := stream.read()):
            data = _buffer(data, piece)
        reader = Reader(data[:PCAP_HEADER].tobytes(), stream.name, stream.broken, port)
        at, before = reader.start, 0  # `before`: bytes of the file in front of `data`
        while True:
            packets, at, why = reader.scanner.scan(data, at, most)
            if len(packets.offset) and len(batch := reader.batch(data, packets)):
                yield batch
                del batch  # memory is to be had by whoever gets it, and for the next piece
            if why is None and len(packets.offset) == most:
                continue
            if why is None and len(data) - at > MOST:
                why = "a block is larger than streaming can hold"
            if why or not (piece := stream.read()):
                break
            before += at
            data, at, piece = _buffer(data[at:], piece), 0, b""
        reader.finish(before + at, len(data) - at, why or stream.broken)


def _buffer(*parts: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes in a new array."""
    return np.concatenate([np.frombuffer(part, np.uint8) for part in parts])


class PcapWriter:
    """Writes batches to one pcap file of link type Ethernet.

    Parameters
    ----------
    target : path or binary file object
        A file object stays open. A file that exists is replaced, not overwritten: a batch may be mapped from it.
    nanoseconds : bool
        Resolution of the times; microseconds otherwise, rounded down.
    """

    def __init__(self, target: Source, nanoseconds: bool = True) -> None:
        self.nanoseconds = nanoseconds
        self._owned = isinstance(target, (str, os.PathLike))
        self._file: BinaryIO
        if isinstance(target, (str, os.PathLike)):
            path = os.path.realpath(target)
            if os.path.isfile(path):
                with contextlib.suppress(PermissionError):
                    os.unlink(path)
            self._file = open(path, "wb")  # noqa: SIM115
        else:
            self._file = target
        magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
        self._file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, ETHERNET))

    def write(self, batch: PacketBatch) -> None:
        """Append a batch.

        Raises
        ------
        ValueError
            For a time that a pcap file cannot hold (before 1970 or after 2106). Nothing has been written then.
        """
        _check_times(batch)
        ends = np.cumsum(batch.length, dtype=np.int64)
        start = 0
        while start < len(batch):  # in pieces: the records of a large batch need not be in memory at once
            part = batch[start : int(np.searchsorted(ends, ends[start] + PIECE))]
            records = pcap_records(
                part.data, part.offset, part.length, part.wire_length, part.time, self.nanoseconds
            )
            self._file.write(records.data)
            start += len(part)

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


def _check_times(batch: PacketBatch) -> None:
    for time in (int(batch.time.min()), int(batch.time.max())) if len(batch) else ():
        if not 0 <= time < 2**32 * 10**9:
            raise ValueError(f"time {time} ns does not fit a pcap file, which ends in 2106")


def write_pcap(target: Source, batch: PacketBatch, nanoseconds: bool = True) -> None:
    """Write a batch as a pcap file.

    Parameters
    ----------
    target : path or binary file object
        A file that exists is replaced, also if the batch is mapped from it. A file object stays open; one of
        `gzip.open` compresses.
    batch : PacketBatch
        Both lengths of each packet are written, ports are not.
    nanoseconds : bool
        Resolution of the times; microseconds otherwise, rounded down.

    Raises
    ------
    TypeError
        For what is no batch.
    ValueError
        For a time before 1970 or after 2106. Nothing has been written then.
    OSError
        As `open` does.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write_pcap(file, PacketBatch.from_frames([bytes(60)], time=5))
    >>> _ = file.seek(0)
    >>> read_pcap(file).time.tolist()
    [5]
    """
    if not isinstance(batch, PacketBatch):
        raise TypeError(f"batch must be a PacketBatch, not {type(batch).__name__}")
    _check_times(batch)
    with PcapWriter(target, nanoseconds) as writer:
        writer.write(batch)
