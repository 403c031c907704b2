"""What `RouteTable` is measured against, other than DPDK (`dpdk`): numpy, numba, and Python's radix trees.

A peer is built from routes, looks up a column of addresses, and gives next hops as uint32, MISS for none. `Absent`
says why one cannot take part.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .absent import Absent
from .route_tables import Routes

MISS = 0xFFFF_FFFF
MISS_15 = 0x7FFF  # in 16-bit slots, whose uppermost bit says that a group of 256 follows
SLOW_KEYS = 1 << 14  # addresses a round for peers that take them one by one


class Peer(Protocol):
    """One table of one library."""

    name: str
    nbytes: int | None  # of its table; None: it does not say

    def prepare(self, keys: NDArray[Any]) -> Any:
        """Bring addresses, or as many as it takes in a round, into the form that it takes; not measured."""

    def lookup(self, keys: Any) -> int:
        """Look up all of them, which is measured; how many there were."""

    def hops(self) -> NDArray[np.uint32]:
        """What the last lookup gave."""


def installed(name: str) -> Any:
    """Import a peer's module."""
    try:
        return import_module(name)
    except ImportError:
        raise Absent(f"{name} is not installed: pip install '.[bench]'") from None


def draw_dir24(routes: Routes) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """DIR-24-8 (Gupta, Lin, McKeown 1998) with 16-bit slots: (2**24,) and (groups * 256,)."""
    table = np.full(1 << 24, MISS_15, np.uint16)
    deep = routes.prefix_lens > 24
    heads = np.unique(routes.networks[deep] >> 8)
    if len(heads) >= 1 << 15:
        raise Absent(f"DIR-24-8 with 16-bit slots has 32,768 groups, not {len(heads)}")
    for length in range(25):
        rows = routes.prefix_lens == length
        size = 1 << 24 - length
        slots = (routes.networks[rows].astype(np.int64) >> 8)[:, None] + np.arange(size)
        table[slots] = routes.hops[rows][:, None]
    groups = np.repeat(table[heads], 256)
    for length in range(25, 33):
        rows = routes.prefix_lens == length
        group = np.searchsorted(heads, routes.networks[rows] >> 8)
        first = group * 256 + (routes.networks[rows].astype(np.int64) & 255)
        groups[first[:, None] + np.arange(1 << 32 - length)] = routes.hops[rows][:, None]
    table[heads] = np.arange(len(heads)) | 0x8000
    return table, groups


def sortable(keys: NDArray[Any]) -> NDArray[Any]:
    """Addresses as numpy can sort them: IPv6 as byte strings, whose order padding with zeros does not change."""
    return keys if keys.ndim == 1 else np.ascontiguousarray(keys).view("S16").ravel()


def flatten(routes: Routes) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """The table as ranges: sorted first addresses, and the next hop up to the next one."""
    bits = 32 if routes.family == 4 else 128
    packed = routes.networks if routes.family == 6 else routes.networks.astype(">u4").view(np.uint8)
    width = bits // 8
    raw = packed.tobytes()
    starts, hops = [0], [MISS]
    open_: list[tuple[int, int]] = [(1 << bits, MISS)]  # ends and hops of the prefixes around

    def close(until: int) -> None:
        while open_[-1][0] <= until and len(open_) > 1:
            end, _ = open_.pop()
            if end < 1 << bits:
                begin(end, open_[-1][1])

    def begin(start: int, hop: int) -> None:
        if starts[-1] == start:
            hops[-1] = hop
        elif hops[-1] != hop:
            starts.append(start)
            hops.append(hop)

    for i, (length, hop) in enumerate(zip(routes.prefix_lens.tolist(), routes.hops.tolist(), strict=True)):
        network = int.from_bytes(raw[i * width : (i + 1) * width], "big")
        close(network)
        begin(network, hop)
        open_.append((network + (1 << bits - length), hop))
    close(1 << bits)
    column = np.frombuffer(b"".join(start.to_bytes(width, "big") for start in starts), np.uint8)
    first = column.view(">u4").astype(np.uint32) if bits == 32 else sortable(column.reshape(-1, 16))
    return first, np.array(hops, np.uint32)


def widened(hops: NDArray[np.uint16] | NDArray[np.uint32]) -> NDArray[np.uint32]:
    """16-bit next hops as everybody's."""
    return np.where(hops == MISS_15, np.uint32(MISS), hops.astype(np.uint32))


class NumpyTake:
    """DIR-24-8 by `take`, what a numpy user would write first."""

    name = "numpy, DIR-24-8 by take"

    def __init__(self, routes: Routes) -> None:
        if routes.family == 6:
            raise Absent("DIR-24-8 is for IPv4")
        self._table, self._groups = draw_dir24(routes)
        self.nbytes = self._table.nbytes + self._groups.nbytes
        self._out = np.empty(0, np.uint16)

    def prepare(self, keys: NDArray[Any]) -> Any:
        return keys

    def lookup(self, keys: Any) -> int:
        out = self._table.take(keys >> 8)
        deep = np.flatnonzero(out & 0x8000)
        out[deep] = self._groups.take((out[deep].astype(np.int64) & 0x7FFF) << 8 | keys[deep] & 255)
        self._out = out
        return len(keys)

    def hops(self) -> NDArray[np.uint32]:
        return widened(self._out)


