"""Which prefix covers each address: lines of text, CSV or JSON, block by block, as fast as they come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from .address_source import Block
from .lines import NO_LENGTH, addresses, join
from .prefix_list import PrefixList

__all__ = ["Format", "Lookup"]

MISS = (
    b"-"  # in place of prefix and label, where no prefix covers the address; of a label, where there is none
)
BAD = b"!"  # in place of the prefix, where there is no address
WHY = b"not an address"
IPV4_WIDTH = 15  # of the first column, aligned, as long as nothing longer was seen


class Format(Enum):
    """How a line is written."""

    TABS = "tabs"
    ALIGNED = "aligned"
    CSV = "csv"
    JSON = "json"


def _json(text: bytes) -> bytes:
    return json.dumps(text.decode(errors="backslashreplace")).encode()


def _csv(text: bytes) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([text.decode(errors="backslashreplace"), ""])
    return line.getvalue()[:-1].encode()


def _printable(text: bytes) -> bytes:
    """The text without what would move a terminal's cursor or end a column."""
    word = text.decode(errors="backslashreplace")
    if not word.isprintable():
        word = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in word)
    return word.encode()


@dataclass
class Lookup:
    """A list of prefixes, ready to write lines of one format.

    Attributes
    ----------
    table : PrefixList
    form : Format
    found, missed, bad : int
        How many addresses have a prefix, have none, and were none.
    """

    table: PrefixList
    form: Format
    found: int = 0
    missed: int = 0
    bad: int = 0

    def __post_init__(self) -> None:
        table = self.table
        tails: Iterable[bytes]
        self._head, self._width = b"", 0
        self._safe: Callable[[bytes], bytes] = _printable
        if self.form is Format.JSON:
            self._head = b'{"address": "'
            self._safe = lambda text: _json(text)[1:-1]
            ends = (b', "label": %s}\n' % (_json(label) if label else b"null") for label in table.labels)
            tails = [
                *(
                    b'", "prefix": "%s"%s' % (prefix, end)
                    for prefix, end in zip(table.prefixes, ends, strict=True)
                ),
                b'", "prefix": null, "label": null}\n',
                b'", "error": "%s"}\n' % WHY,
            ]
        elif self.form is Format.CSV:
            self._safe = _csv
            pairs = zip(table.prefixes, table.labels, strict=True)
            tails = [
                *(b",%s,%s\n" % (prefix, _csv(label) if label else MISS) for prefix, label in pairs),
                b",%s,%s\n" % (MISS, MISS),
                b",%s,%s\n" % (BAD, WHY),
            ]
        else:
            labels = [_printable(label) if label else MISS for label in table.labels]
            prefixes = [*table.prefixes, MISS, BAD]
            labels += [MISS, WHY]
            if self.form is Format.ALIGNED:
                self._width = IPV4_WIDTH
                width = max(map(len, prefixes))
                tails = [
                    b"  %s  %s\n" % (p.ljust(width), label) for p, label in zip(prefixes, labels, strict=True)
                ]
            else:
                tails = [b"\t%s\t%s\n" % pair for pair in zip(prefixes, labels, strict=True)]
        tails = list(tails)
        self._tails = np.frombuffer(b"".join(tails), np.uint8)
        self._offset = np.concatenate([[0], np.cumsum([len(tail) for tail in tails], dtype=np.int64)])

    @property
    def header(self) -> bytes:
        """What comes before the first line."""
        return b"address,prefix,label\n" if self.form is Format.CSV else b""

    def lines(self, block: Block) -> bytes:
        """The line of each text of a block: itself, prefix and label."""
        data, start, end = block
        family, halves, length = addresses(data, start, end)
        family[length != NO_LENGTH] = 0  # a prefix is no address
        row = self.table.rows(family, halves)
        prefixes = len(self.table.prefixes)
        bad = np.flatnonzero(row == prefixes + 1)
        missed = int(np.count_nonzero(row == prefixes))
        self.bad += len(bad)
        self.missed += missed
        self.found += len(row) - missed - len(bad)
        if len(bad):  # their texts may have anything in them
            given = [self._safe(data[start[i] : end[i]].tobytes()) for i in bad]
            after = np.cumsum([len(text) for text in given]) + len(data)
            data = np.concatenate([data, np.frombuffer(b"".join(given), np.uint8)])
            start, end = start.copy(), end.copy()
            start[bad], end[bad] = after - [len(text) for text in given], after
        if self._width:
            self._width = max(self._width, int((end - start).max(initial=0)))
        return join(data, start, end, row, self._tails, self._offset, self._head, self._width)

    def run(self, blocks: Iterable[Block]) -> Iterator[bytes]:
        """The header, and each block's lines."""
        yield self.header
        for block in blocks:
            yield self.lines(block)
