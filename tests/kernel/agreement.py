"""Whether what left the kernel's node and what left ours is the same, frame by frame and connection by connection."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from golden_compare import wrong_checksums

Frames = list[tuple[str, bytes]]


def by_port(frames: Frames) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for port, frame in frames:
        found[port].append(frame)
    return dict(found)


def agree(kernel: Frames, ours: Frames, sent: bytes) -> bool:
    """Whether the same frames left by the same ports, in the same order at each."""
    want, have = by_port(kernel), by_port(ours)
    return want.keys() == have.keys() and all(
        len(want[p]) == len(have[p]) and all(same(k, o, sent) for k, o in zip(want[p], have[p], strict=True))
        for p in want
    )


def same(kernel: bytes, ours: bytes, sent: bytes) -> bool:
    """Whether two frames are one but for the IP id of packets that the node makes, and the time of day."""
    if kernel == ours:
        return True
    if len(kernel) != len(ours) or kernel[12:14] != b"\x08\x00" or kernel[:14] != ours[:14]:
        return False
    if wrong_checksums(kernel, ["ip", "l4"]) != wrong_checksums(ours, ["ip", "l4"]):
        return False
    a, b = bytearray(kernel), bytearray(ours)
    if a[18:20] != sent[18:20]:  # made by the node
        a[18:20] = b[18:20]
    at = 14 + (a[14] & 15) * 4
    if a[23] == 1 and a[at] == 14:  # the time of day
        a[at + 2 : at + 4], a[at + 12 : at + 20] = b[at + 2 : at + 4], b[at + 12 : at + 20]
    a[24:26] = b[24:26]
    return a == b


def connections(listing: str) -> list[tuple[Any, ...]]:
    """`conntrack -L -o extended` in the form of `ours`."""
    found = []
    for line in listing.splitlines():
        words = line.split()
        proto = words[2]
        pairs = [(m[1], m[2]) for m in re.finditer(r"(\w+)=(\S+)", line)]
        sides: list[dict[str, str]] = [{}, {}]
        side = -1
        for name, value in pairs:
            if name == "src":
                side += 1
            if name not in ("mark", "use", "zone", "secctx"):
                sides[side][name] = value
        for which in sides:
            for name in ("src", "dst"):
                if f"{name}key" in which:  # GRE's, in hexadecimal
                    which[f"{name[0]}port"] = str(int(which.pop(f"{name}key"), 16))
        state = words[5] if proto == "tcp" else None
        status = tuple(sorted(re.findall(r"\[(\w+)\]", line)))
        found.append((proto, state, status, *(tuple(sorted(s.items())) for s in sides)))
    return sorted(found, key=str)


def ours(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The connections of `GoldenNode.conntrack`, to be compared."""
    found = []
    for entry in entries:
        sides = [tuple(sorted((k, str(v)) for k, v in entry[side].items())) for side in ("orig", "reply")]
        found.append((entry["proto"], entry.get("state"), tuple(sorted(entry["status"])), *sides))
    return sorted(found, key=str)


def told(frame: bytes) -> bytes | None:
    """Whom an ICMP redirect goes to."""
    is_redirect = frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[14 + (frame[14] & 15) * 4] == 5
    return frame[30:34] if is_redirect else None