class NumbaDir24:
    """The same as a loop that numba compiles."""

    name = "numba, DIR-24-8 loop"

    def __init__(self, routes: Routes) -> None:
        if routes.family == 6:
            raise Absent("DIR-24-8 is for IPv4")
        numba = installed("numba")

        def loop(table, groups, keys, out):  # type: ignore[no-untyped-def]
            for i in range(keys.shape[0]):
                slot = table[keys[i] >> 8]
                if slot & 0x8000:
                    slot = groups[(np.int64(slot & 0x7FFF) << 8) + (keys[i] & 255)]
                out[i] = slot

        self._table, self._groups = draw_dir24(routes)
        self.nbytes = self._table.nbytes + self._groups.nbytes
        self._loop = numba.njit(nogil=True, boundscheck=False)(loop)
        self._out = np.empty(0, np.uint32)
        self.lookup(self.prepare(np.zeros(1, np.uint32)))  # compiles

    def prepare(self, keys: NDArray[Any]) -> Any:
        self._out = np.empty(len(keys), np.uint32)  # as wide as RouteTable's
        return keys

    def lookup(self, keys: Any) -> int:
        self._loop(self._table, self._groups, keys, self._out)
        return len(keys)

    def hops(self) -> NDArray[np.uint32]:
        return widened(self._out)


class NumpySearch:
    """Binary search over the table as ranges."""

    name = "numpy, searchsorted"

    def __init__(self, routes: Routes) -> None:
        self._first, self._hop = flatten(routes)
        self.nbytes = self._first.nbytes + self._hop.nbytes
        self._out = np.empty(0, np.uint32)

    def prepare(self, keys: NDArray[Any]) -> Any:
        return sortable(keys[: SLOW_KEYS * 8])

    def lookup(self, keys: Any) -> int:
        self._out = self._hop[np.searchsorted(self._first, keys, side="right") - 1]
        return len(keys)

    def hops(self) -> NDArray[np.uint32]:
        return self._out


class NumpySortedSearch(NumpySearch):
    """The same, over sorted addresses: the search then runs through the cache in order."""

    name = "numpy, sort + searchsorted"

    def lookup(self, keys: Any) -> int:
        order = np.argsort(keys)
        out = np.empty(len(keys), np.uint32)
        out[order] = self._hop[np.searchsorted(self._first, keys[order], side="right") - 1]
        self._out = out
        return len(keys)


class OneByOne:
    """A radix tree that takes one address a call, as bytes."""

    nbytes = None

    def __init__(self, name: str, find: Callable[[bytes], int | None]) -> None:
        self.name = name
        self._find = find
        self._out: list[int | None] = []

    def prepare(self, keys: NDArray[Any]) -> Any:
        some = keys[:SLOW_KEYS]
        width = 4 if some.ndim == 1 else 16
        raw = some.astype(">u4").tobytes() if some.ndim == 1 else some.tobytes()
        return [raw[i : i + width] for i in range(0, len(raw), width)]

    def lookup(self, keys: Any) -> int:
        find = self._find
        self._out = [find(key) for key in keys]
        return len(keys)

    def hops(self) -> NDArray[np.uint32]:
        return np.array([MISS if hop is None else hop for hop in self._out], np.uint32)


def pytricia(routes: Routes) -> OneByOne:
    bits = 32 if routes.family == 4 else 128
    tree = installed("pytricia").PyTricia(bits)
    for text, hop in zip(routes.texts(), routes.hops.tolist(), strict=True):
        tree.insert(text, hop)
    return OneByOne("pytricia", tree.get)


def py_radix(routes: Routes) -> OneByOne:
    tree = installed("radix").Radix()
    for text, hop in zip(routes.texts(), routes.hops.tolist(), strict=True):
        tree.add(text).data["hop"] = hop
    best = tree.search_best

    def find(key: bytes) -> int | None:
        node = best(packed=key)
        return None if node is None else node.data["hop"]

    return OneByOne("py-radix", find)


def pysubnettree(routes: Routes) -> OneByOne:
    tree = installed("SubnetTree").SubnetTree()
    for text, hop in zip(routes.texts(), routes.hops.tolist(), strict=True):
        tree[text] = hop
    tree.set_binary_lookup_mode(True)

    def find(key: bytes) -> int | None:
        try:
            return tree[key]
        except KeyError:
            return None

    return OneByOne("pysubnettree", find)


NUMPY: tuple[Callable[[Routes], Peer], ...] = (NumpyTake, NumpySearch, NumpySortedSearch)
NUMBA: tuple[Callable[[Routes], Peer], ...] = (NumbaDir24,)
PYTHON: tuple[Callable[[Routes], Peer], ...] = (pytricia, py_radix, pysubnettree)
