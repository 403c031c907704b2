"""Routes for benchmarks: a full Internet table of either family, real or synthetic, and a kubenet node's.

The synthetic table has exactly the prefixes per length of the global table that github.com/gaissmai/bart keeps for
its tests (901,899 IPv4 and 160,147 IPv6 prefixes), and about its clustering, by two figures per length that were
counted there: how many prefixes lie inside a shorter one (`NESTED`), and how many begin where another of the same
length ends (`ADJACENT`), as announcements of one network in pieces do. It is made length by length: runs of
neighbours with a geometric number of members, the nested ones inside random shorter prefixes, the others where no
prefix is, in regions that are in use, whose weights are log-normal, for registries fill some more than others.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 2028
HOPS = 1024  # different next hops of a full table
NODES = 400  # of the cluster that the node table is of

#: Prefixes by length.
LENGTHS = {
    4: {
        8: 16, 9: 13, 10: 38, 11: 103, 12: 299, 13: 581, 14: 1203, 15: 2100, 16: 13490, 17: 8235, 18: 13798,
        19: 24870, 20: 42611, 21: 50750, 22: 108623, 23: 96510, 24: 537698, 25: 20, 26: 3, 27: 11, 28: 18, 29: 17,
        30: 3, 31: 3, 32: 886,
    },
    6: {
        16: 1, 19: 1, 20: 16, 21: 3, 22: 7, 23: 8, 24: 30, 25: 8, 26: 15, 27: 20, 28: 193, 29: 4371, 30: 650,
        31: 284, 32: 22548, 33: 2926, 34: 2603, 35: 1043, 36: 5996, 37: 880, 38: 1617, 39: 1377, 40: 13418,
        41: 903, 42: 2301, 43: 1001, 44: 14365, 45: 1553, 46: 3039, 47: 3153, 48: 75488, 49: 11, 50: 3, 52: 1,
        55: 1, 56: 24, 58: 20, 60: 2, 64: 184, 112: 2, 122: 1, 124: 4, 125: 9, 126: 19, 127: 42, 128: 6,
    },
}  # fmt: skip
#: Share that lies inside a shorter prefix; nearest length that is listed.
NESTED = {
    4: {
        8: 0.0,
        12: 0.1,
        15: 0.2,
        16: 0.24,
        17: 0.46,
        19: 0.39,
        20: 0.54,
        22: 0.45,
        23: 0.57,
        24: 0.51,
        25: 1.0,
    },
    6: {
        20: 0.0,
        28: 0.3,
        29: 0.01,
        30: 0.45,
        32: 0.25,
        33: 0.8,
        36: 0.57,
        40: 0.75,
        44: 0.72,
        48: 0.59,
        49: 1.0,
    },
}
#: Share that begins where a neighbour of the same length ends.
ADJACENT = {
    4: {8: 0.25, 15: 0.3, 16: 0.6, 17: 0.45, 22: 0.54, 23: 0.44, 24: 0.69, 32: 0.25},
    6: {20: 0.0, 30: 0.4, 32: 0.3, 34: 0.6, 48: 0.58, 64: 0.24},
}
#: Regions in use, all of IPv4 and some of IPv6: how long their prefix is, and how many there are.
REGIONS = {4: (8, 223), 6: (24, 7267)}
SKEW = {4: 1, 6: 2}  # how unevenly prefixes are spread over those around them: 1 is evenly


@dataclass(frozen=True)
class Routes:
    """One table's routes.

    Attributes
    ----------
    family : int
        4 or 6.
    name : str
        What to call the table.
    networks : (N,) ndarray of uint32, host order; or (N, 16) ndarray of uint8, network order
        Sorted by network, then length; no two are equal.
    prefix_lens : (N,) ndarray of uint8
    hops : (N,) ndarray of uint32
        Below 2**15.
    """

    family: int
    name: str
    networks: NDArray[Any]
    prefix_lens: NDArray[np.uint8]
    hops: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.prefix_lens)

    def texts(self) -> list[str]:
        """The prefixes as text, in order."""
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        packed = (
            self.networks.astype(">u4").view(np.uint8).reshape(-1, 4) if self.family == 4 else self.networks
        )
        return [
            f"{socket.inet_ntop(kind, network.tobytes())}/{length}"
            for network, length in zip(packed, self.prefix_lens.tolist(), strict=True)
        ]


def _sorted(family: int, name: str, high: NDArray[np.uint64], low: NDArray[np.uint64], lens: Any) -> Routes:
    """Sort prefixes by network and length, and give each a hop by a hash of its rank."""
    order = np.lexsort((lens, low, high))
    high, low, lens = high[order], low[order], np.asarray(lens)[order].astype(np.uint8)
    rank = np.arange(len(lens), dtype=np.uint64)
    hops = (((rank + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(HOPS)
    networks: NDArray[Any] = (high >> np.uint64(32)).astype(np.uint32)
    if family == 6:
        networks = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    return Routes(family, name, networks, lens, hops.astype(np.uint32))


def read_routes(path: Path, family: int) -> Routes:
    """The prefixes of one family from a text file, gzipped or not, one a line."""
    kind, width = (socket.AF_INET, 4) if family == 4 else (socket.AF_INET6, 16)
    found: set[tuple[bytes, int]] = set()
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            text, _, length = line.partition("#")[0].strip().partition("/")
            if text and (":" in text) == (family == 6):
                try:
                    found.add((socket.inet_pton(kind, text).ljust(16, b"\0"), int(length or 8 * width)))
                except (OSError, ValueError):
                    raise ValueError(f"{path}: not an IPv{family} prefix: {line.strip()!r}") from None
    if not found:
        raise ValueError(f"{path}: has no IPv{family} prefix")
    packed = np.frombuffer(b"".join(network for network, _ in found), ">u8").reshape(-1, 2).astype(np.uint64)
    lens = np.array([length for _, length in found], np.uint8)
    return _sorted(family, f"{path.name}, IPv{family}", packed[:, 0], packed[:, 1], lens)


def _nearest(figures: dict[int, float], length: int) -> float:
    return figures[min(figures, key=lambda known: abs(known - length))]


def _regions(family: int, random: np.random.Generator) -> NDArray[np.uint64]:
    """Networks in use, upper 64 bits."""
    length, count = REGIONS[family]
    if family == 4:
        first = np.arange(1, 1 + count)
    else:  # the registries' /12s, and within them few blocks of 16 regions
        roots = np.array([0x200, 0x240, 0x260, 0x280, 0x2A0, 0x2C0]) << 12
        blocks = (roots[:, None] + np.arange(0, 1 << 12, 16)).ravel()
        blocks = random.choice(blocks, 620, replace=False)
        first = random.choice((blocks[:, None] + np.arange(16)).ravel(), count, replace=False)
    return first.astype(np.uint64) << np.uint64(64 - length)


class _Covered:
    """Which addresses, upper 64 bits, are in any of the prefixes."""

    def __init__(self, high: NDArray[np.uint64], lens: NDArray[np.uint64]) -> None:
        order = np.argsort(high, kind="stable")
        self._first = high[order]
        size = np.uint64(1) << (np.uint64(64) - np.minimum(lens[order], np.uint64(64)))
        self._last = np.maximum.accumulate(self._first + (size - np.uint64(1)))

    def __call__(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(self._first):
            return np.zeros(len(addresses), np.bool_)
        row = np.searchsorted(self._first, addresses, side="right")
        return (row > 0) & (addresses <= self._last[row - 1])


def synthetic_routes(family: int, share: float = 1.0) -> Routes:
    """A table as the module's head describes it, or a share of one; the same at every call."""
    random = np.random.default_rng([SEED, family])
    regions = _regions(family, random)
    weights = random.lognormal(0.0, 1.0, len(regions))
    weights /= weights.sum()
    high, low, lens = (np.empty(0, np.uint64) for _ in range(3))
    parents = np.empty(0, np.int64)  # rows, the most popular ones first
    for length, count in LENGTHS[family].items():
        wanted = max(1, round(count * share))
        step = 1 << max(64 - length, 0)
        found = np.empty(0, np.uint64)
        mean = 1 / (1 - _nearest(ADJACENT[family], length)) if length <= 64 else 1
        inside_share = _nearest(NESTED[family], length) if len(high) else 0.0
        covered = _Covered(high, lens)
        taken = 1.0  # share of the candidates that were good for something
        for nested, part in ((True, round(wanted * inside_share)), (False, wanted)):
            while len(found) < part:
                runs = max(256, round((part - len(found)) / mean / taken))
                if nested:
                    row = parents[(len(parents) * random.random(runs) ** SKEW[family]).astype(np.int64)]
                    start, inside = high[row], lens[row].astype(np.int64)
                else:
                    start, inside = random.choice(regions, runs, p=weights), np.full(runs, REGIONS[family][0])
                free = np.maximum(np.minimum(length, 64) - inside, 0)  # bits between parent and prefix
                start = start + (random.random(runs) * 2.0**free).astype(np.uint64) * np.uint64(step)
                start &= np.uint64(2**64 - step)
                members = random.geometric(1 / mean, runs)
                ordinal = np.arange(members.sum()) - np.repeat(np.cumsum(members) - members, members)
                more = np.repeat(start, members) + ordinal.astype(np.uint64) * np.uint64(step)
                more = more[(more < np.uint64(0xE0 << 56)) & (covered(more) == nested)]
                more = np.setdiff1d(more, found) if length <= 64 else more
                taken = max(len(more) / members.sum(), 1 / 64)
                found = np.concatenate([found, random.permutation(more)[: part - len(found)]])
        rest = np.zeros(wanted, np.uint64)
        if length > 64:
            rest = random.integers(0, 1 << 64, wanted, np.uint64) & np.uint64(2**64 - (1 << 128 - length))
        high, low = np.concatenate([high, found]), np.concatenate([low, rest])
        lens = np.concatenate([lens, np.full(wanted, length, np.uint64)])
        parents = np.insert(
            parents, random.integers(0, len(parents) + 1, wanted), np.arange(len(high) - wanted, len(high))
        )
    part = f", {share:.0%}" if share != 1 else ""
    return _sorted(family, f"synthetic full IPv{family} table{part}", high, low, lens.astype(np.int64))


