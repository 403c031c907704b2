"""RFC 791's and the kernel's rules for IPv4 options at a router, over lists of octets.

Offsets count from the header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

HEADER = 20
RECORD, STAMP, LOOSE, STRICT, ALERT, LABEL = 7, 68, 131, 137, 148, 134


class Malformed(Exception):
    """A parameter problem; its argument is the pointer."""


class SourceRoute(Exception):
    """The node does not follow it."""


@dataclass
class Router:
    """What a router writes into the options of one packet.

    `inward` is its address as the sender knows it, `outward` the one that the packet leaves by, `clock` the time in ms;
    `is_mine` says whether an address is one of the router's, or no host's at all.
    """

    inward: bytes
    outward: bytes
    clock: bytes
    is_mine: Callable[[bytes], bool]
    seen: set[int] = field(default_factory=set)
    slot: int | None = None  # of the recorded route

    def read(self, options: bytes) -> bytes:
        """The options of the packet that is sent on."""
        made = bytearray(options)
        at = 0
        while at < len(made):
            kind = made[at]
            if kind == 0:
                made[at:] = bytes(len(made) - at)
                break
            if kind == 1:
                at += 1
                continue
            room = len(made) - at
            if room < 2 or not 2 <= made[at + 1] <= room:
                raise Malformed(HEADER + at)
            size = made[at + 1]
            self._one(kind, made, at, size)
            at += size
        if {LOOSE, STRICT} & self.seen:
            raise SourceRoute
        if self.slot is not None:
            made[self.slot : self.slot + 4] = self.outward
        return bytes(made)

    def _one(self, kind: int, made: bytearray, at: int, size: int) -> None:
        def check(right: bool, offset: int) -> None:
            if not right:
                raise Malformed(HEADER + at + offset)

        if kind in (RECORD, STAMP, LABEL):
            check(kind not in self.seen, 0)
        if kind in (LOOSE, STRICT):
            check(size >= 3, 1)
            check(made[at + 2] >= 4, 2)
            check(not {LOOSE, STRICT} & self.seen, 0)
        elif kind == RECORD:
            check(size >= 3, 1)
            pointer = made[at + 2]
            check(pointer >= 4, 2)
            if pointer <= size:
                check(pointer + 3 <= size, 2)
                self.slot = at + pointer - 1
                made[at + 2] += 4
        elif kind == STAMP:
            check(size >= 4, 1)
            self._stamp(made, at, size, check)
        elif kind == ALERT:
            check(size >= 4, 1)
        elif kind == LABEL:
            check(size >= 8, 1)
            check(False, 2)
        self.seen.add(kind)

    def _stamp(self, made: bytearray, at: int, size: int, check: Callable[[bool, int], None]) -> None:
        pointer, overflow, flag = made[at + 2], made[at + 3] >> 4, made[at + 3] & 15
        check(pointer >= 5, 2)
        if pointer > size:
            if flag != 3:
                check(overflow < 15, 3)
                made[at + 3] += 16
            return
        check(pointer + (7 if flag in (1, 3) else 3) <= size, 2)
        slot = at + pointer - 1
        if flag == 0:
            made[slot : slot + 4] = self.clock
            made[at + 2] += 4
        elif flag == 1:
            made[slot : slot + 8] = self.inward + self.clock
            made[at + 2] += 8
        elif flag == 3 and self.is_mine(bytes(made[slot : slot + 4])):
            made[slot + 4 : slot + 8] = self.clock
            made[at + 2] += 8
