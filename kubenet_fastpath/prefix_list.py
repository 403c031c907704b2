"""A list of prefixes with labels, of either family or both, as tables that say which of its rows a lookup hit."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import AddressError
from .fib import RouteTable
from .lines import NO_LENGTH, addresses, fields, is_header
from .source import UTF8_MARK, load

__all__ = ["PrefixList", "read_prefixes"]

SAVED = b"KFROUTES"  # what a file that RouteTable.save has written begins with
WHOLE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class PrefixList:
    """Prefixes in order of the list.

    Attributes
    ----------
    prefixes : list of bytes
        Texts as they were given.
    labels : list of bytes
        What followed them; empty for nothing.
    tables : dict of RouteTable
        By family, 4 and 6: an address to the row of its longest prefix, `RouteTable.MISS` for none. A family that the
        list has nothing of has an empty table.
    """

    prefixes: list[bytes]
    labels: list[bytes]
    tables: dict[int, RouteTable]

    def rows(self, family: NDArray[np.uint8], halves: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The row of each address, by its family and upper and lower half; as `lines.addresses` gives them.

        Returns
        -------
        (N,) ndarray of uint32
            The number of rows where no prefix covers the address, one more where the family is neither 4 nor 6.
        """
        found = np.full(len(family), len(self.prefixes) + 1, np.uint32)
        for number, table in self.tables.items():
            mine = family == number
            every = bool(mine.all())
            if not (every or mine.any()):
                continue
            keys = halves if every else halves[mine]
            hit = table.lookup((keys[:, 0] >> np.uint64(32)).astype(np.uint32) if number == 4 else keys)
            hit[hit == RouteTable.MISS] = len(self.prefixes)
            if every:
                return hit
            found[mine] = hit
        return found


def _saved(path: str | os.PathLike[str]) -> PrefixList:
    """A saved table: its next hops are the labels."""
    table = RouteTable.open(path)
    networks, lens, hops = table.to_arrays()
    rows = np.arange(len(hops), dtype=np.uint32)
    mine = RouteTable.from_arrays(networks, lens, rows, family=table.family)
    other = 10 - table.family
    return PrefixList(
        [prefix.encode() for prefix in table.keys()],  # noqa: SIM118
        [b"%d" % hop for hop in hops.tolist()],
        {table.family: mine, other: RouteTable(family=other)},
    )


def _label(text: bytes) -> bytes:
    quoted = len(text) > 1 and text[:1] == text[-1:] == b'"'
    return text[1:-1].replace(b'""', b'"') if quoted else text


def read_prefixes(path: str | os.PathLike[str], *, mask_host_bits: bool = False) -> PrefixList:
    """Read a list of prefixes: text or CSV, gzipped or not, or a file that `RouteTable.save` has written.

    Parameters
    ----------
    path : path
        Lines `PREFIX`, `PREFIX LABEL` or `PREFIX,LABEL`; an address alone is a host prefix, a label is anything.
        Empty lines and what follows a `#` are skipped, as is a first line that begins with a column's name. Of
        equal prefixes the last wins.
    mask_host_bits : bool
        Clear bits that are set behind the prefix length, instead of refusing them.

    Raises
    ------
    OSError
        The file cannot be read.
    AddressError
        A line does not begin with a prefix; says which.
    TableFileError
        The saved table is damaged.
    """
    name = os.fspath(path)
    if os.path.isfile(path):  # what a pipe has can be read but once, and is text
        with open(path, "rb") as file:
            if file.read(len(SAVED)) == SAVED:
                return _saved(path)
    data, _, broken = load(path)
    if broken is not None:
        raise AddressError(f"{name}: {broken}")
    data = data[len(UTF8_MARK) :] if data[: len(UTF8_MARK)].tobytes() == UTF8_MARK else data
    start, end, rest, stop, line = fields(data)
    text = data.tobytes()
    if len(line) and line[0] == 0 and is_header(text[start[0] : end[0]]):
        start, end, rest, stop, line = start[1:], end[1:], rest[1:], stop[1:], line[1:]
    family, halves, lens = addresses(data, start, end)
    lens[(lens == NO_LENGTH) & (family == 4)] = 32
    lens[(lens == NO_LENGTH) & (family == 6)] = 128
    _read_netmasks(name, text, (start, end, line), family, halves, lens)
    behind = np.stack([lens, np.maximum(lens.astype(np.int64) - 64, 0)], axis=1)
    bits = np.where(behind < 64, WHOLE >> np.minimum(behind, 63).astype(np.uint64), np.uint64(0))
    if not mask_host_bits and len(wrong := np.flatnonzero((halves & bits).any(axis=1))):
        first = wrong[0]
        given = text[start[first] : end[first]].decode()
        raise AddressError(f"{name}, line {line[first] + 1}: has bits set behind its length: {given!r}")
    halves &= ~bits
    tables: dict[int, RouteTable] = {}
    rows = np.arange(len(family), dtype=np.uint32)
    for number in (4, 6):
        mine = family == number
        keys: NDArray[Any] = halves[mine]
        networks = (keys[:, 0] >> np.uint64(32)).astype(np.uint32) if number == 4 else keys
        tables[number] = RouteTable.from_arrays(networks, lens[mine], rows[mine], family=number)
    prefixes = [text[a:b] for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    labels = [_label(text[a:b]) if a < b else b"" for a, b in zip(rest.tolist(), stop.tolist(), strict=True)]
    return PrefixList(prefixes, labels, tables)


def _read_netmasks(
    name: str,
    text: bytes,
    where: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    family: NDArray[np.uint8],
    halves: NDArray[np.uint64],
    lens: NDArray[np.uint8],
) -> None:
    """Read what has a netmask for a length, which is rare, one by one; refuse the first that is no prefix at all."""
    start, end, line = where
    for row in np.flatnonzero(family == 0):
        given = text[start[row] : end[row]].decode(errors="backslashreplace")
        try:
            network = ipaddress.IPv4Interface(given).network if "/" in given else None
        except ValueError:
            network = None
        if network is None:
            raise AddressError(f"{name}, line {line[row] + 1}: not a prefix: {given!r}")
        address = int(ipaddress.IPv4Address(given.partition("/")[0]))
        family[row], halves[row, 0], lens[row] = 4, address << 32, network.prefixlen
