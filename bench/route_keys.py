"""Addresses to look up: from all over, as routes are spread, as traffic is, one after another, always the same few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .route_tables import Routes

KEYS = 1 << 20  # addresses before a pattern repeats
ZIPF = 1.05  # exponent: traffic by prefix is somewhat steeper than 1 / rank
HOT = 16

Halves = NDArray[np.uint64]  # (N, 2): upper and lower half, IPv4 in the upper 32 bits


def _random(random: np.random.Generator, count: int) -> Halves:
    return random.integers(0, 1 << 64, (count, 2), np.uint64)


def _inside(routes: Routes, rows: NDArray[Any], random: np.random.Generator) -> Halves:
    """A random address inside each of the prefixes."""
    if routes.family == 4:
        high = routes.networks[rows].astype(np.uint64) << np.uint64(32)
        networks = np.stack([high, np.zeros(len(rows), np.uint64)], axis=1)
    else:
        networks = routes.networks[rows].view(">u8").astype(np.uint64)
    lens = routes.prefix_lens[rows].astype(np.int64)
    kept = np.clip(
        np.stack([lens, lens - 64], axis=1), 0, 64
    )  # upper bits of each half that are the network's
    noise = _random(random, len(rows))
    noise = np.where(kept >= 64, np.uint64(0), noise >> np.minimum(kept, 63).astype(np.uint64))
    return networks | noise


def uniform(routes: Routes, random: np.random.Generator) -> Halves:
    """Any address: most IPv6 ones are in no prefix."""
    return _random(random, KEYS)


def in_prefix(routes: Routes, random: np.random.Generator) -> Halves:
    """A random prefix, then a random address in it."""
    return _inside(routes, random.integers(0, len(routes), KEYS), random)


def zipf(routes: Routes, random: np.random.Generator) -> Halves:
    """A prefix by Zipf's law, popularity shuffled over the table, then a random address in it."""
    share = 1 / np.arange(1, len(routes) + 1) ** ZIPF
    rank = np.searchsorted(np.cumsum(share) / share.sum(), random.random(KEYS))
    return _inside(routes, random.permutation(len(routes))[np.minimum(rank, len(routes) - 1)], random)


def sequential(routes: Routes, random: np.random.Generator) -> Halves:
    """IPv4 addresses, or IPv6 /64s, one after another from a prefix in the middle of the table."""
    keys = np.repeat(_inside(routes, np.array([len(routes) // 2]), random), KEYS, axis=0)
    keys[:, 0] += np.arange(KEYS, dtype=np.uint64) << np.uint64(32 if routes.family == 4 else 0)
    return keys


def hot(routes: Routes, random: np.random.Generator) -> Halves:
    """Sixteen addresses over and over, in random order."""
    few = _inside(routes, random.integers(0, len(routes), HOT), random)
    return few[random.integers(0, HOT, KEYS)]


PATTERNS: dict[str, Callable[[Routes, np.random.Generator], Halves]] = {
    "uniform": uniform,
    "in-prefix": in_prefix,
    "Zipf": zipf,
    "sequential": sequential,
    "hot": hot,
}


def make_keys(routes: Routes, pattern: str) -> NDArray[Any]:
    """The pattern's addresses: (KEYS,) uint32 in host order, or (KEYS, 16) uint8 in network order."""
    random = np.random.default_rng([2028, routes.family, list(PATTERNS).index(pattern)])
    halves = PATTERNS[pattern](routes, random)
    if routes.family == 4:
        return (halves[:, 0] >> np.uint64(32)).astype(np.uint32)
    return halves.astype(">u8").view(np.uint8)
