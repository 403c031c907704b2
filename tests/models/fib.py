"""Routes as a dict; the longest match is found by looking at all of them."""

from __future__ import annotations

Prefix = tuple[int, int]  # network, length


def mask(length: int) -> int:
    return (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF


def text(prefix: Prefix) -> str:
    network, length = prefix
    return ".".join(str(network >> shift & 255) for shift in (24, 16, 8, 0)) + f"/{length}"


def covers(outer: Prefix, inner: Prefix) -> bool:
    return outer[1] <= inner[1] and inner[0] & mask(outer[1]) == outer[0]


class Routes(dict[Prefix, int]):
    """Prefix -> next hop."""

    def longest(self, address: int) -> tuple[Prefix, int] | None:
        matching = [prefix for prefix in self if covers(prefix, (address, 32))]
        if not matching:
            return None
        best = max(matching, key=lambda prefix: prefix[1])
        return best, self[best]

    def covering(self, prefix: Prefix) -> list[tuple[str, int]]:
        return [(text(p), self[p]) for p in sorted(self, key=lambda p: p[1]) if covers(p, prefix)]

    def covered(self, prefix: Prefix) -> list[tuple[str, int]]:
        return [(text(p), self[p]) for p in sorted(self) if covers(prefix, p)]
