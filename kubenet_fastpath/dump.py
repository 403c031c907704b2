"""What dumps of kubectl and az held, and the prefixes in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .address import ipv4_prefix, prefix_text
from .errors import AddressError

__all__ = ["CIDR", "DUMPS", "Dump", "around", "inside", "is_prefix"]

DUMPS = ("Node", "Pod", "Service", "EndpointSlice", "ConfigMap")
CIDR = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}/\d{1,2}")


@dataclass
class Dump:
    """What dumps held, by kind; `skipped` and `notes` grow while it is read."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in DUMPS})
    aks: dict[str, Any] = field(default_factory=dict)
    vnet: dict[str, Any] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def is_prefix(text: Any) -> bool:
    try:
        ipv4_prefix(text)
    except (AddressError, TypeError):
        return False
    return True


def around(prefixes: list[str], longest: int = 24) -> str:
    """The longest prefix, up to a length, that holds all of them."""
    pairs = [ipv4_prefix(prefix) for prefix in prefixes]
    length = min(longest, *(n for _, n in pairs)) if pairs else longest
    while any((network ^ pairs[0][0]) >> 32 - length for network, _ in pairs):
        length -= 1
    return prefix_text(pairs[0][0] >> 32 - length << 32 - length, length)


def inside(prefix: str, spaces: Iterable[str]) -> bool:
    """Whether one of the prefixes holds this one."""
    network, length = ipv4_prefix(prefix)
    return any(length >= n and not (network ^ net) >> 32 - n for net, n in map(ipv4_prefix, spaces))
