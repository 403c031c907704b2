"""Addresses to look up, from wherever they are: arguments, a pipe, text, CSV or Parquet, in blocks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import AddressError, FastpathError
from .lines import NO_LENGTH, addresses, fields, is_header
from .source import UTF8_MARK, Stream

__all__ = ["Block", "SourceError", "open_addresses", "read_addresses", "read_parquet"]

BLOCK = 1 << 20  # bytes of text at a time, which with their columns stay in the cache
PARQUET = b"PAR1"
ROWS = 1 << 16  # of a Parquet file at a time


class SourceError(FastpathError, ValueError):
    """A file whose column of addresses cannot be found or read."""


class Block(NamedTuple):
    """Texts in a buffer: (B,) uint8, and where each is, (N,) int64."""

    data: NDArray[np.uint8]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def _texts(given: list[str]) -> Block:
    """The block of texts that are in hand."""
    encoded = [text.encode(errors="surrogateescape") for text in given]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded), np.uint8)
    return Block(data, ends - np.array([len(text) for text in encoded], np.int64), ends)


def _whole_lines(stream: Stream) -> Iterator[bytes]:
    """The stream in blocks that end with a line; what a pipe has is handed on as it comes."""
    held: list[bytes] = []
    while piece := stream.read():
        cut = piece.rfind(b"\n") + 1
        if not cut:
            held.append(piece)
            continue
        held.append(piece[:cut])
        whole = b"".join(held)
        held = [piece[cut:]]
        at = 0
        while at < len(whole):
            end = len(whole) if at + BLOCK >= len(whole) else whole.find(b"\n", at + BLOCK) + 1
            yield whole[at:end]
            at = end
    if rest := b"".join(held):
        yield rest
    if stream.broken is not None:
        raise SourceError(f"{stream.name}: {stream.broken}")


def _delimiter(header: str) -> str:
    return next((mark for mark in ",\t;" if mark in header), ",")


def _number_of(name: str, column: str, names: list[str]) -> int:
    """Which column is meant, from 0."""
    if column in names:
        return names.index(column)
    if column.isdecimal() and int(column) >= 1:
        if int(column) > len(names):
            raise SourceError(f"{name} has {len(names)} columns, no column {column}")
        return int(column) - 1
    raise SourceError(f"{name} has no column {column!r}, but {', '.join(map(repr, names))}")


def read_addresses(source: Path | BinaryIO, column: str | None = None) -> Iterator[Block]:
    """Read addresses from text, gzipped or not, a block at a time.

    Parameters
    ----------
    source : Path or binary file object
        Without `column` the first word of each line counts; empty lines and what follows a `#` are skipped.
    column : str, optional
        Name or number, from 1, of a column of CSV between commas, tabs or semicolons. A first line that has
        no address there, but a name, is skipped.

    Raises
    ------
    OSError
        The file cannot be read.
    SourceError
        It has no such column; its compression is damaged.
    """
    with Stream(source) as stream:
        number, delimiter = -1, ","
        for i, lines in enumerate(_whole_lines(stream)):
            first = i == 0
            if first:
                lines = lines.removeprefix(UTF8_MARK)
            if first and column is not None:
                header = lines.partition(b"\n")[0].decode(errors="replace").rstrip("\r")
                delimiter = _delimiter(header)
                try:
                    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
                except csv.Error as error:
                    raise SourceError(
                        f"{stream.name}: its first line is no header of CSV ({error})"
                    ) from None
                number = _number_of(stream.name, column, names)
            data = np.frombuffer(lines, np.uint8)
            start, end, *_ = fields(data, number, ord(delimiter))
            if first and column is not None and len(start):
                name = lines[start[0] : end[0]]
                family, _, _ = addresses(data, start[:1], end[:1])
                if family[0] == 0 and (name.decode(errors="replace") == column or is_header(name)):
                    start, end = start[1:], end[1:]
            yield Block(data, start, end)


def read_parquet(path: Path, column: str | None = None) -> Iterator[Block]:
    """Read addresses from a column of text of a Parquet file, a block at a time.

    Raises
    ------
    OSError
        The file cannot be read.
    SourceError
        pyarrow is not installed; the file is damaged, has several columns and none is named, no such column, or
        one of another type.
    """
    try:
        pa: Any = import_module("pyarrow")
        pq: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise SourceError(
            "Parquet needs pyarrow, which is not installed: pip install 'kubenet-fastpath[parquet]'"
        ) from None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column is None and len(names) != 1:
                raise SourceError(
                    f"{path} has {len(names)} columns: say which by --column, {', '.join(names)}"
                )
            name = names[_number_of(str(path), column, names) if column is not None else 0]
            kind = file.schema_arrow.field(name).type
            value = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (
                pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_binary(value)
            ):
                raise SourceError(f"{path}: column {name!r} has the type {kind}, addresses are text")
            for batch in file.iter_batches(batch_size=ROWS, columns=[name]):
                yield _block_of(batch.column(0).cast(value).cast(pa.large_binary()))
    except pa.ArrowException as error:
        raise SourceError(f"{path}: {error}") from None


def _block_of(column: Any) -> Block:
    """The texts of an Arrow array where they lie; a null is an empty one."""
    _, offsets, data = column.buffers()
    if not len(column):
        return _texts([])
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    start, end = bounds[:-1], bounds[1:]
    if column.null_count:
        end = np.where(column.is_valid().to_numpy(zero_copy_only=False), end, start)
    return Block(np.frombuffer(data or b"", np.uint8), start, end)


def _is_parquet(path: Path) -> bool:
    """Whether the file begins as Parquet does; what a pipe has can be read but once, and is text."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def open_addresses(given: list[str], stdin: BinaryIO, column: str | None = None) -> Iterator[Block]:
    """Read from all that the command line names, in order.

    Parameters
    ----------
    given : list of str
        Addresses, names of files, `-` for `stdin`.
    stdin : binary file object
    column : str, optional
        As in `read_addresses`, of files and `stdin`.

    Raises
    ------
    AddressError
        A word is neither an address nor a file; nothing has been read then.
    OSError, SourceError
        As `read_addresses` and `read_parquet`.
    """
    block = _texts(given)
    family, _, length = addresses(*block)
    literal = (family != 0) & (length == NO_LENGTH)
    for word, is_address in zip(given, literal, strict=True):
        if not (is_address or word == "-" or (word and Path(word).exists())):
            raise AddressError(f"{word!r} is neither an address nor a file")
    return _opened(given, literal.tolist(), stdin, column)


def _opened(given: list[str], literal: list[bool], stdin: BinaryIO, column: str | None) -> Iterator[Block]:
    for is_address, pairs in groupby(zip(literal, given, strict=True), lambda pair: pair[0]):
        words = [word for _, word in pairs]
        if is_address:
            yield _texts(words)
            continue
        for word in words:
            if word == "-":
                yield from read_addresses(stdin, column)
            elif _is_parquet(Path(word)):
                yield from read_parquet(Path(word), column)
            else:
                yield from read_addresses(Path(word), column)
