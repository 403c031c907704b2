"""Whether what left the kernel's node and what left ours is the same, frame by frame and connection by connection."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from typing import Any

from golden_compare import wrong_checksums

Frames = list[tuple[str, bytes]]


def by_port(frames: Frames) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for port, frame in frames:
        found[port].append(frame)
    return dict(found)


def text(frame: bytes) -> str:
    return f"{frame[:14].hex()} {frame[14:34].hex()} {frame[34:].hex()}"


def untagged(frame: bytes) -> bytes:
    """The frame without its VLAN tags."""
    while frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
        frame = frame[:12] + frame[16:]
    return frame


def port_class(port: int) -> int:
    """In which of three ranges the search for a free port stays (nf_nat_l4proto_unique_tuple)."""
    return 0 if 1 <= port < 512 else 1 if 600 <= port < 1024 else 2 if port >= 1024 else 3


def made_by_timers(frames: Frames) -> Frames:
    """What came out of several timers, of which two may run in the same tick, in an order of its own."""
    return sorted(frames, key=lambda out: (out[0], _undrawn(out[1])))


def _undrawn(frame: bytes) -> bytes:
    """A frame without what hangs on a drawn identification: that of IPv6 may be quoted, and ICMPv6 sums it up."""
    if frame[12:14] != b"\x86\xdd":
        return frame[:18] + frame[26:]
    icmp = frame[20:21] == b"\x3a"
    at = _ident_at(frame, 62 if icmp else 14) or len(frame)
    plain = frame[:at] + frame[at + 4 :]
    return plain[:56] + plain[58:] if icmp else plain


def agree(kernel: Frames, ours: Frames, sent: bytes, ports: dict[int, int] | None = None) -> bool:
    """Whether the same frames left by the same ports, in the same order at each.

    Where our node does not draw as the kernel did, `ports` learns which source port of ours stands for which.
    """
    want, have = by_port(kernel), by_port(ours)
    return want.keys() == have.keys() and all(
        len(want[p]) == len(have[p])
        and all(same(k, o, sent, ports) for k, o in zip(want[p], have[p], strict=True))
        for p in want
    )


def same(kernel: bytes, ours: bytes, sent: bytes, ports: dict[int, int] | None = None) -> bool:
    """Whether two frames are one but for ids of packets that the node makes or cuts, the time of day, and `ports`."""
    if kernel == ours:
        return True
    if kernel[12:14] == b"\x86\xdd":
        return kernel == _with_ident(kernel, ours)
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
    _set_clock(a, b, 14)
    if a[23] == 1 and a[at] in (3, 4, 5, 11, 12) and _set_clock(a, b, at + 8):
        a[at + 2 : at + 4] = b[at + 2 : at + 4]
    if ports is not None and a[23] in (6, 17) and a[at : at + 2] not in (b[at : at + 2], sent[at : at + 2]):
        theirs, mine = int.from_bytes(a[at : at + 2], "big"), int.from_bytes(b[at : at + 2], "big")
        if port_class(theirs) != port_class(mine) or ports.setdefault(theirs, mine) != mine:
            return False
        if len(set(ports.values())) != len(ports):
            return False
        a[at : at + 2] = b[at : at + 2]
        check = at + (16 if a[23] == 6 else 6)
        a[check : check + 2] = b[check : check + 2]
    a[24:26] = b[24:26]
    return a == b


def _ident_at(frame: bytes, at: int) -> int | None:
    """Where the identification of an IPv6 packet is that begins at an offset, if that is a fragment."""
    kind, at = frame[at + 6] if len(frame) >= at + 40 else 59, at + 40
    while kind in (0, 43, 60) and len(frame) >= at + 8:
        kind, at = frame[at], at + (frame[at + 1] + 1) * 8
    return at + 4 if kind == 44 and len(frame) >= at + 8 else None


def _with_ident(kernel: bytes, ours: bytes) -> bytes:
    """Our frame with the identification that the kernel drew for a datagram that it cut, or that an error quotes."""
    if len(kernel) != len(ours):
        return ours
    made, found = bytearray(ours), _ident_at(ours, 14)
    if found is None and ours[20] == 58:
        found = _ident_at(ours, 62)
        if found is not None:  # RFC 1624: the checksum goes with it
            words = (
                struct.unpack("!HH", kernel[found : found + 4]),
                struct.unpack("!HH", ours[found : found + 4]),
            )
            total = (
                (~int.from_bytes(ours[56:58], "big") & 0xFFFF)
                + sum(words[0])
                + sum(~w & 0xFFFF for w in words[1])
            )
            total = (total & 0xFFFF) + (total >> 16)
            made[56:58] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    if found is not None:
        made[found : found + 4] = kernel[found : found + 4]
    return bytes(made)


def _set_clock(a: bytearray, b: bytearray, at: int) -> bool:
    """Take over the times in timestamp options of the IPv4 header at an offset; whether there are any."""
    end, i = min(at + (a[at] & 15) * 4, len(a)) if len(a) > at else 0, at + 20
    while i + 3 < end and a[i] != 0:
        if a[i] == 1:
            i += 1
            continue
        size = a[i + 1]
        if size < 2:
            break
        if a[i] == 68:
            apart = 4 if a[i + 3] & 15 == 0 else 8
            for slot in range(i + 4, min(i + size, end) - apart + 1, apart):
                a[slot + apart - 4 : slot + apart] = b[slot + apart - 4 : slot + apart]
            a[at + 10 : at + 12] = b[at + 10 : at + 12]
            return True
        i += size
    return False


def timeouts(listing: str) -> list[int]:
    """Seconds that `connections` have left, in the same order."""
    lines = sorted(listing.splitlines(), key=lambda line: str(connections(line)[0]))
    return [int(line.split()[4]) for line in lines]


def our_timeouts(entries: list[dict[str, Any]]) -> list[int]:
    """Likewise of `ours`."""
    return [entry["timeout"] for entry in sorted(entries, key=lambda entry: str(ours([entry])[0]))]


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
    if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 137:
        return frame[38:54]
    at = 14 + (frame[14] & 15) * 4 if len(frame) >= 34 else 0
    is_redirect = frame[12:14] == b"\x08\x00" and at < len(frame) and frame[23] == 1 and frame[at] == 5
    return frame[30:34] if is_redirect else None