def _columns(family: int, name: str, prefixes: Iterable[tuple[int, int]]) -> Routes:
    given = sorted(set(prefixes))
    shift = 96 if family == 4 else 0
    whole = [network << shift for network, _ in given]
    high = np.array([network >> 64 for network in whole], np.uint64)
    low = np.array([network & 2**64 - 1 for network in whole], np.uint64)
    return _sorted(family, name, high, low, np.array([length for _, length in given]))


def node_routes(family: int) -> Routes:
    """Routes of a kubenet node in a cluster of 400: the others' pods, its own, VNet, services, default and hosts."""
    bits, pods, host = (32, 24, 0x0AF0_0000) if family == 4 else (128, 64, 0xFD00_0001 << 96)
    base = 0x0AF4_0000 if family == 4 else 0xFD00_0244 << 96
    nodes = [(base + (i << bits - pods), pods) for i in range(NODES)]
    if family == 4:
        # default, VNet, its subnet, gateway, services, metadata service, wire server
        others = [(0, 0), (host, 12), (host, 16), (host + 1, 32), (0x0A00_0000, 16)]
        others += [(0xA9FE_A9FE, 32), (0xA83F_8110, 32)]
    else:
        # default, link-local, multicast, VNet, its subnet, gateway, services
        others = [(0, 0), (0xFE80 << 112, 64), (0xFF << 120, 8), (host, 48), (host, 64), (host + 1, 128)]
        others += [(0xFD00_0000 << 96, 108)]
    return _columns(family, f"node of {NODES}, IPv{family}", nodes + others)


def full_routes(family: int, path: Path | None = None, share: float = 1.0) -> Routes:
    """The full table: of a file if one is given, synthetic otherwise."""
    return read_routes(path, family) if path is not None else synthetic_routes(family, share)
