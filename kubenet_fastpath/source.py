"""The bytes of a capture file: mapped, or read piece by piece, and decompressed if they are gzipped."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

GZIP = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"  # what some programs begin a text with
PIECE = 1 << 24  # bytes that are read at a time
PACKED = 1 << 16  # compressed bytes that are unpacked at a time: what a broken file may cost

Source = str | os.PathLike[str] | BinaryIO


class Stream:
    """Reads a source from where it stands to its end.

    Parameters
    ----------
    source : path or binary file object
        A file object stays open.

    Attributes
    ----------
    name : str
        What to call the source.
    broken : str or None
        Why its compression cannot be read any further.
    """

    def __init__(self, source: Source) -> None:
        self.broken: str | None = None
        self._owned = isinstance(source, (str, os.PathLike))
        self._file: Any = source
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            self._file = open(source, "rb")  # noqa: SIM115
        elif hasattr(source, "read"):
            self.name = str(getattr(source, "name", "the file"))
        else:
            raise TypeError(f"source must be a path or a binary file object, not {type(source).__name__}")
        # what a pipe has is taken as it comes: the next bytes may be long in coming
        seekable = getattr(self._file, "seekable", bool)()
        self._some = getattr(self._file, "read1", self._file.read) if not seekable else self._file.read
        self._ahead = b""
        while len(self._ahead) < len(GZIP) and (more := self._take(len(GZIP))):
            self._ahead += more
        self._unzip: Any = zlib.decompressobj(wbits=31) if self._ahead[:2] == GZIP else None

    def _take(self, most: int) -> bytes:
        piece = self._some(most)
        if not isinstance(piece, bytes):
            raise TypeError(f"source must be a binary file object, but reads {type(piece).__name__}")
        return piece

    @property
    def compressed(self) -> bool:
        """Whether the source is a gzip file."""
        return self._unzip is not None

    def read(self) -> bytes:
        """Return the next bytes, as many as there are but no more than PIECE; none at the end."""
        if self._unzip is not None:
            return self._inflate()
        piece, self._ahead = self._ahead, b""
        return piece or self._take(PIECE)

    def _inflate(self) -> bytes:
        parts: list[bytes] = []
        room = PIECE
        while room > 0 and self.broken is None:
            if self._unzip.eof:  # files may be several gzip files, one behind the other, and zeros
                rest = self._unzip.unused_data.lstrip(b"\0") or self._take(PACKED).lstrip(b"\0")
                if not rest:
                    break
                self._unzip, self._ahead = zlib.decompressobj(wbits=31), rest
            packed = self._unzip.unconsumed_tail or self._ahead or self._take(PACKED)
            self._ahead = b""
            if not packed:
                self.broken = "its compressed data end too early"
                break
            before = self._unzip.copy()
            try:
                parts.append(self._unzip.decompress(packed, room))
            except zlib.error as error:
                self.broken = f"its compressed data are damaged ({error})"
                parts.append(_sound(before, packed))
            room -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _sound(unzip: Any, packed: bytes) -> bytes:
    """What comes out of compressed bytes before the one that is damaged; zlib gives nothing when asked for all."""
    parts = []
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            parts.append(unzip.decompress(packed[i : i + 1]))
    return b"".join(parts)


def load(source: Source) -> tuple[NDArray[np.uint8], str, str | None]:
    """All bytes of a source, what to call it, and why there are not more of them.

    An ordinary file is mapped, copy on write: nothing that is written to the array reaches the file.
    """
    if isinstance(source, (str, os.PathLike)) and stat.S_ISREG(os.stat(source).st_mode):
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size and file.read(len(GZIP)) != GZIP:
                return np.frombuffer(_map(file, size), np.uint8), os.fspath(source), None
    content = bytearray()
    with Stream(source) as stream:
        while piece := stream.read():
            content += piece
        return np.frombuffer(content, np.uint8), stream.name, stream.broken


def _map(file: BinaryIO, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(
            f"{file.name} has {size} bytes, too many to map: iter_pcap reads it in batches"
        ) from None
